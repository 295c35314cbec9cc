"""Does multiplication make a network smoother? Figures 3 and 4 of the FMM paper, counted.

Question: "Towards Understanding the Effectiveness of Attention Mechanism" draws what trained
networks give along ellipses through three test images, and sees smoother curves with attention. It
shows a few pictures; are the curves smoother on average? Figure 1's random networks:
random_landscape.
Data: MNIST and CIFAR-10; images divided by 255. Cross-class ellipses go through images of three
classes, single-class ones through three of one class; 200 of each, the same for all networks.
Command:

    python -m recipes.papers.landscape --dataset mnist --epochs 10
    python -m recipes.papers.landscape --dataset cifar10 --epochs 20

The networks are CNN and AM of multiplication_is_the_key, on the same schedule, and used where they
are there.
Fixed before the first run: 300 points an ellipse; the measures of `analysis.smoothness` on logits,
each neuron's values divided by their range along the ellipse (relative), so that a network with
larger logits is not called rougher; also absolute, as the figures show them. The criterion is the
paired t-test over the seeds of the mean over the ellipses; the spread over the ellipses stands
beside it. This compares at equal epochs, when AM has learned less; smoothness_along_training does
so at equal loss.
Cost: the training, and five minutes for each network, on 2 cores.
Measured: recipes/results/landscape.json and docs/reproduction.md.
"""

import dataclasses

import numpy as np

from keras_fmm import analysis, files, plots
from recipes.lab import accuracies, comparison, curves, figures, trials
from recipes.lab.sections import Section
from recipes.lab.settings import setting, shown, start
from recipes.papers.networks import builder

CANDIDATES = ("CNN", "AM")
KINDS = ("cross-class", "single-class")


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """What is trained and how long, and how much is measured."""

    ellipses: int = setting(200, "of each kind", minimum=1)
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
        drawn = {
            kind: analysis.curve(model, curves.trajectories(dataset, kind, settings.ellipses))
            for kind in KINDS
        }
        if seed == 0:
            keep(candidate, settings, {kind: values[0] for kind, values in drawn.items()})
        return {**found, **curves.measures(drawn)}

    fixed = {**dataclasses.asdict(schedule), "points": curves.POINTS, "ellipses": settings.ellipses}
    part = comparison.measured(settings, fixed, CANDIDATES, measure)
    names = [name for kind in KINDS for name in curves.names(kind)]
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


def kept(candidate, settings):
    """Returns the path of a candidate's curves that are to be drawn; they are not committed."""
    folder = trials.SMOKE_FOLDER if settings.smoke else trials.FOLDER
    return folder / f"landscape, {comparison.part_name(settings)}, {candidate}.npz"


def keep(candidate, settings, drawn):
    """Writes the curves of one candidate, which may be drawn by a later process."""
    with files.replacing(kept(candidate, settings)) as temporary, open(temporary, "wb") as file:
        np.savez(file, **drawn)


def draw(settings):
    """Writes the first ellipse of each kind, side by side."""
    paths = {candidate: kept(candidate, settings) for candidate in CANDIDATES}
    if not all(there.exists() for there in paths.values()):
        print("No picture is drawn: the curves of seed 0 are not in this checkout's runs/trials.")
        return
    drawn = {candidate: dict(np.load(there)) for candidate, there in paths.items()}
    for kind in KINDS:
        figure = plots.curves_along({name: values[kind] for name, values in drawn.items()})
        name = comparison.part_name(settings)
        figures.titled(figure, name, f"one {kind} ellipse, seed 0 (n = 1)")
        plots.save_figure(figure, comparison.picture(settings, kind))


def markdown(part):
    """Returns the table: a row a measure."""
    lines = [
        "| | CNN, mean (n) | AM, mean (n) | AM - CNN | 95 % interval | p |",
        "|---|---|---|---|---|---|",
    ]
    for measure in (name for kind in KINDS for name in curves.names(kind)):
        test = part["tests"][f"AM minus CNN, {measure}"]
        cells = [
            accuracies.mean_and_spread(part["smoothness"][c][measure], ".3g") for c in CANDIDATES
        ]
        lines.append(
            f"| {measure} | {' | '.join(cells)} | {test['difference']:+.3g} "
            f"| {accuracies.interval(test, '.3g')} | {accuracies.p_value(test)} |"
        )
    return "\n".join(lines)


def judged(name, part):
    """Figures 3 and 4: the two measures that speak of how often and how far curves turn."""
    for kind in KINDS:
        yield from curves.judged(name, part, kind)


SECTIONS = (
    Section(
        "landscape",
        "FMM, Figures 3 and 4",
        "the landscape with attention is smoother.",
        markdown,
        judged,
        deviations=(
            "10 and 20 epochs of 200; ellipses through three test images; the paper draws "
            "single curves and gives no number. Equal epochs are not equal training: see "
            "smoothness_along_training. The curves that are drawn had not been kept: they are of "
            "networks that the same command trained again on 2026-11-29."
        ),
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
