"""The images that quantized files' ranges are measured on: in which form, and which are refused."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import export
from keras_fmm.export.tflite.calibration import checked_images
from tests.export import toys

IMAGES = toys.images(40)


def pipeline(*arrays):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0]).batch(7)


@pytest.mark.parametrize(
    "data",
    [
        lambda: IMAGES.astype("float64"),
        lambda: pipeline(IMAGES),
        lambda: pipeline(IMAGES, np.zeros(len(IMAGES))),
        lambda: (IMAGES[start : start + 9] for start in range(0, len(IMAGES), 9)),
        lambda: lambda: ([image[None]] for image in IMAGES),
        lambda: [IMAGES[:30], IMAGES[30:]],
    ],
    ids=["array", "pipeline", "labels", "generator", "function", "list"],
)
def test_images_in_any_form_are_the_same_images(data):
    found = checked_images(toys.cnn(), "int8", data())
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, IMAGES)


def endless():
    while True:
        yield IMAGES


def test_an_endless_generator_ends():
    assert len(checked_images(toys.cnn(), "int8", endless())) == 500


@pytest.mark.parametrize("quantization", [None, "float16"])
def test_where_no_images_are_needed_they_are_not_looked_at(quantization):
    assert checked_images(toys.cnn(), quantization, object()) is None


def first(layer, size=8):
    """A model that begins with a layer."""
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, layers.Conv2D(2, 3)(layer(inputs)))


DARK = np.random.default_rng(0).integers(0, 14, (9, 8, 8, 3), "uint8")
PEAKS = np.zeros((9, 8, 8, 3))
PEAKS[:, 0, 0, 0] = 3


@pytest.mark.parametrize(
    ("scaling", "images"),
    [(layers.Rescaling(1 / 255), DARK), (layers.Normalization(mean=0.1, variance=0.01), PEAKS)],
    ids=["dark", "peaks"],
)
def test_unusual_images_are_taken(scaling, images):
    np.testing.assert_array_equal(checked_images(first(scaling), "int8", images), images)


def test_a_layer_of_another_model_too():
    layer = layers.BatchNormalization()
    for _ in range(2):
        inputs = keras.Input((8, 8, 3))
        model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    # Never trained, it met no images.
    np.testing.assert_array_equal(checked_images(model, "int8", 255 * IMAGES), 255 * IMAGES)
    layer.moving_mean.assign([0.1, 0.2, 0.1])
    np.testing.assert_array_equal(checked_images(model, "int8", IMAGES), IMAGES)
    with pytest.raises(ValueError, match="the variance that the layer .* met in training"):
        checked_images(model, "int8", 255 * IMAGES)


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), "uint8")
BARE = first(layers.RandomFlip())
RESCALED = first(layers.Rescaling(1 / 255))


@pytest.mark.parametrize(
    ("model", "data", "kind", "message"),
    [
        (toys.cnn(), None, ValueError, "`representative_data` must be given with quantization='i"),
        (toys.cnn(), [], ValueError, "must hold at least one image. Received: none"),
        (toys.cnn(), IMAGES[:0], ValueError, "must hold at least one image"),
        (toys.cnn(), 3, TypeError, "must be an array of images, a tf.data pipeline"),
        (toys.cnn(), IMAGES[0], ValueError, r"batches of what the model takes, \(None, 8, 8, 3\)"),
        (toys.cnn(), toys.images(size=9), ValueError, r"Received: a batch of shape \(5, 9, 9, 3\)"),
        (toys.cnn(), np.array([["cat"]]), TypeError, "must be an array of real numbers"),
        (
            toys.cnn(),
            [{"image": IMAGES}],
            TypeError,
            "must be an array of real numbers. Received: .* of d",
        ),
        (toys.cnn(), IMAGES * np.nan, ValueError, "must be finite"),
        (BARE, PIXELS, ValueError, "images of dtype uint8, as they are stored"),
        (RESCALED, PIXELS / 255, ValueError, "Give images as they are stored"),
        (first(layers.Normalization(mean=100, variance=80**2)), PIXELS / 255, ValueError, "spread"),
        (toys.cnn(), 255 * IMAGES, ValueError, "the variance that the layer .* met in training"),
        (toys.cnn(size=None), IMAGES, ValueError, "height and width must be known for int8"),
    ],
)
def test_representative_data_that_is_refused(tmp_path, model, data, kind, message):
    path = tmp_path / "toy.tflite"
    path.write_bytes(b"the old file")
    with pytest.raises(kind, match=message):
        export.to_tflite(model, path, quantization="int8", representative_data=data)
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_pixels_are_taken_by_a_model_that_scales_them(tmp_path, capfd):
    path = export.to_tflite(
        RESCALED,
        tmp_path / "toy.tflite",
        quantization="int8",
        representative_data=PIXELS,
        verbose=0,
    )
    assert capfd.readouterr().out == ""
    # Images of 0 to 255 are themselves as uint8.
    np.testing.assert_allclose(
        export.run_tflite(path, PIXELS), RESCALED(PIXELS.astype("float32")), atol=0.05
    )


@pytest.mark.parametrize(
    "beginning",
    [
        lambda x: layers.Rescaling(1 / 255)(layers.RandomFlip()(x)),
        lambda x: keras.Sequential([layers.Resizing(6, 6), layers.Rescaling(1 / 255)])(x),
        lambda x: x / 255,
    ],
    ids=["augmentation", "nested", "operation"],
)
def test_bytes_for_a_model_that_scales_them_anywhere(tmp_path, beginning):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 3)(beginning(inputs)))
    options = {"quantization": "int8", "io_dtype": "uint8", "verbose": 0}
    path = export.to_tflite(model, tmp_path / "a.tflite", representative_data=PIXELS, **options)
    assert export.inspect(path).inputs[0].scale == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match="Give images as they are stored"):
        export.to_tflite(model, tmp_path / "b.tflite", representative_data=PIXELS / 255, **options)
    assert not (tmp_path / "b.tflite").exists()


def test_a_model_of_bytes(tmp_path):
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    model = keras.Model(inputs, layers.Conv2D(2, 3)(layers.Rescaling(1 / 255)(inputs)))
    path = export.to_tflite(
        model, tmp_path / "a.tflite", quantization="int8", representative_data=PIXELS, verbose=0
    )
    expected = model.predict(PIXELS, verbose=0)
    np.testing.assert_allclose(export.run_tflite(path, PIXELS), expected, atol=0.1)


def test_images_are_in_the_range_that_the_file_says(tmp_path):
    with pytest.raises(
        ValueError, match=r"from 0 to 1, for input_range=\(0, 255\). Give the range"
    ):
        export.to_tflite(
            BARE,
            tmp_path / "toy.tflite",
            quantization="int8",
            representative_data=PIXELS / 255,
            input_range=(0, 255),
        )


def test_several_inputs_cannot_be_measured(tmp_path):
    inputs = [keras.Input((3,)) for _ in range(2)]
    model = keras.Model(inputs, layers.Subtract()(inputs))
    with pytest.raises(ValueError, match="Only a functional or Sequential model of one input"):
        export.to_tflite(
            model, tmp_path / "toy.tflite", quantization="int8", representative_data=np.ones((9, 3))
        )
