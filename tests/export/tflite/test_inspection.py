import keras
import pytest
from keras import layers

from keras_fmm import export
from keras_fmm.layers import SqueezeExcite
from tests.export import toys


def test_counts_what_the_model_has(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="first", bias_initializer="ones")(inputs)
    x = keras.ops.sin(x)
    model = keras.Model(inputs, layers.Dense(4, bias_initializer="ones")(layers.Flatten()(x)))
    path = export.to_tflite(model, tmp_path / "toy.tflite")
    found = export.inspect(path)
    assert [each.name for each in found.operators] == [
        "CONV_2D",
        "SIN",
        "RESHAPE",
        "FULLY_CONNECTED",
    ]
    assert "first" in found.operators[0].place
    assert found.operators[0].shape == (1, 6, 6, 6)
    assert found.inputs[0].shape == (1, 8, 8, 3)
    assert found.outputs[0].shape == (1, 4)
    assert found.inputs[0].scale is found.inputs[0].zero_point is None
    # Kernels and biases, 4 bytes each.
    assert found.weight_bytes["float32"] == 4 * model.count_params()
    assert found.activation_bytes == 4 * 6 * 6 * 6
    assert found.file_bytes == path.stat().st_size
    table = str(found)
    assert "CONV_2D                  float32      1       1" in table
    assert f"XNNPACK takes {4 - len(found.slow)} of 4 operators" in table


@pytest.mark.slow_on_tensorflow
def test_says_what_the_fast_kernels_leave(tmp_path):
    # A kernel that is not constant is none that they take.
    inputs = keras.Input((8, 8, 3))
    kernel = layers.Reshape((3, 3, 3, 4))(layers.Dense(108)(layers.GlobalMaxPooling2D()(inputs)))
    outputs = layers.Lambda(lambda pair: keras.ops.conv(pair[0], pair[1][0]))([inputs, kernel])
    model = keras.Model(inputs, layers.ReLU()(outputs))
    found = export.inspect(export.to_tflite(model, tmp_path / "toy.tflite"))
    assert "CONV_2D" in [each.name for each in found.slow]
    assert found.parts >= 1
    whole = export.inspect(export.to_tflite(toys.cnn(), tmp_path / "whole.tflite"))
    assert whole.slow == ()
    assert whole.parts == 1


def test_sizes_that_are_open_stay_open(tmp_path):
    path = export.to_tflite(toys.cnn(size=None), tmp_path / "toy.tflite", batch_size=None)
    found = export.inspect(path)
    assert found.inputs[0].shape == (-1, -1, -1, 3)
    assert found.activation_bytes is None


def test_the_mean_of_a_large_map_is_one_operator(tmp_path):
    # In training and in graphs of other batches it is two, which is faster there.
    inputs = keras.Input((64, 64, 32))
    model = keras.Model(inputs, SqueezeExcite()(inputs))
    path = export.to_tflite(model, tmp_path / "gate.tflite")
    names = [each.name for each in export.inspect(path).operators]
    assert names.count("MEAN") == 1
    assert "SUM" not in names
