"""Models saved by earlier versions load unchanged; the files are never written anew."""

import json
import pathlib
import zipfile

import keras
import numpy as np
import pytest

import keras_fmm  # noqa: F401, it registers the layers

FILES = sorted(pathlib.Path(__file__).parent.glob("layers_*.keras"))


def version(text):
    return [int(part) for part in text.split(".")[:2]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_model_of_all_layers_says_what_it_said(path):
    with zipfile.ZipFile(path) as archive:
        wrote = json.loads(archive.read("metadata.json"))["keras_version"]
    if version(keras.__version__) < version(wrote):
        pytest.skip(f"Keras reads no file of a newer one, not even of its own layers: {wrote}")
    model = keras.saving.load_model(path)
    with np.load(path.with_suffix(".npz")) as saved:
        outputs = model(saved["images"])
        np.testing.assert_allclose(outputs, saved["outputs"], rtol=1e-4, atol=1e-4)


def test_there_are_such_files():
    assert FILES
