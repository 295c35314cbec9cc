import warnings

import keras
import numpy as np
import pytest

from keras_fmm import models
from keras_fmm.analysis import images as checked

RNG = np.random.default_rng(0)


def scaling(layer):
    inputs = keras.Input((8, 8, 1))
    return models.ToyCNN(input_tensor=layer(inputs), classes=4)


STORED = RNG.integers(0, 256, (5, 8, 8, 1))


def test_images_become_float32():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, array = checked.prepared(scaling(keras.layers.Rescaling(1 / 255)), STORED)
    assert array.dtype == "float32"
    np.testing.assert_array_equal(array, STORED)


@pytest.mark.parametrize(
    "layer",
    [keras.layers.Rescaling(1 / 255), keras.layers.Normalization(mean=[73.0], variance=[8100.0])],
    ids=["rescaling", "normalization"],
)
@pytest.mark.parametrize("factor", [1 / 255, 255.0])
def test_images_of_another_range_are_warned_of(layer, factor):
    with pytest.warns(UserWarning, match="range that the model was trained on. Received: images"):
        checked.prepared(scaling(layer), STORED * factor)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (STORED[0], ValueError, r"of shape \(8, 8, 1\).*images\[None\]"),
        (STORED[:0], ValueError, r"of shape \(0, 8, 8, 1\)"),
        (STORED[:, :7], ValueError, r"of shape \(5, 7, 8, 1\)"),
        (np.full((1, 8, 8, 1), np.nan), ValueError, r"images\[0\]"),
        (STORED.astype(str), TypeError, "array of real numbers"),
        (STORED * 1j, TypeError, "array of real numbers. Received: images of dtype complex128"),
        (STORED.astype(object), TypeError, "array of real numbers"),
    ],
    ids=["single", "none", "size", "nan", "text", "complex", "objects"],
)
def test_images_that_do_not_fit_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        checked.prepared(scaling(keras.layers.Rescaling(1 / 255)), images)


def test_classes():
    model = models.ToyCNN(input_shape=(8, 8, 1), classes=4, classifier_activation=None)
    images = STORED.astype("float32")
    predicted = checked.checked_classes(model, images, None)
    np.testing.assert_array_equal(predicted, model.predict(images, verbose=0).argmax(-1))
    np.testing.assert_array_equal(checked.checked_classes(model, images, 3), [3] * 5)
    np.testing.assert_array_equal(
        checked.checked_classes(model, images, [0, 1, 2, 3, 0]), [0, 1, 2, 3, 0]
    )
    for wrong in (4, -1, 10**30, [0, 1, 2, 3, 4], [0, 1, 2, 3, -(10**30)]):
        with pytest.raises(ValueError, match="from 0 to 3. Received: class_index="):
            checked.checked_classes(model, images, wrong)
    with pytest.raises(ValueError, match="one for each image"):
        checked.checked_classes(model, images, [0, 1])
    with pytest.raises(TypeError, match="must be an integer"):
        checked.checked_classes(model, images, "dog")


def test_batches_are_put_together(capsys):
    numbers = np.arange(7)
    found = checked.over_batches(lambda x, y: [x + y, {"product": x * y}], [numbers, numbers], 3)
    np.testing.assert_array_equal(found[0], numbers * 2)
    np.testing.assert_array_equal(found[1]["product"], numbers**2)
    assert capsys.readouterr().out == ""
    checked.over_batches(lambda x: x, [numbers], 3, verbose=1)
    assert "7/7" in capsys.readouterr().out
