import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm.input_range import scaling_layer, scaling_problem


def sequential(*parts, **options):
    return keras.Sequential([keras.Input((4, 4, 1), **options), *parts])


def shared(layer):
    for _ in range(2):
        inputs = keras.Input((4, 4, 1))
        model = keras.Model(inputs, layers.Flatten()(layer(inputs)))
    return model


def behind_a_branch(layer):
    inputs = keras.Input((4, 4, 1))
    return keras.Model(inputs, layers.Concatenate()([layers.Conv2D(2, 1)(inputs), layer(inputs)]))


MODELS = {
    "functional": lambda layer: keras.Model(x := keras.Input((4, 4, 1)), layer(x)),
    "sequential": lambda layer: sequential(layer, layers.Flatten()),
    "shared": shared,
    "a branch": behind_a_branch,
    "nested": lambda layer: sequential(sequential(layer), layers.Flatten()),
    "nested deeper": lambda layer: sequential(sequential(sequential(layer))),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "kind", [lambda: layers.Rescaling(1 / 255), lambda: layers.Normalization(mean=9, variance=100)]
)
def test_the_layer_that_scales_what_goes_in(name, kind):
    layer = kind()
    model = MODELS[name](layer)
    assert scaling_layer(model) is layer
    assert "which the model's layer" in scaling_problem(model, np.eye(4)[None, ..., None] / 255)


@pytest.mark.parametrize(
    "model",
    [
        sequential(layers.Conv2D(2, 3)),
        sequential(layers.ReLU(), layers.Rescaling(1 / 255)),
        sequential(sequential(layers.ReLU()), sequential(layers.Rescaling(1 / 255))),
    ],
    ids=["none", "behind another", "in a later model"],
)
def test_a_model_that_does_not_begin_with_one(model):
    assert scaling_layer(model) is None
    assert scaling_problem(model, np.eye(4)[None, ..., None] / 255) is None
