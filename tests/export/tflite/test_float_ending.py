"""The last products of an int8 file give floats."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import export
from tests.export import toys

IMAGES = toys.images(40)


@pytest.mark.slow_on_tensorflow
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
    toys.assert_nothing_is_unused(path)
    found = export.inspect(path)
    assert [each.dtype for each in found.operators if each.name == "FULLY_CONNECTED"] == ["float32"]
    assert set(found.weight_bytes) >= {"int8"}
    if activation is None:
        arguments = {"representative_data": IMAGES, "io_dtype": "int8"}
        export.to_tflite(model, path, quantization="int8", **arguments)
        assert {operator.dtype for operator in export.inspect(path).operators} == {"int8"}


@pytest.mark.slow_on_tensorflow
def test_each_of_several_outputs_gives_floats_and_progress_is_shown_on_request(tmp_path, capsys):
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(inputs)
    heads = {"scores": layers.Dense(3, activation="softmax")(x), "box": layers.Dense(4)(x)}
    # What is looked at elsewhere too stays as it is, and so does what follows no product.
    between = layers.Dense(5)(x)
    rest = {"between": between, "behind": layers.Dense(2)(between), "pooled": x}
    model = keras.Model(inputs, {**heads, **rest})
    path = export.to_tflite(
        model,
        tmp_path / "toy.tflite",
        quantization="int8",
        representative_data=IMAGES,
        verbose=1,
    )
    # Each image is looked at five times; the trial is a step too. (Keras skips what is too fast.)
    assert f"{5 * len(IMAGES) + 1}/{5 * len(IMAGES) + 1}" in capsys.readouterr().out
    found = [each for each in export.inspect(path).operators if each.name == "FULLY_CONNECTED"]
    assert {each.shape: each.dtype for each in found} == {
        (1, 3): "float32",
        (1, 4): "float32",
        (1, 5): "int8",
        (1, 2): "float32",
    }
    outputs, expected = export.run_tflite(path, IMAGES), model(IMAGES)
    for name, values in expected.items():
        values = np.asarray(values)
        np.testing.assert_allclose(outputs[name], values, atol=0.04 * np.ptp(values))
