import dataclasses
import json
import math

import numpy as np
import pytest

from keras_fmm import data
from recipes.lab import comparison, trials
from recipes.lab.settings import setting
from recipes.papers.networks import builder


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    output: str = setting("results.json", "where results go")


def score(candidate, seed):
    return {"accuracy": {"a": 0.5, "b": 0.25}[candidate] + seed / 100}


def test_what_the_file_has_is_not_measured_again(tmp_path):
    settings = Settings(seeds=2, output=str(tmp_path / "results.json"))
    calls = []

    def measure(candidate, seed):
        calls.append((candidate, seed))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(candidate, seed)

    with pytest.raises(KeyboardInterrupt):
        comparison.measured(settings, {"rate": 1}, ["a", "b"], measure)
    # Seed by seed, so that candidates can be compared from the first on; three were kept.
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    calls.clear()
    part = comparison.measured(settings, {"rate": 1}, ["a", "b"], measure)
    assert calls == [("b", 1)]
    np.testing.assert_allclose(comparison.values(part, "a", "accuracy"), [0.5, 0.51])
    with pytest.raises(ValueError, match=r"same settings.*Received: {'rate': 2}"):
        comparison.measured(settings, {"rate": 2}, ["a"], measure)
    # Another schedule is another part, and leaves this one as it was.
    longer = dataclasses.replace(settings, epochs=20, seeds=1)
    comparison.measured(longer, {"rate": 2}, ["a"], score)
    assert sorted(comparison.read(settings.output)) == ["mnist, 10 epochs", "mnist, 20 epochs"]
    assert comparison.read(settings.output)["mnist, 10 epochs"] == part


def test_a_part_of_the_images_is_a_part_of_the_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings(dataset="digits", train_images=100)
    dataset = comparison.begun(settings)[1]
    assert dataset.sizes == {"train": 100, "validation": 100, "test": 359}
    assert comparison.part_name(settings) == "digits, 100 images, 10 epochs"
    # The variant is read by its place.
    assert comparison.part_name(settings, "chain") == "digits, chain, 100 images, 10 epochs"
    assert comparison.command(settings).endswith(" --dataset digits --train-images 100")
    # Nor does a trial of it go on with one of all images.
    build, schedule = builder("CNN"), trials.Schedule(epochs=1, batch_size=50, smoke=True)
    for some in (dataset, data.load("digits")):
        trials.trained("CNN", build, some, schedule, seed=0, verbose=0)
    found = trials.SMOKE_FOLDER.glob("*/run.json")
    trained = [json.loads(path.read_text())["config"].get("subset") for path in found]
    assert sorted(trained, key=bool) == [None, dataset.identity["subset"]]
    with pytest.raises(ValueError, match="`train_images`.* 1294 .*Received: train_images=1294"):
        comparison.begun(dataclasses.replace(settings, train_images=1294))


def test_pairs_are_of_the_seeds_that_both_have():
    part = {"trials": {"a": {"0": {"x": 1}, "10": {"x": 3}, "2": {"x": 2}}, "b": {"10": {"x": 5}}}}
    np.testing.assert_array_equal(comparison.values(part, "a", "x"), [1, 2, 3])
    ours, theirs = comparison.paired(part, "a", "b", "x")
    assert (ours, theirs) == ([3], [5])


def test_summary_by_hand():
    # Mean 2, deviation 1, standard error 1 / sqrt(3); t for 2 degrees of freedom is 4.30265.
    found = comparison.summary([1, 2, 3])
    assert found["mean"] == 2
    assert found["standard_deviation"] == 1
    assert found["n"] == 3
    half = 4.30265 / math.sqrt(3)
    np.testing.assert_allclose(found["confidence_95"], [2 - half, 2 + half], rtol=1e-5)
    one = comparison.summary([7])
    assert one == {"mean": 7, "standard_deviation": None, "n": 1, "confidence_95": None}


def test_paired_test_by_hand():
    # Differences 1, 2, 3: t = 2 sqrt(3) with 2 degrees of freedom, whose distribution function is
    # 1/2 + t / (2 sqrt(2 + t^2)).
    t = 2 * math.sqrt(3)
    p_value = 1 - t / math.sqrt(2 + t**2)
    found = comparison.paired_test([2, 4, 6], [1, 2, 3])
    assert found["difference"] == 2
    assert found["n"] == 3
    assert found["p_value"] == pytest.approx(p_value)
    # The same differences but for rounding, which say nothing of how they spread.
    same = comparison.paired_test([0.9914, 0.9907, 0.9901], [0.9904, 0.9897, 0.9891])
    assert same["p_value"] is None
    assert same["confidence_95"] is None
    assert comparison.paired_test([2], [1])["p_value"] is None


def test_equivalence_test_by_hand():
    # Differences -1, 0, 1 and a margin of 5: both one-sided t are 5 sqrt(3).
    t = 5 * math.sqrt(3)
    p_value = (1 - t / math.sqrt(2 + t**2)) / 2
    found = comparison.equivalence_test([1, 2, 3], [2, 2, 2], margin=5)
    assert found["p_value"] == pytest.approx(p_value)
    # Far outside the margin nothing is equivalent.
    assert comparison.equivalence_test([11, 12, 13], [2, 2, 2], margin=5)["p_value"] > 0.9


def test_not_worse_test_by_hand():
    # Differences -1, 0, 1 and a margin of 5: the one-sided t is 5 sqrt(3).
    t = 5 * math.sqrt(3)
    found = comparison.not_worse_test([1, 2, 3], [2, 2, 2], margin=5)
    assert found["p_value"] == pytest.approx((1 - t / math.sqrt(2 + t**2)) / 2)
    # Student's t of two degrees of freedom has 95 % below 2.920.
    assert found["lower_95"] == pytest.approx(-2.920 / math.sqrt(3), abs=1e-3)
    # Better than the margin on the other side is no objection, as it is to equivalence.
    assert comparison.not_worse_test([11, 12, 13], [2, 2, 2], margin=5)["p_value"] < 0.01
    assert comparison.not_worse_test([1, 2, 3], [12, 12, 12], margin=5)["p_value"] > 0.9
    assert comparison.not_worse_test([2, 2], [2, 2], margin=5)["p_value"] is None


@pytest.mark.parametrize("text", ["", "{", "3", "[1]", "[" * 100_000])
def test_damaged_results_are_named_and_kept(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results.json must hold results.*Move it away"):
        comparison.read(tmp_path / "results.json")
    assert (tmp_path / "results.json").read_text() == text
