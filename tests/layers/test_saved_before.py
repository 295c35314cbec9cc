"""Models saved by earlier versions load unchanged; the files are never written anew.

`layers_0.1.0` is of the first release, `layers_2026-11-27` of that day, on TensorFlow: the network
below as .keras, .h5 and .weights.h5, and in the .npz file images and what it said of them.
"""

import json
import pathlib
import zipfile

import keras
import numpy as np
import pytest

from keras_fmm import layers

HERE = pathlib.Path(__file__).parent
FILES = sorted([*HERE.glob("layers_*.keras"), *HERE.glob("layers_*[0-9].h5")])
WEIGHTS = sorted(HERE.glob("layers_*.weights.h5"))


def version(text):
    return [int(part) for part in text.split(".")[:2]]


def network():
    """Returns the network whose weights are kept."""
    inputs = keras.Input((6, 5, 3))
    x = layers.AWConv2D(4, 3, padding="same", activation="relu")(inputs)
    x = layers.SqueezeExcite(reduction=2)(x)
    x = layers.EfficientChannelAttention()(x)
    x = layers.MultiplicativeResidual()([layers.CBAM(reduction=2, kernel_size=3)(x), x])
    x = layers.SpatialAttention(kernel_size=3)(layers.ChannelAttention(reduction=2)(x))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


def check(model, path):
    stem = path.name.removesuffix(path.suffix).removesuffix(".weights")
    with np.load(HERE / f"{stem}.npz") as saved:
        outputs = keras.ops.convert_to_numpy(model(saved["images"]))
        np.testing.assert_allclose(outputs, saved["outputs"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_model_of_all_layers_says_what_it_said(path):
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            wrote = json.loads(archive.read("metadata.json"))["keras_version"]
        if version(keras.__version__) < version(wrote):
            pytest.skip(f"Keras reads no file of a newer one, not even of its own layers: {wrote}")
    check(keras.saving.load_model(path, compile=False), path)


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.name)
def test_weights_go_into_the_network_that_had_them(path):
    model = network()
    model.load_weights(path)
    check(model, path)


def test_there_are_such_files():
    assert {path.suffix for path in FILES} == {".keras", ".h5"}
    assert WEIGHTS
