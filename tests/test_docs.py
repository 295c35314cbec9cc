"""The examples in docstrings and in README are run."""

import doctest
import importlib
import pathlib

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PORTABLE = ("checks", "files", "ops", "layers", "models")


def modules():
    for path in sorted((ROOT / "keras_fmm").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if ">>>" in path.read_text(encoding="utf-8"):
            yield name


@pytest.mark.parametrize("name", list(modules()))
def test_examples_of_docstrings(name):
    if keras.backend.backend() != "tensorflow" and name.split(".")[1] not in PORTABLE:
        pytest.skip("needs TensorFlow")
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted
    assert not failed
