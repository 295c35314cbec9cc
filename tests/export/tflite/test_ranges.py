"""The ranges that int8 files are cut from."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from keras_fmm import export
from keras_fmm.export.tflite import metadata
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


class Scaled(layers.Layer):
    """Multiplies by a scalar that hangs on the inputs."""

    def call(self, inputs):
        return inputs * (2 + keras.ops.mean(inputs))


class Root(layers.Layer):
    def call(self, inputs):
        return keras.ops.sqrt(inputs)


@pytest.mark.slow_on_tensorflow
def test_a_product_in_place_does_not_widen_the_range_before_it(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    gain = layers.Rescaling(1.0, 50.0)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    model = keras.Model(inputs, layers.Multiply()([x, gain]))
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    features = np.asarray(keras.Model(inputs, x)(IMAGES))
    assert scales(path)["CONV_2D"] == pytest.approx(np.ptp(features) / 255, rel=1e-3)
    assert scales(path)["MUL"] > 20 * scales(path)["CONV_2D"]


@pytest.mark.parametrize("batch_size", [1, 16, None])
def test_a_rare_large_value_is_kept(tmp_path, batch_size):
    inputs = keras.Input((24, 24, 1))
    x = layers.Conv2D(2, 1, kernel_initializer="ones")(inputs)
    model = keras.Model(inputs, layers.Flatten()(layers.MaxPooling2D(24)(x)))
    images = np.random.default_rng(0).uniform(0, 0.1, (40, 24, 24, 1))
    images[np.arange(0, 40, 2), np.arange(0, 40, 2) % 24, 5] = 10
    path = export.to_tflite(
        model,
        tmp_path / "toy.tflite",
        quantization="int8",
        representative_data=images,
        batch_size=batch_size,
    )
    assert export.run_tflite(path, images).max() == pytest.approx(10, rel=0.01)


@pytest.mark.slow_on_tensorflow
def test_a_few_images_that_reach_far_do_not_take_the_steps_of_all_others(tmp_path):
    inputs = keras.Input((8, 8, 3))
    # The square of what goes in, so that one image of 120 reaches a hundred times as far.
    x = layers.Conv2D(4, 3)(layers.Multiply()([inputs, inputs]))
    scores = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Activation("softmax")(layers.Dense(3)(scores)))
    images = np.abs(toys.images(120))
    images[0] *= 10
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=images
    )
    features = np.asarray(keras.Model(inputs, x)(images))
    assert scales(path)["CONV_2D"] < np.ptp(features) / 255 / 10


def test_a_scalar_between_the_layers_is_taken(tmp_path):
    inputs = keras.Input((8, 8, 3))
    scaled = Scaled()(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(scaled)))
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    assert "MUL" in scales(path)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ("int8", "between the layers must be finite.*Received: nan to nan"),
        ("int16x8", "between the layers must be finite.*Received.*with no number at"),
        ("dynamic", "Received.*as Keras gives NaN"),
    ],
)
def test_what_is_not_finite_between_the_layers_is_refused(tmp_path, quantization, message):
    inputs = keras.Input((8, 8, 3))
    nowhere = layers.Conv2D(2, 1, bias_initializer=keras.initializers.Constant(np.nan))
    # int16x8 has no root.
    model = keras.Model(inputs, nowhere(inputs if quantization == "int16x8" else Root()(inputs)))
    with pytest.raises(ValueError, match=message):
        export.to_tflite(
            model, tmp_path / "toy.tflite", quantization=quantization, representative_data=IMAGES
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow_on_tensorflow
def test_roots_and_quotients_keep_their_ranges(tmp_path):
    # Their outputs are not in the units of their inputs.
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, kernel_initializer=keras.initializers.RandomNormal(stddev=10))(inputs)
    model = keras.Model(inputs, layers.LayerNormalization()(x))
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    expected = np.asarray(model(IMAGES))
    assert np.sqrt(np.mean((export.run_tflite(path, IMAGES) - expected) ** 2)) < 0.03


@pytest.mark.parametrize("quantization", ["int8", "int16x8"])
def test_a_loop_is_refused_and_does_not_end_the_process(tmp_path, quantization):
    inputs = keras.Input((8, 8, 3))
    rows = layers.Reshape((8, 24))(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GRU(3)(rows)))
    with pytest.raises(ValueError, match="cannot look into a loop.*Received.*unroll=True"):
        export.to_tflite(
            model, tmp_path / "toy.tflite", quantization=quantization, representative_data=IMAGES
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow_on_tensorflow
def test_what_a_sigmoid_takes_is_cut_to_where_it_changes(tmp_path):
    inputs = keras.Input((8, 8, 3))
    means = layers.GlobalAveragePooling2D()(inputs)
    far = {"kernel_initializer": keras.initializers.RandomNormal(stddev=400, seed=1)}
    scores = layers.Add()([layers.Dense(4, **far)(means), layers.Dense(4, **far)(means)])
    gate = layers.Reshape((1, 1, 4))(layers.Activation("sigmoid")(scores))
    model = keras.Model(inputs, layers.Multiply()([layers.Conv2D(4, 3)(inputs), gate]))
    assert np.abs(keras.Model(inputs, scores)(IMAGES)).max() > 20
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    found = scales(path)
    # Of -log(511) to log(511).
    assert found["ADD"] == pytest.approx(2 * np.log(511) / 255, rel=1e-3)
