"""The recipes that ask a question, each end to end on a few steps, and the page of verdicts."""

import importlib
import json

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("analysis runs on TensorFlow", allow_module_level=True)

from recipes import report

# The flags beside --smoke, and what must be among the part's keys.
QUESTIONS = {
    "multiplication_is_the_key": [{}],
    "mixup_regularization": [{}],
    "importance_agreement": [{}],
    "landscape": [{}],
    "sensitivity": [{}],
    "fmmnet": [{"study": "depth"}, {"study": "accuracy"}],
    "attentional_weights": [{"network": "toy_cnn"}],
}
CASES = [(name, flags) for name, several in QUESTIONS.items() for flags in several]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The recipes share trained networks, as they do outside of tests."""
    return tmp_path_factory.mktemp("questions")


@pytest.mark.parametrize(("name", "flags"), CASES, ids=lambda case: str(case))
def test_runs_end_to_end(folder, monkeypatch, capsys, name, flags):
    monkeypatch.chdir(folder)
    recipe = importlib.import_module(f"recipes.{name}")
    part = recipe.main(recipe.Settings(smoke=True, **flags))
    saved = json.loads((folder / "runs" / "smoke" / f"{name}.json").read_text())
    assert part in saved.values()
    assert part["environments"]
    for trials in part["trials"].values():
        assert set(trials) == {"0"}
    assert "|---|" in capsys.readouterr().out
    if name != "sensitivity":
        assert list((folder / "runs" / "smoke").glob(f"{name}*.png"))


def test_the_page_judges_what_is_there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    results = folder / "runs" / "smoke"
    if len(list(results.glob("*.json"))) < len(QUESTIONS):
        pytest.skip("needs the results of the tests above")
    page = report.main(report.Settings(results=str(results), output="page.md"))
    assert (folder / "page.md").read_text(encoding="utf-8") == page
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    assert len(titles) == len(QUESTIONS)
    # One seed of three steps settles no accuracy.
    assert "AM is better than CNN: cannot tell: one seed" in page


def row(low, high, p_value=0.5, n=5):
    return {
        "difference": (low + high) / 2,
        "confidence_95": [low, high],
        "p_value": p_value,
        "n": n,
        "margin": 0.4,
    }


def part_of(test, flat=True):
    return {"tests": {"A minus B": test}, "flat": {"A": flat, "B": True}}


@pytest.mark.parametrize(
    ("name", "test", "flat", "paper", "verdict"),
    [
        ("mnist, 200 epochs", row(0.1, 0.5), False, 0.3, "**holds**"),
        ("mnist, 10 epochs", row(0.1, 0.5), True, 0.3, "**holds**"),
        ("mnist, 10 epochs", row(0.1, 0.5), False, 0.3, "cannot tell: after 10 epochs"),
        ("mnist, 200 epochs", row(-0.5, -0.1), True, 0.3, "**does not hold** ("),
        ("mnist, 200 epochs", row(-0.5, 0.1), True, 0.3, "**does not hold**: a difference"),
        ("mnist, 200 epochs", row(-0.5, 0.4), True, 0.3, "cannot tell ("),
        ("mnist, 200 epochs", row(-0.5, 0.1), True, None, "cannot tell ("),
        ("mnist, 200 epochs", {**row(0, 1), "n": 1}, True, None, "cannot tell: one seed"),
    ],
)
def test_verdicts_on_accuracy(name, test, flat, paper, verdict):
    found = report.judged(name, part_of(test, flat), "A minus B", ("A", "B"), paper)
    assert found.startswith(verdict)


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (row(-0.1, 0.2, p_value=0.01), "**holds**"),
        (row(-0.1, 0.5, p_value=0.2), "cannot tell"),
        (row(0.5, 0.9, p_value=0.99), "**does not hold**"),
    ],
)
def test_verdicts_on_equivalence(test, verdict):
    part = {"tests": {"AM, mixup equals AM": test}, "flat": {"AM": True, "AM, mixup": True}}
    found = report.judge_equivalence("mnist, 10 epochs", part, test, ("AM", "AM, mixup"))
    assert found.startswith(verdict)
