"""What left the package is still had from its old place, with a warning that says the new one."""

import importlib
import sys
import warnings

import pytest

import keras_fmm
from keras_fmm import deprecated, export, half_precision, input_range, plots

LEFT = [
    (export, "add_to_manifest", "recipes.lab.artefacts"),
    (export, "check_manifest", "recipes.lab.artefacts"),
    (export, "manifest_entry", "recipes.lab.artefacts"),
    (plots, "accuracy_by_latency", "recipes.lab.figures"),
    (plots, "cost_by_stage", "recipes.lab.figures"),
    (plots, "histograms", "recipes.lab.figures"),
    (plots, "norms_by_depth", "recipes.lab.figures"),
]


@pytest.mark.parametrize(("module", "name", "where"), LEFT)
def test_names_that_left_warn_and_work(module, name, where):
    with pytest.warns(DeprecationWarning, match=f"`{module.__name__}.{name}` leaves .*{where}"):
        found = getattr(module, name)
    assert found is getattr(deprecated, name)
    assert found is getattr(importlib.import_module(where), name)
    assert name not in module.__all__
    # The warning is of the user's line, so that Python shows it to whom it may concern.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(f"from {module.__name__} import {name}")
    assert {warning.filename for warning in caught} == {"<string>"}


@pytest.mark.parametrize(("old", "new"), [("float32", half_precision), ("scaling", input_range)])
def test_modules_under_their_old_names_are_the_new_ones(old, new):
    sys.modules.pop(f"keras_fmm.{old}", None)
    message = f"`keras_fmm.{old}` is now `{new.__name__}`"
    with pytest.warns(DeprecationWarning, match=message):
        assert importlib.import_module(f"keras_fmm.{old}") is new
    assert getattr(keras_fmm, old) is new


def test_other_names_are_refused_as_ever():
    for module in (keras_fmm, export, plots):
        with pytest.raises(
            AttributeError, match=f"module '{module.__name__}' has no attribute 'x'"
        ):
            module.x  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match=r"keras_fmm\.float33"):
        importlib.import_module("keras_fmm.float33")


def test_the_same_moves_are_found_by_one_finder():
    before = list(sys.meta_path)
    deprecated.modules({"keras_fmm.scaling": "keras_fmm.input_range", "a.b": "a.c"})
    deprecated.modules({"keras_fmm.scaling": "keras_fmm.input_range", "a.b": "a.c"})
    try:
        assert len(sys.meta_path) == len(before) + 1
    finally:
        sys.meta_path[:] = before
