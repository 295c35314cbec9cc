import keras
import numpy as np
import pytest

from keras_fmm import layers


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 3, 5, 1), (3, 4)])
def test_is_the_product(shape):
    branch, shortcut = np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")
    np.testing.assert_allclose(
        layers.MultiplicativeResidual()([branch, shortcut]), branch * shortcut
    )


@pytest.mark.parametrize(
    ("branch", "shortcut"), [((2, 4, 4, 3), (2, 4, 4, 1)), ((2, 4, 4, 3), (4, 3)), ((2, 3), (1, 3))]
)
def test_refuses_shapes_that_would_broadcast(branch, shortcut):
    message = r"must have one shape. Received: input_shape=.*Project the shortcut"
    inputs = [np.ones(branch), np.ones(shortcut)]
    with pytest.raises(ValueError, match=message):
        layers.MultiplicativeResidual()(inputs)
    layer = layers.MultiplicativeResidual()
    layer.build([(None,) * len(branch)] * 2)
    with pytest.raises(ValueError, match=message):
        layer(inputs)


def test_unknown_sizes_may_turn_out_equal():
    a, b = keras.Input((None, 4, 3)), keras.Input((4, None, 3))
    model = keras.Model([a, b], layers.MultiplicativeResidual()([a, b]))
    x = np.full((1, 4, 4, 3), 2.0, "float32")
    np.testing.assert_array_equal(model([x, x]), x * x)


@pytest.mark.parametrize("inputs", [[np.ones((1, 2))] * 3, [np.ones((1, 2))], np.ones((2, 2))])
def test_refuses_anything_but_two_tensors(inputs):
    with pytest.raises(ValueError, match=r"called on a list of two tensors, \[branch, shortcut\]"):
        layers.MultiplicativeResidual()(inputs)


def test_multiply_adds_by_hand():
    assert layers.MultiplicativeResidual().multiply_adds([(None, 3, 5, 8)] * 2) == 120
