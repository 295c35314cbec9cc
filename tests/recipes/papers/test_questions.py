"""The recipes that ask a question, each end to end on a few steps, and the page of verdicts."""

import importlib
import json

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("analysis runs on TensorFlow", allow_module_level=True)

from recipes.lab import report, trials

# The flags beside --smoke.
CASES = [
    ("multiplication_is_the_key", {}),
    ("mixup_regularization", {}),
    ("importance_agreement", {}),
    ("landscape", {}),
    ("sensitivity", {}),
    ("fmmnet", {"study": "depth"}),
    ("fmmnet", {"study": "accuracy"}),
    ("deep_products", {"forms": ("add", "product", "centered")}),
    ("attentional_weights", {"network": "toy_cnn"}),
    ("self_attention", {"study": "share"}),
]


@pytest.fixture(scope="module")
def trials_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trials")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flags"), CASES, ids=lambda case: str(case))
def test_runs_end_to_end(tmp_path, monkeypatch, capsys, name, flags, trials_folder):
    monkeypatch.chdir(tmp_path)
    # The recipes share trained networks here as they do in earnest.
    monkeypatch.setattr(trials, "forget_smoke", lambda: None)
    (tmp_path / trials.SMOKE_FOLDER).parent.mkdir(parents=True)
    (tmp_path / trials.SMOKE_FOLDER).symlink_to(trials_folder)
    recipe = importlib.import_module(f"recipes.papers.{name}")
    part = recipe.main(recipe.Settings(smoke=True, **flags))
    results = tmp_path / "runs" / "smoke"
    assert list(json.loads((results / f"{name}.json").read_text()).values()) == [part]
    assert part["environments"]
    for seeds in part["trials"].values():
        assert set(seeds) == {"0"}
    assert "|---|" in capsys.readouterr().out
    page = report.main(report.Settings(results=str(results), output="page.md"))
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page
    first, rules, power, section = page.split("\n## ")
    assert rules.startswith("How a verdict is reached")
    assert power.startswith("How many seeds")
    # One seed of three steps settles nothing.
    assert "**" not in first + section
