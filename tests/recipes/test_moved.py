"""Recipes under the names that they had before the folders."""

import importlib.util
import pathlib
import subprocess
import sys

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("some recipes need TensorFlow", allow_module_level=True)

import recipes

ROOT = pathlib.Path(__file__).parents[2]

# All that was in recipes/ and no longer is, commands and what they shared. New ones do not belong
# here: they had no name before.
OF_BEFORE = {
    "accuracy",
    "attentional_weights",
    "benchmark_aw_conv",
    "benchmark_mobile",
    "benchmark_models",
    "comparison",
    "fmmnet",
    "importance_agreement",
    "interleaved",
    "landscape",
    "mixup_regularization",
    "model_table",
    "multiplication_is_the_key",
    "quantization",
    "report",
    "sensitivity",
    "settings",
    "trials",
    "verdicts",
}


@pytest.mark.parametrize("old", recipes.MOVED)
def test_an_old_import_gives_the_new_module_and_says_so(old):
    new = f"recipes.{recipes.MOVED[old]}"
    sys.modules.pop(f"recipes.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"`recipes.{old}` is now `{new}`"):
        found = importlib.import_module(f"recipes.{old}")
    assert found is importlib.import_module(new)


def test_every_module_of_before_the_folders_is_found_under_its_name():
    assert set(recipes.MOVED) == OF_BEFORE
    for new in recipes.MOVED.values():
        assert (ROOT / "recipes" / f"{new.replace('.', '/')}.py").is_file(), new


# One of the moved is enough: all go one way.
@pytest.mark.slow
def test_an_old_command_says_the_new_one_and_does_its_work(tmp_path):
    command = [sys.executable, "-m", "recipes.report", "--results", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert "`python -m recipes.report` is now `python -m recipes.lab.report`" in run.stderr
    assert run.stderr.count("DeprecationWarning") == 1
    # The recipe's own last word, of which a folder without results is the quickest.
    assert "error: `results` must be a folder with results" in run.stderr
    assert run.returncode == 1


def test_help_of_an_old_command_is_the_new_ones(monkeypatch, capsys):
    sys.modules.pop("recipes.report", None)
    code = importlib.util.find_spec("recipes.report").loader.get_code("recipes.report")
    monkeypatch.setattr(sys, "argv", ["recipes.report", "--help"])
    message = "`python -m recipes.report` is now `python -m recipes.lab.report`"
    with pytest.warns(DeprecationWarning, match=message), pytest.raises(SystemExit) as stop:
        exec(code, {"__name__": "__main__"})
    assert stop.value.code == 0
    assert "make report" in capsys.readouterr().out
