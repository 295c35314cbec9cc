"""The last products of an int8 file give floats."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import export
from tests.export import toys

IMAGES = toys.images(40)


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_two_scores_that_are_close_are_told_apart_where_others_are_far(tmp_path, activation):
    inputs = keras.Input((8, 8, 3))
    product = layers.Dense(3, activation=activation)
    model = keras.Model(inputs, product(layers.GlobalAveragePooling2D()(inputs)))
    # A step of eight bits would be 0.4, and the first two differ by less for most images.
    product.kernel.assign([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    product.bias.assign([0, 0, -100])
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    expected = np.asarray(model(IMAGES)).argmax(axis=-1)
    assert set(expected) == {0, 1}
    assert np.mean(export.run_tflite(path, IMAGES).argmax(axis=-1) == expected) > 0.9
    found = export.inspect(path)
    assert [each.dtype for each in found.operators if each.name == "FULLY_CONNECTED"] == ["float32"]
    assert set(found.weight_bytes) >= {"int8"}
    if activation is None:
        arguments = {"representative_data": IMAGES, "io_dtype": "int8"}
        export.to_tflite(model, path, quantization="int8", **arguments)
        assert {operator.dtype for operator in export.inspect(path).operators} == {"int8"}
