import doctest
import importlib
import pkgutil

import pytest

from keras_fmm import export

MODULES = [f"keras_fmm.export.{module.name}" for module in pkgutil.iter_modules(export.__path__)]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_run(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_every_public_name_is_documented_and_exported():
    for name in export.__all__:
        assert getattr(export, name).__doc__, f"{name} has no docstring"
    assert export.__all__ == sorted(export.__all__)
