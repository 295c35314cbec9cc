import doctest
import importlib
import pkgutil

import pytest

from keras_fmm import data

MODULES = [module.name for module in pkgutil.iter_modules(data.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"keras_fmm.data.{name}"))
    assert result.failed == 0


def test_all_public_names_are_documented():
    for name in data.__all__:
        assert getattr(data, name).__doc__
