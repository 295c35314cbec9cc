"""Is a network with attention smoother before it is trained? Figure 1 of the FMM paper, many times.

Question: "Towards Understanding the Effectiveness of Attention Mechanism" draws a random network of
one input without (CNN) and with gates (AM), and sees a smoother curve with them. Is it, on average?
Data: none. The networks have one input from -1 to 1, three layers of
64 ReLUs, each followed by a gate of reduction 4 (AM) or not (CNN), one output; all weights are
normal, of variance 2 / inputs in kernels and of standard deviation 0.5 in biases.
Command:

    python -m recipes.papers.random_landscape --seeds 50

Fixed before the first run (2026-11-27): 200 networks of each kind a seed; the measures of
`analysis.smoothness` as in landscape; the criterion is the paired t-test over the seeds of the mean
over the networks. Nothing is trained, so a seed is no more than 200 further networks: the seeds are
of one draw each, and what landscape prints for every dataset is one measurement.
Cost: ten seconds a seed on one core.
Measured: recipes/results/random_landscape.json.
"""

import dataclasses
import typing

import keras
import numpy as np

from keras_fmm import layers
from recipes.lab import accuracies, comparison, curves
from recipes.lab.sections import Section
from recipes.lab.settings import setting, start, verbosity

CANDIDATES = ("CNN", "AM")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured."""

    # What a part's name is made of.
    dataset: typing.ClassVar = "random networks"
    epochs: typing.ClassVar = 0
    learning_rate: typing.ClassVar = comparison.Settings.learning_rate

    seeds: int = setting(50, "how many seeds, from 0 on; more that are there stay", minimum=1)
    networks: int = setting(200, "of each kind a seed", minimum=2)
    verbose: str = verbosity()
    output: str = setting("recipes/results/random_landscape.json", "where results go")
    smoke: bool = setting(False, "two networks of one seed")


def main(settings):
    """Measures what is missing, tests, prints; returns the part of the results, a dict."""
    if settings.smoke:
        settings = dataclasses.replace(settings, seeds=1, networks=2)

    def measure(candidate, seed):
        drawn = random_networks(candidate, settings.networks, seed)
        return curves.measures({"random": drawn})

    fixed = {"networks": settings.networks, "points": curves.POINTS}
    part = comparison.measured(settings, fixed, CANDIDATES, measure)
    # One output has no greatest of several.
    measures = [name for name in curves.names("random") if "argmax" not in name]
    tests = {m: comparison.paired_test(*comparison.paired(part, "AM", "CNN", m)) for m in measures}
    conclusions = {
        # Nothing is trained: no accuracy, and none that did not learn.
        "accuracy_percent": {},
        "not_learned": dict.fromkeys(CANDIDATES, 0),
        "smoothness": {
            name: {m: comparison.summary(comparison.values(part, name, m)) for m in measures}
            for name in CANDIDATES
        },
        "tests": {f"AM minus CNN, {m}": test for m, test in tests.items()},
    }
    part = comparison.conclude(settings, conclusions)
    print(markdown(part))
    return part


def random_networks(candidate, count, seed):
    """Returns what random networks of one input give along a line, `(count, points, 1)`."""
    line = np.linspace(-1, 1, curves.POINTS, dtype="float32").reshape(curves.POINTS, 1, 1, 1)
    inputs = x = keras.Input((1, 1, 1))
    for _ in range(3):
        x = keras.layers.Conv2D(64, 1, activation="relu")(x)
        if candidate == "AM":
            x = layers.SqueezeExcite(reduction=4)(x)
    model = keras.Model(inputs, keras.layers.Flatten()(keras.layers.Conv2D(1, 1)(x)))
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        for weight in model.weights:
            deviation = 0.5 if len(weight.shape) == 1 else np.sqrt(2 / weight.shape[-2])
            weight.assign(rng.normal(0, deviation, weight.shape))
        found.append(model.predict_on_batch(line))
    return np.stack(found)


def markdown(part):
    """Returns the table: a row a measure."""
    lines = [
        "| | CNN, mean (n) | AM, mean (n) | AM - CNN | 95 % interval | p |",
        "|---|---|---|---|---|---|",
    ]
    for name, test in part["tests"].items():
        measure = name.removeprefix("AM minus CNN, ")
        rows = [part["smoothness"][candidate][measure] for candidate in CANDIDATES]
        cells = [accuracies.mean_and_spread(row, ".3g") for row in rows]
        cells += [f"{test['difference']:+.3g}", accuracies.interval(test, ".3g")]
        lines.append(f"| {measure} | {' | '.join(cells)} | {accuracies.p_value(test)} |")
    return "\n".join(lines)


def judged(name, part):
    """Figure 1: whether a random network's curve is smoother with gates."""
    return curves.judged(name, part, "random")


SECTIONS = (
    Section(
        "random_landscape",
        "FMM, Figure 1, more networks",
        "the landscape with attention is smoother.",
        markdown,
        judged,
        deviations=("The paper draws one network of each kind and gives no number."),
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
