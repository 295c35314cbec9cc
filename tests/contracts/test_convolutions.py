"""What everything must do that stands in a convolution's place."""

import functools

import keras
import numpy as np
import pytest

from keras_fmm import layers, protocols
from tests.support import calls, gradients, weights
from tests.support.layer_table import FIRST_ROWS, over, rows_of

PLACE = {"filters": 6, "kernel_size": 3, "padding": "same"}


def named_weights(layer):
    return dict(zip(weights.names(layer), layer.get_weights(), strict=True))


@over(rows_of("convolution", rows=FIRST_ROWS))
@pytest.mark.parametrize(("strides", "use_bias"), [(1, False), (2, True), ((2, 3), False)])
def test_takes_a_convolutions_place(row, strides, use_bias):
    place = {**PLACE, "strides": strides, "use_bias": use_bias}
    own = {key: value for key, value in row.arguments.items() if key not in place}
    layer = layers.get_convolution(functools.partial(row.layer, **own))(**place, name="place")
    assert layer.name == "place"
    shape = (2, 7, 6, row.input_shape[3])
    expected = keras.layers.Conv2D(**place).compute_output_shape(shape)
    assert tuple(layer.compute_output_shape(shape)) == expected
    assert tuple(layer(keras.KerasTensor(shape)).shape) == expected
    # With a bias it has one weight more, of a number for each filter.
    kind = [weight.shape for name, weight in named_weights(layer).items() if name == "bias"]
    assert kind == ([(6,)] if use_bias else [])


@over(rows_of("convolution"))
def test_starts_as_the_convolution_that_it_replaces_and_learns(row):
    layer, config = row.make_built(), row.make().get_config()
    if not isinstance(layer, protocols.ReplacesConvolution):
        pytest.skip("learns from new weights")
    shared = keras.layers.Conv2D(1, 1).get_config().keys() & config.keys()
    plain = keras.layers.Conv2D(**{key: config[key] for key in shared})
    plain.build(row.input_shape)
    for each in (layer, plain):
        weights.randomise(each, positive=True)
    layer.start_as_convolution(*plain.get_weights())
    inputs = row.example()
    for outputs in calls.of_layer(layer, inputs, {"training": False}, {"training": True}):
        np.testing.assert_allclose(outputs, plain(inputs), rtol=1e-4, atol=1e-4)
    for name in row.zeros:
        assert not named_weights(layer)[name].any()
    cotangent = np.ones(layer.compute_output_shape(inputs.shape), "float32")
    _, *found = gradients.of_layer(layer, abs(inputs), cotangent)
    paths = [variable.path.split("/", 1)[1] for variable in layer.trainable_variables]
    moved = {path for path, x in zip(paths, found, strict=True) if np.abs(x).max() > 1e-5}
    assert moved == {"kernel", *(["bias"] if len(plain.weights) > 1 else []), *row.zeros}
