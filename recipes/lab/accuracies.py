"""Accuracies of candidates over several seeds: what follows from them, a table and a picture."""

import numpy as np

from keras_fmm import plots
from recipes.lab import comparison


def percent(part, candidate):
    """Returns a candidate's accuracies on test in percent, an array in the order of the seeds."""
    return 100 * comparison.values(part, candidate, "test_accuracy")


def conclusions(part, classes, paper=None):
    """Returns what every comparison of accuracies concludes, a dict.

    Args:
        part: dict, of `comparison.measured`.
        classes: int, of the dataset.
        paper: dict by candidate of the paper's figure in percent, or None.
    """
    return {
        "accuracy_percent": {
            name: comparison.summary(percent(part, name)) for name in part["trials"]
        },
        "paper_percent": paper,
        # Less than twice what guessing gives.
        "not_learned": {
            name: int((percent(part, name) < 200 / classes).sum()) for name in part["trials"]
        },
        # Whether the curves on validation of all of a candidate's trials have stopped rising.
        "flat": {
            name: all(comparison.is_flat(trial["val_accuracy"]) for trial in trials.values())
            for name, trials in part["trials"].items()
        },
    }


def test(part, candidate, other):
    """Returns the paired test of two candidates' accuracies, in percentage points."""
    ours, theirs = comparison.paired(part, candidate, other, "test_accuracy")
    return comparison.paired_test(100 * ours, 100 * theirs)


def equivalence(part, candidate, other, margin):
    """Returns the test that two candidates differ by less than a margin in percentage points."""
    ours, theirs = comparison.paired(part, candidate, other, "test_accuracy")
    return comparison.equivalence_test(100 * ours, 100 * theirs, margin)


def draw(part, settings, variant=None):
    """Writes the curves on validation, each the mean over the seeds, beside the results."""
    curves = {}
    for name, trials in part["trials"].items():
        # One that diverged has no curve.
        whole = [trial["val_accuracy"] for trial in trials.values() if trial["val_accuracy"]]
        if whole:
            curves[name] = {"val_accuracy": np.mean(whole, axis=0)}
    figure = plots.training_curves(curves, metrics=["accuracy"])
    plots.save_figure(figure, comparison.picture(settings, variant=variant))


def markdown(part):
    """Returns two tables: the candidates with the paper's figures, and the tests."""
    paper = part["paper_percent"] or {}
    lines = ["| | accuracy, % (n) | 95 % interval | paper |", "|---|---|---|---|"]
    for name, row in part["accuracy_percent"].items():
        figure = f"{paper[name]:.2f}" if name in paper else "-"
        lines.append(f"| {name} | {mean_and_spread(row)} | {interval(row)} | {figure} |")
    for name, count in part["not_learned"].items():
        if count:
            trials = part["accuracy_percent"][name]["n"]
            lines += ["", f"{count} of {trials} trials of {name} did not learn."]
    lines += ["", "| difference | points | 95 % interval | p |", "|---|---|---|---|"]
    for name, row in part["tests"].items():
        margin = f" within ± {row['margin']}" if "margin" in row else ""
        cells = (f"{row['difference']:+.2f}", interval(row), p_value(row))
        lines.append(f"| {name}{margin} | {' | '.join(cells)} |")
    return "\n".join(lines)


def costs(part, timed=True):
    """Returns the table of what each candidate costs.

    Args:
        part: dict, whose trials have "parameters" and "multiply_adds".
        timed: bool, whether an epoch's seconds are shown too.
    """
    head = ["", "parameters", "multiply-adds"] + ["seconds an epoch"] * timed
    lines = [f"| {' | '.join(head)} |".replace("|  |", "| |"), "|---" * len(head) + "|"]
    for name, found in part["trials"].items():
        trial = next(iter(found.values()))
        cells = [name, f"{trial['parameters']:,}", f"{trial['multiply_adds']:,}"]
        if timed:
            cells.append(f"{comparison.values(part, name, 'seconds_per_epoch').mean():.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_and_spread(row, style=".2f"):
    """Returns a summary's mean ± standard deviation and n, a str."""
    spread = row["standard_deviation"]
    shown = "" if spread is None else f" ± {spread:{style}}"
    return f"{row['mean']:{style}}{shown} ({row['n']})"


def interval(row, style=".2f"):
    """Returns a summary's or a test's 95 % interval, a str."""
    if row["confidence_95"] is None:
        return "-"
    low, high = row["confidence_95"]
    return f"{low:{style}} to {high:{style}}"


def p_value(test):
    """Returns a test's p, a str."""
    if test["p_value"] is None:
        return "-"
    return "< 0.001" if test["p_value"] < 0.001 else f"{test['p_value']:.3f}"
