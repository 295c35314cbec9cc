"""The ranges that int8 files are cut from."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from keras_fmm import export
from keras_fmm.export import metadata, ranges
from tests.export import toys

IMAGES = toys.images(40)


def scales(path):
    """Returns the step of each operator's integers by the operator's name."""
    content, _ = metadata.split(path.read_bytes())
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    return {
        node["op_name"]: tensors[int(node["outputs"][0])]["quantization"][0]
        for node in interpreter._get_ops_details()
    }


def test_a_product_in_place_does_not_widen_the_range_before_it(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    gain = layers.Rescaling(1.0, 50.0)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    model = keras.Model(inputs, layers.Multiply()([x, gain]))
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    features = np.asarray(keras.Model(inputs, x)(IMAGES))
    assert scales(path)["CONV_2D"] == pytest.approx(np.ptp(features) / 255, rel=0.35)
    assert scales(path)["MUL"] > 20 * scales(path)["CONV_2D"]


def test_a_range_is_cut_where_the_error_is_least():
    even = np.random.default_rng(0).uniform(0, 1, 100_000)
    assert ranges._best_part(0.0, 1.0, even) == 1.0
    # One large value in so many does not make all others coarse.
    values = np.append(even, 4.0)
    part = ranges._best_part(0.0, 4.0, values)
    assert 0.5 < part < 1.0

    def literally(part):
        step, error = part * 4.0 / 255, 0.0
        for value in values.tolist():
            integer = round(min(max(value, 0.0), part * 4.0) / step)
            error += (integer * step - value) ** 2
        return error

    assert literally(part) < min(literally(other) for other in (1.0, part - 0.05, part + 0.05))
    assert ranges._best_part(0.0, 0.0, np.zeros(5)) == 1.0


def test_scores_keep_their_extremes(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    # One image of the hundred is far from all others.
    images = np.concatenate([np.repeat(IMAGES, 3, axis=0), 30 * IMAGES[:1]])
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=images
    )
    scores = np.asarray(model(images))
    span = max(scores.max(), 0) - min(scores.min(), 0)
    assert scales(path)["FULLY_CONNECTED"] == pytest.approx(span / 255, rel=0.02)
