"""`recipes.papers.detection`: what follows from finished runs, and which it refuses."""

import json
import pathlib

import pytest

from recipes import detect
from recipes.papers import detection as recipe

AP = {"plain": (0.5, 0.6), "squeeze_excite": (0.55, 0.67), "cbam": (0.4, 0.5), "aw": (0.5, 0.7)}


def runs(folder, seeds=(0, 1), image_format=None):
    """Writes the records of finished runs."""
    for name, scores in AP.items():
        for seed in seeds:
            ap = scores[seed % 2]
            file = folder / f"digits_on_canvas_{name}_{seed}" / "run.json"
            file.parent.mkdir(parents=True)
            given = {"ap": ap, "ap50": 0.9, "ap75": 0.5, "by_class": {"1": ap}, "images": 300}
            record = {
                "status": "finished",
                "end": "2026-11-27T12:00:00+00:00",
                # A run writes down the rate that it took where none was given.
                "config": {
                    **detect.identity(detect.Settings(format=image_format, seed=seed)),
                    "learning_rate": 0.004,
                },
                "environment": {
                    "device": {"kind": "gpu", "names": ["A card"], "cores": 16},
                    "versions": {"keras": "3.15.1", "backend": "jax"},
                },
                "seconds_per_epoch": [2.5, 3.6 + seed],
                "metrics": {"parameters": 1000, **given, "validation": {**given, "ap": 0.1}},
            }
            file.write_text(json.dumps(record), encoding="utf-8")


def main(tmp_path, **settings):
    paths = {"runs": str(tmp_path / "runs"), "output": str(tmp_path / "detection.json")}
    return recipe.main(recipe.Settings(**{"seeds": 2, **paths, **settings}))


def test_differences_are_paired_by_seed(tmp_path):
    runs(tmp_path / "runs")
    part = main(tmp_path)
    assert part["summaries"]["ap"]["plain"]["mean"] == pytest.approx(55)
    # Differences of 5 and 7 points: t = 6 with one degree of freedom.
    test = part["tests"]["ap"]["squeeze_excite"]
    assert test["difference"] == pytest.approx(6)
    assert test["p_value"] == pytest.approx(0.10514, abs=1e-4)
    page = recipe.page(tmp_path)
    row = next(line for line in page.splitlines() if line.startswith("| squeeze_excite | 1,000"))
    cells = row.split(" | ")
    assert cells[2].startswith("90.0 ")
    # The least of three, of which one cannot be tested.
    assert cells[5:7] == ["0.105", "0.315"]
    assert "38.11" in page
    assert "A card (gpu), 2026-11-27, 6 to 7 seconds a trial." in page
    assert "recipes.papers.detection --seeds 2\n" in page


def test_the_split_that_is_scored(tmp_path):
    runs(tmp_path / "runs", image_format="voc")
    part = main(tmp_path, split="validation", format="voc")
    assert part["summaries"]["ap"]["aw"]["mean"] == pytest.approx(10)
    command = "--dataset ../digits_on_canvas --format voc --split validation --seeds 2\n"
    assert command in recipe.page(tmp_path)
    # One file is of one split.
    with pytest.raises(ValueError, match="`split`.*Received: 'test', where .* of 'validation'"):
        main(tmp_path, format="voc")


def test_what_the_results_have_is_not_trained_again(tmp_path, monkeypatch):
    runs(tmp_path / "runs")
    content = main(tmp_path)
    for seed in range(2):
        (tmp_path / "runs" / f"digits_on_canvas_plain_{seed}" / "run.json").unlink()
    assert main(tmp_path) == content
    # A remark is taken all the same.
    assert main(tmp_path, remark="Beside other work.")["remark"] == "Beside other work."
    # One seed more: a run for each that is missing.
    runs(tmp_path / "others", seeds=(2,))
    asked = []

    def train(given):
        asked.append((given.attention, given.convolution, given.seed))
        name = pathlib.Path(given.workdir).name
        return json.loads((tmp_path / "others" / name / "run.json").read_text(encoding="utf-8"))

    monkeypatch.setattr(detect, "main", train)
    part = main(tmp_path, seeds=3)
    assert asked == [(*what, 2) for what in recipe.CANDIDATES.values()]
    assert [part["summaries"]["ap"][name]["n"] for name in AP] == [3] * 4
    assert "detection --seeds 3\n" in recipe.page(tmp_path)


def test_other_settings_are_refused_before_anything_trains(tmp_path, monkeypatch):
    runs(tmp_path / "runs")
    main(tmp_path)
    monkeypatch.setattr(detect, "main", None)
    given = detect.Settings

    def other(*arguments, **named):
        return given(*arguments, **named, width=8)

    with pytest.raises(ValueError, match="same settings.*'voc'.*None.*`output`"):
        main(tmp_path, format="voc")
    monkeypatch.setattr(detect, "Settings", other)
    with pytest.raises(ValueError, match="same settings.*'width': 8.*'width': 24.*`output`"):
        main(tmp_path, seeds=3)


def test_runs_of_other_settings_are_refused(tmp_path):
    runs(tmp_path / "runs")
    file = tmp_path / "runs" / "digits_on_canvas_aw_1" / "run.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["config"]["epochs"] = 3
    file.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match="digits_on_canvas_aw_1"):
        main(tmp_path)


def test_nothing_measured_has_no_page(tmp_path):
    assert recipe.page(tmp_path) is None
