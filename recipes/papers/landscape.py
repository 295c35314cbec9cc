"""Does multiplication make a network smoother? Figures 1, 3 and 4 of the FMM paper, counted.

Question: "Towards Understanding the Effectiveness of Attention Mechanism" draws what networks give
along a line (random ones of one input) and along ellipses through three test images (trained ones),
and sees smoother curves with attention. It shows a few pictures of each; are the curves smoother on
average?
Data: MNIST and CIFAR-10; images divided by 255. Cross-class ellipses go through images of three
classes, single-class ones through three of one class; 200 of each, the same for all networks.
Command:

    python -m recipes.papers.landscape --dataset mnist --epochs 10
    python -m recipes.papers.landscape --dataset cifar10 --epochs 20

The trained networks are CNN and AM of multiplication_is_the_key, on the same schedule, and used
where they are there. The random ones are 200 of each for each seed: one input from -1 to 1, three
layers of 64 ReLUs, each followed by a gate of reduction 4 (AM) or not (CNN), one output; all
weights are normal, of variance 2 / inputs in kernels and of standard deviation 0.5 in biases.
Fixed before the first run: 300 points an ellipse; the measures of `analysis.smoothness` on logits,
each neuron's values divided by their range along the ellipse (relative), so that a network with
larger logits is not called rougher; also absolute, as the figures show them. The criterion is the
paired t-test over the seeds of the mean over the ellipses; the spread over the ellipses stands
beside it.
Cost: the training, and five minutes for each network, on 2 cores.
Measured: recipes/results/landscape.json and docs/reproduction.md.
"""

import dataclasses

import keras
import numpy as np

from keras_fmm import analysis, files, layers, plots
from recipes.lab import accuracies, comparison, trials, verdicts
from recipes.lab.sections import Section
from recipes.lab.settings import setting, shown, start
from recipes.papers.networks import builder

CANDIDATES = ("CNN", "AM")
KINDS = ("cross-class", "single-class", "random")
POINTS = 300
MEASURES = ("total_variation", "second_difference", "argmax_changes", "monotone_pieces")


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """What is trained and how long, and how much is measured."""

    ellipses: int = setting(200, "of each kind, and random networks a seed", minimum=1)
    output: str = setting("recipes/results/landscape.json", "where results go")


def main(settings):
    """Measures what is missing, tests, draws, prints; returns the part of the results, a dict."""
    settings, dataset, schedule = comparison.begun(settings)
    if settings.smoke:
        settings = dataclasses.replace(settings, ellipses=2)

    def measure(candidate, seed):
        model, found = trials.trained(
            candidate, builder(candidate), dataset, schedule, seed, shown(settings)
        )
        curves = {
            kind: analysis.curve(model, trajectories(dataset, kind, settings.ellipses))
            for kind in KINDS[:2]
        }
        curves["random"] = random_curves(candidate, settings.ellipses, seed)
        if seed == 0:
            keep(candidate, settings, {kind: values[0] for kind, values in curves.items()})
        return {**found, **measures(curves)}

    fixed = {**dataclasses.asdict(schedule), "points": POINTS, "ellipses": settings.ellipses}
    part = comparison.measured(settings, fixed, CANDIDATES, measure)
    names = [f"{kind}, {m}{how}" for kind in KINDS for m in MEASURES for how in scales(kind, m)]
    conclusions = {
        **accuracies.conclusions(part, dataset.classes),
        "smoothness": {
            name: {m: comparison.summary(comparison.values(part, name, m)) for m in names}
            for name in CANDIDATES
        },
        "tests": {
            f"AM minus CNN, {m}": comparison.paired_test(*comparison.paired(part, "AM", "CNN", m))
            for m in names
        },
    }
    part = comparison.conclude(settings, conclusions)
    draw(settings)
    print(markdown(part))
    return part


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


def random_curves(candidate, count, seed):
    """Returns what random networks of one input give along a line, `(count, points, 1)`."""
    line = np.linspace(-1, 1, POINTS, dtype="float32").reshape(POINTS, 1, 1, 1)
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


def scales(kind, measure):
    """Returns the ways in which a measure is given: those that scale with the logits both ways."""
    both = measure in ("total_variation", "second_difference")
    return ("", ", relative") if both else ("",)


def measures(curves):
    """Returns the mean of each measure over the ellipses of each kind, and its spread, a dict."""
    found = {}
    for kind, values in curves.items():
        for relative in (False, True):
            smooth = analysis.smoothness(values, kind != "random", relative)
            for measure in MEASURES:
                how = ", relative" if relative else ""
                if how not in scales(kind, measure):
                    continue
                numbers = getattr(smooth, measure)
                found[f"{kind}, {measure}{how}"] = float(np.mean(numbers))
                found[f"{kind}, {measure}{how}, deviation"] = float(np.std(numbers))
    return found


def kept(candidate, settings):
    """Returns the path of a candidate's curves that are to be drawn; they are not committed."""
    folder = trials.SMOKE_FOLDER if settings.smoke else trials.FOLDER
    return folder / f"landscape, {comparison.part_name(settings)}, {candidate}.npz"


def keep(candidate, settings, curves):
    """Writes the curves of one candidate, which may be drawn by a later process."""
    with files.replacing(kept(candidate, settings)) as temporary, open(temporary, "wb") as file:
        np.savez(file, **curves)


def draw(settings):
    """Writes the first ellipse of each kind, and the first random network, side by side."""
    paths = {candidate: kept(candidate, settings) for candidate in CANDIDATES}
    if not all(there.exists() for there in paths.values()):
        print("No picture is drawn: the curves of seed 0 are not in this checkout's runs/trials.")
        return
    drawn = {candidate: dict(np.load(there)) for candidate, there in paths.items()}
    for kind in KINDS:
        figure = plots.curves_along({name: curves[kind] for name, curves in drawn.items()})
        plots.save_figure(figure, comparison.picture(settings, kind))


def markdown(part):
    """Returns the table: a row a measure."""
    lines = [
        "| | CNN, mean (n) | AM, mean (n) | AM - CNN | 95 % interval | p |",
        "|---|---|---|---|---|---|",
    ]
    for name, test in part["tests"].items():
        measure = name.removeprefix("AM minus CNN, ")
        cells = [
            accuracies.mean_and_spread(part["smoothness"][c][measure], ".3g") for c in CANDIDATES
        ]
        lines.append(
            f"| {measure} | {' | '.join(cells)} | {test['difference']:+.3g} "
            f"| {accuracies.interval(test, '.3g')} | {accuracies.p_value(test)} |"
        )
    return "\n".join(lines)


def judged(name, part):
    """Figures 1, 3 and 4: the two measures that speak of how often and how far curves turn."""
    for kind in KINDS:
        for measure in ("total_variation, relative", "monotone_pieces"):
            test = part["tests"][f"AM minus CNN, {kind}, {measure}"]
            yield (
                f"{kind}: {measure} is lower with attention (CNN minus AM)",
                verdicts.lower(name, part, test, CANDIDATES),
            )


SECTIONS = (
    Section(
        "landscape",
        "FMM, Figures 1, 3 and 4",
        "the landscape with attention is smoother.",
        markdown,
        judged,
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
