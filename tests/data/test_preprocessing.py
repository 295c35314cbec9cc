import keras
import numpy as np
import pytest

from keras_fmm import data


def test_scale():
    layer = data.preprocessing(data.load("digits"), "scale")
    assert isinstance(layer, keras.layers.Rescaling)
    output = layer(np.array([[[[0], [51], [255]]]], "uint8"))
    np.testing.assert_allclose(np.ravel(output), [0, 0.2, 1], rtol=1e-6)


def test_standardize_gives_mean_0_and_variance_1_on_train():
    dataset = data.load("digits")
    layer = data.preprocessing(dataset, "standardize")
    assert isinstance(layer, keras.layers.Normalization)
    output = np.asarray(layer(dataset.arrays("train")[0]))
    np.testing.assert_allclose([output.mean(), output.std()], [0, 1], atol=1e-5)


def test_statistics_are_of_each_channel_and_of_train_alone(tmp_path):
    # Train holds 0 and 10 in the red channel, 100 and 104 in the green one, 7 in the blue one.
    images = np.array([[[[0, 100, 7]]], [[[10, 104, 7]]]], "uint8")
    path = tmp_path / "colours.npz"
    content = {f"{s}_images": images for s in ("train", "validation", "test")}
    content |= {f"{s}_labels": np.zeros(2, "int32") for s in ("train", "validation", "test")}
    content["test_images"] = images + 50
    np.savez(path, name="colours", class_names=["a"], **content)
    layer = data.preprocessing(data.load_arrays(path), "standardize")
    output = np.asarray(layer(images)).reshape(2, 3)
    np.testing.assert_allclose(output, [[-1, -1, 0], [1, 1, 0]], atol=1e-6)


def test_images_that_differ_in_size_count_by_pixel(prepared):
    dataset = data.load("fmm_tiny_ragged", validation_fraction=0, data_dir=prepared)
    layer = data.preprocessing(dataset, "standardize")
    # Image i has 4 + i % 3 rows of 6 pixels of value i, i = 0..11.
    values = np.repeat(np.arange(12), [(4 + i % 3) * 6 for i in range(12)])
    output = np.asarray(layer(np.full((1, 1, 1, 3), 11, "uint8"))).ravel()
    np.testing.assert_allclose(output, (11 - values.mean()) / values.std(), rtol=1e-6)


def test_unknown_kind():
    message = "`kind` must be one of 'scale', 'standardize'. Received: kind='whiten'"
    with pytest.raises(ValueError, match=message):
        data.preprocessing(data.load("digits"), "whiten")
