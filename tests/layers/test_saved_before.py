"""Models saved by earlier versions load unchanged; the files are never written anew."""

import pathlib

import keras
import numpy as np
import pytest

import keras_fmm  # noqa: F401, it registers the layers

FILES = sorted(pathlib.Path(__file__).parent.glob("layers_*.keras"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_model_of_all_layers_says_what_it_said(path):
    model = keras.saving.load_model(path)
    with np.load(path.with_suffix(".npz")) as saved:
        outputs = model(saved["images"])
        np.testing.assert_allclose(outputs, saved["outputs"], rtol=1e-4, atol=1e-4)


def test_there_are_such_files():
    assert FILES
