"""A quantized file that says something else than the model does not count as written."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import export
from tests.export import toys

IMAGES = toys.images(40)


def test_a_file_that_says_something_else_is_refused(tmp_path):
    # A product that is used twice has its bias in the first one's scale in int16x8, a fault of
    # TensorFlow's converter. Layers of this package know; a user's may not.
    inputs = keras.Input((8, 8, 3))
    product = layers.Dense(4, bias_initializer="ones")
    x = layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, product(x) + product(x / 100))
    arguments = {"representative_data": IMAGES, "path": tmp_path / "toy.tflite"}
    with pytest.raises(ValueError, match="outputs are off by"):
        export.to_tflite(model, quantization="int16x8", **arguments)
    assert list(tmp_path.iterdir()) == []
    # In int8 the bias is in its own scale, and the file is right.
    path = export.to_tflite(model, quantization="int8", **arguments)
    expected = np.asarray(model(IMAGES))
    np.testing.assert_allclose(
        export.run_tflite(path, IMAGES), expected, atol=0.04 * np.ptp(expected)
    )


@pytest.mark.parametrize(("classes", "wanted"), [(10, {"min_agreement": 0.99}), (1000, {})])
def test_probabilities_of_other_classes_are_refused(tmp_path, classes, wanted):
    inputs = keras.Input((8, 8, 3))
    biases = keras.initializers.RandomNormal(stddev=2, seed=0)
    product = layers.Dense(classes, bias_initializer=biases)
    x = layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, layers.Softmax()(product(10 * x) + product(x / 100)))
    arguments = {"quantization": "int16x8", "representative_data": IMAGES}
    with pytest.raises(ValueError, match="must say about what the model says.*on 40 of the images"):
        export.to_tflite(model, tmp_path / "toy.tflite", **arguments, **wanted)
    assert list(tmp_path.iterdir()) == []


def test_untrained_scores_are_no_reason_to_refuse(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1000, activation="softmax")]
    )
    model.layers[-1].kernel.assign(model.layers[-1].kernel / 100)
    export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
