"""Curves along ellipses through images, how smooth curves are, and what is said of them."""

import dataclasses

import numpy as np

from keras_fmm import analysis
from recipes.lab import comparison, trials, verdicts

POINTS = 300
MEASURES = ("total_variation", "second_difference", "argmax_changes", "monotone_pieces")


def trajectories(dataset, kind, count):
    """Returns ellipses through test images, the same for every network, `(count, points, ...)`."""
    images, labels = trials.examples(dataset, "test")
    labels = labels.argmax(-1)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        if kind == "single-class":
            of_class = np.flatnonzero(labels == rng.choice(dataset.classes))
            rows = rng.choice(of_class, 3, replace=False)
        else:
            classes = rng.choice(dataset.classes, 3, replace=False)
            rows = [rng.choice(np.flatnonzero(labels == c)) for c in classes]
        found.append(analysis.ellipse(*images[rows], points=POINTS))
    return np.stack(found)


def names(kind):
    """Returns the names of the measures of one kind of curve, a list.

    Those that scale with the logits are given both ways.
    """
    both = ("total_variation", "second_difference")
    return [
        f"{kind}, {measure}{how}"
        for measure in MEASURES
        for how in (("", ", relative") if measure in both else ("",))
    ]


def measures(drawn):
    """Returns the mean of each measure over the ellipses of each kind, and its spread, a dict."""
    found = {}
    for kind, values in drawn.items():
        for relative in (False, True):
            smooth = analysis.smoothness(values, kind != "random", relative)
            for measure in MEASURES:
                name = f"{kind}, {measure}{', relative' if relative else ''}"
                if name in names(kind):
                    numbers = getattr(smooth, measure)
                    found[name] = float(np.mean(numbers))
                    found[f"{name}, deviation"] = float(np.std(numbers))
    return found


def judged(name, part, kind):
    """Yields the claims on how far and how often a kind of curve turns, with their findings.

    Args:
        name, part: as of `verdicts.lower`; the candidates are "CNN" and "AM".
        kind: str.
    """
    when = "" if kind == "random" else " after equally many epochs"
    for measure in (f"{kind}, total_variation, relative", f"{kind}, monotone_pieces"):
        ours, theirs = comparison.paired(part, "AM", "CNN", measure)
        test = comparison.paired_test(ours, theirs)
        found = verdicts.lower(name, part, test, ("CNN", "AM"))
        yield (
            f"{kind}: {measure.removeprefix(f'{kind}, ')} is lower with attention{when} "
            "(CNN minus AM)",
            dataclasses.replace(found, ours=f"{ours.mean():.3g} against {theirs.mean():.3g}"),
        )
