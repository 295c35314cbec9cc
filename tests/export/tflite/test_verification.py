"""A quantized file that says something else than the model does not count as written."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import export
from keras_fmm.export.tflite import litert, verification
from keras_fmm.layers import SpatialAttention
from tests.export import toys

IMAGES = toys.images(40)


def far_from_zero(offset, **outputs):
    """Returns a model of images that between the layers are this far from zero.

    Their range holds zero, so that a step of int8 is a 255th of the offset.
    """
    inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D(8)(layers.Rescaling(1.0, offset)(inputs))
    x = layers.Flatten()(layers.Rescaling(5.0, -5 * offset - 10)(x))
    x = layers.Dense(3, kernel_initializer="identity")(x)
    return keras.Model(
        inputs, {"far": layers.Softmax()(x), **{n: f(x) for n, f in outputs.items()}}
    )


@pytest.mark.slow_on_tensorflow
def test_a_file_that_says_something_else_is_refused(tmp_path):
    model = far_from_zero(3000.0)
    arguments = {"representative_data": IMAGES, "path": tmp_path / "toy.tflite"}
    rule = "must say about what the model says.*on 40 of the images"
    with pytest.raises(ValueError, match=rule):
        export.to_tflite(model, quantization="int8", **arguments, min_agreement=0.0)
    assert list(tmp_path.iterdir()) == []
    # Steps of 16 bits are fine enough.
    export.to_tflite(model, quantization="int16x8", **arguments)


def test_a_product_that_is_called_twice_has_its_bias_in_both_in_int16x8(tmp_path):
    # In the files of TensorFlow's converter it is in the first one's scale in both.
    inputs = keras.Input((8, 8, 3))
    product = layers.Dense(4, bias_initializer="ones")
    x = layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, product(x) + product(x / 100))
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int16x8", representative_data=IMAGES
    )
    expected = np.asarray(model(IMAGES))
    np.testing.assert_allclose(
        export.run_tflite(path, IMAGES), expected, atol=0.02 * np.ptp(expected)
    )


def test_untrained_scores_are_no_reason_to_refuse(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1000, activation="softmax")]
    )
    model.layers[-1].kernel.assign(model.layers[-1].kernel / 100)
    export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )


@pytest.mark.slow_on_tensorflow
def test_a_coarse_file_is_written_with_a_warning_and_refused_on_request(tmp_path):
    model = far_from_zero(100.0, near=layers.Dense(4))
    arguments = {"quantization": "int8", "representative_data": IMAGES}
    path = tmp_path / "toy.tflite"
    with pytest.warns(UserWarning, match=r"outputs 'far' .* on 40 of the images.*float16"):
        export.to_tflite(model, path, **arguments)
    path.unlink()
    with pytest.raises(ValueError, match="outputs 'far' name the class of Keras for .* less than"):
        export.to_tflite(model, path, **arguments, min_agreement=0.99)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow_on_tensorflow
def test_the_agreement_of_logits_is_measured_beside_an_attention_map(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = SpatialAttention(kernel_size=3, name="gate")(layers.Conv2D(4, 3)(inputs))
    x = layers.Flatten()(x)
    # Two classes that differ by less than the rounding of the weights.
    model = keras.Model(inputs, layers.Dense(2)(x))
    kernel = np.random.default_rng(0).normal(size=model.layers[-1].kernel.shape)
    kernel[:, 1] = kernel[:, 0] + kernel[:, 1] / 1000
    model.layers[-1].kernel.assign(kernel)
    arguments = {"quantization": "int8", "representative_data": IMAGES, "attention_map": "gate"}
    path = tmp_path / "toy.tflite"
    with pytest.raises(ValueError, match="outputs 'dense.*' name the class of Keras for .* less"):
        export.to_tflite(model, path, **arguments, min_agreement=1.0)
    assert export.to_tflite(model, path, **arguments, min_agreement=0.0) == path


CLASSES = np.eye(10)[np.arange(40) % 10] * 0.8 + 0.02


@pytest.mark.parametrize(
    ("expected", "found", "said"),
    [
        (CLASSES, np.where(CLASSES > 0.5, np.nan, CLASSES), "not all finite"),
        (CLASSES, np.roll(CLASSES, 1, axis=1), "little better than chance"),
        (CLASSES, CLASSES[:1].repeat(40, axis=0), "the same for all images"),
        (np.arange(40.0)[:, None], np.full((40, 1), 20.0), "the same for all images"),
        (np.arange(40.0)[:, None], -np.arange(40.0)[:, None], "off by"),
    ],
)
def test_what_says_nothing_of_the_model_is_broken(expected, found, said):
    finding = verification._finding(expected, found, 0.0, None)
    assert finding.is_broken
    assert said in finding.text
    assert verification._finding(expected, expected + 1e-3, 0.0, None).is_expected


def test_outputs_next_to_zero_say_nothing():
    # As of an untrained MobileNet.
    outputs = np.arange(40.0)[:, None] * 1e-18
    assert verification._finding(outputs, np.zeros_like(outputs), 0.0, None).is_expected


def test_a_process_that_dies_of_a_file_is_not_this_one(tmp_path, monkeypatch):
    monkeypatch.setattr(litert, "_TRIAL", "import os; os.abort()")
    model = toys.cnn()
    with pytest.raises(ValueError, match="must run in LiteRT.*ends the process, by signal 6"):
        export.to_tflite(
            model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "quantization", "data"),
    [
        (1.5, "int8", IMAGES),
        ("a", "int8", IMAGES),
        (0.5, "float16", IMAGES),
        (0.5, "dynamic", None),
    ],
)
def test_an_agreement_that_cannot_be_asked_for_is_refused(tmp_path, value, quantization, data):
    with pytest.raises((TypeError, ValueError), match="`min_agreement`.*Received"):
        export.to_tflite(
            toys.cnn(),
            tmp_path / "toy.tflite",
            quantization=quantization,
            representative_data=data,
            min_agreement=value,
        )
