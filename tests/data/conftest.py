"""A folder of tiny prepared datasets."""

import shutil

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Folder with all tiny datasets; not to be changed."""
    from tests.data import tiny

    folder = tmp_path_factory.mktemp("tfds")
    for builder in (
        tiny.FmmTiny,
        tiny.FmmTinyValid,
        tiny.FmmTinyTrain,
        tiny.FmmTinyEval,
        tiny.FmmTinyHidden,
        tiny.FmmTinyRagged,
    ):
        builder(data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture
def copy(prepared, tmp_path):
    """Folder with a copy of `fmm_tiny`, to be damaged, and the folder of its version."""
    shutil.copytree(prepared / "fmm_tiny", tmp_path / "fmm_tiny")
    return tmp_path, tmp_path / "fmm_tiny" / "1.0.0"
