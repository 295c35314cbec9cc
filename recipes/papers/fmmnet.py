"""Can whole networks be built of products? Table IV of the FMM paper, and how deep they can be.

Question: "Towards Understanding the Effectiveness of Attention Mechanism" replaces the sum of a
Wide ResNet's blocks, F(x) + x, by the product F(x) * x, finds FMMNet slightly better, and says that
more than seven such blocks explode. Is it better, and at which number of blocks do which numbers
overflow?
Data: `--study accuracy`: CIFAR-10; images divided by 255; a tenth of train is held out. `--study
depth`: digits will do.
Command:

    python -m recipes.papers.fmmnet --study depth --dataset digits --epochs 30
    python -m recipes.papers.fmmnet --study accuracy --dataset cifar10 --epochs 3

Accuracy: WideResNet of depth 16 (6 blocks) with both residuals. The paper names neither depth nor
width nor rate; three epochs of width 1 are what two cores can do, and no more was measured; fixed
before the first run: SGD with momentum 0.9, batches of 128, a constant rate
of 0.05, no weight decay, no augmentation; criterion and paired test as in
multiplication_is_the_key. Depth: chains of 1 to 27 pre-activation blocks of 16 filters between a
convolution and a classifier, trained with batches of 64 at the same rate; a chain has failed when
its loss or a weight is not finite, and has not learned when it is less than twice what guessing
gives (until 2026-11-27: no better than chance plus 20 points). For the deepest chain, untrained:
the standard deviation and the largest value of each block's output, and the norm of the loss'
gradient there.
Cost: depth, 15 minutes; accuracy, four minutes an epoch and network of width 1; on 2 cores with
nothing else to do.
Measured: recipes/results/fmmnet.json and docs/reproduction.md.
"""

import dataclasses

import keras
import numpy as np

from keras_fmm import layers, models, plots
from recipes.lab import accuracies, comparison, figures, trials, verdicts
from recipes.lab.sections import Section
from recipes.lab.settings import setting, shown, start
from recipes.papers import networks

RESIDUALS = {"add": keras.layers.Add, "multiply": layers.MultiplicativeResidual}
DEPTHS = (1, 2, 4, 6, 7, 8, 10, 12, 16, 20, 27)
LARGEST_FLOAT16 = 65504.0
# Table IV, accuracy in percent.
PAPER = {
    "cifar10": {"add": 94.36, "multiply": 94.49},
    "cifar100": {"add": 77.78, "multiply": 78.35},
    "stl10": {"add": 81.39, "multiply": 81.44},
}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    study: str = setting("depth", "which question", choices=("accuracy", "depth"))
    dataset: str = setting("digits", "`digits`, or a name of tensorflow-datasets")
    epochs: int = setting(30, "passes over train", minimum=1)
    depth: int = setting(16, "of the WideResNet of `accuracy`", minimum=10)
    width: int = setting(1, "of the WideResNet of `accuracy`", minimum=1)
    output: str = setting("recipes/results/fmmnet.json", "where results go")


def main(settings):
    """Measures what is missing, tests, draws, prints; returns the part of the results, a dict."""
    study = accuracy_study if settings.study == "accuracy" else depth_study
    return study(settings)


def accuracy_study(settings):
    """Compares the two residuals in a WideResNet."""
    settings, dataset, schedule = comparison.begun(settings, batch_size=128)
    depth, width = (10, 1) if settings.smoke else (settings.depth, settings.width)
    variant = f"WRN-{depth}-{width}"

    def measure(residual, seed):
        def build(**arguments):
            return models.WideResNet(depth, width, residual=residual, **arguments)

        return trials.attempted(
            f"{variant} {residual}", build, dataset, schedule, seed, shown(settings)
        )

    fixed = dataclasses.asdict(schedule)
    part = comparison.measured(settings, fixed, RESIDUALS, measure, variant)
    conclusions = {
        **accuracies.conclusions(part, dataset.classes, PAPER.get(settings.dataset)),
        "tests": {"multiply minus add": accuracies.test(part, "multiply", "add")},
    }
    part = comparison.conclude(settings, conclusions, variant)
    print(accuracies.markdown(part))
    return part


def depth_study(settings):
    """Trains chains of each depth, and looks into the deepest before it is trained."""
    settings, dataset, schedule = comparison.begun(settings, batch_size=64)
    depths = (1, 2) if settings.smoke else DEPTHS
    candidates = [f"{residual} {depth}" for residual in RESIDUALS for depth in depths]

    def measure(candidate, seed):
        residual, depth = candidate.split()

        def build(**arguments):
            return networks.chain(residual, int(depth), **arguments)

        found = trials.attempted(candidate, build, dataset, schedule, seed, shown(settings))
        if int(depth) == max(depths):
            keras.utils.set_random_seed(seed)
            untrained = build(input_shape=dataset.input_shape, classes=dataset.classes)
            found["norms"] = norms(untrained, dataset)
        return found

    fixed = dataclasses.asdict(schedule)
    part = comparison.measured(settings, fixed, candidates, measure, "depth")
    conclusions = {"classes": dataset.classes, "by_depth": by_depth(part, dataset.classes)}
    part = comparison.conclude(settings, conclusions, "depth")
    name = comparison.part_name(settings, "depth")
    draw_norms(name, part, comparison.picture(settings, variant="depth"))
    print(depth_table(part))
    return part


def norms(model, dataset):
    """Returns how large outputs and gradients are at each block, for 256 images, a dict of lists.

    "standard_deviation" and "largest" absolute value of the block's output, in the mode of
    training, and "gradient": the Euclidean norm of the gradient of the mean loss there. What is
    not finite is None.
    """
    # Only here: all else of this recipe runs on other backends too.
    import tensorflow as tf

    images, labels = (array[:256] for array in trials.examples(dataset, "train"))
    names = [layer.name for layer in model.layers if layer.name.startswith("block")]
    outputs = [model.get_layer(name).output for name in names]
    inside = keras.Model(model.input, [*outputs, model.output])
    with tf.GradientTape() as tape:
        *features, predicted = inside(images, training=True)
        loss = tf.reduce_mean(keras.losses.categorical_crossentropy(labels, predicted))
    gradients = tape.gradient(loss, features)
    found = {
        "standard_deviation": [np.std(x, dtype="float64") for x in features],
        "largest": [np.abs(x).max() for x in features],
        "gradient": [np.linalg.norm(x) for x in gradients],
    }
    # JSON has no infinity.
    return {
        name: [float(x) if np.isfinite(x) else None for x in numbers]
        for name, numbers in found.items()
    }


def by_depth(part, classes):
    """Returns for each chain how many of its trials stayed finite and learned, a dict."""
    found = {}
    for name, part_trials in part["trials"].items():
        scores = [trial["test_accuracy"] for trial in part_trials.values()]
        found[name] = {
            "trials": len(part_trials),
            "finite": sum(trial["finite"] for trial in part_trials.values()),
            "learned": sum(verdicts.learned(score, classes) for score in scores),
            "accuracy_percent": accuracies.summary(part, name),
        }
    return found


def depth_table(part):
    """Returns the table of the chains."""
    lines = [
        "| | trials | finite | learned | accuracy, %, guessing where not finite (n) |",
        "|---|---|---|---|---|",
    ]
    # A trial that was not finite is entered as guessing.
    for name, row in by_depth(part, accuracies.classes_of(part)).items():
        score = accuracies.mean_and_spread(row["accuracy_percent"])
        lines.append(f"| {name} | {row['trials']} | {row['finite']} | {row['learned']} | {score} |")
    return "\n".join(lines)


def draw_norms(name, part, path):
    """Writes the picture of the norms in the untrained chains of the greatest depth."""
    depth = max(int(candidate.split()[1]) for candidate in part["trials"])
    series = {
        residual: [trial["norms"] for trial in part["trials"][f"{residual} {depth}"].values()]
        for residual in RESIDUALS
    }
    figure = figures.norms_by_depth(series, limits={"largest float16": LARGEST_FLOAT16})
    count = len(series["add"])
    figures.titled(figure, name, f"{depth} blocks, untrained, a line a seed (n = {count})")
    plots.save_figure(figure, path)


def accuracy_judged(name, part):
    """Table IV: products instead of sums."""
    paper = part["paper_percent"] or {}
    expected = paper["multiply"] - paper["add"] if paper else None
    test = part["tests"]["multiply minus add"]
    verdict = verdicts.higher(name, part, test, ("multiply", "add"), expected)
    yield "F(x) * x is better than F(x) + x", verdict


def depth_judged(name, part):
    """How many multiplicative blocks can be trained; stated, not judged."""
    # Anew from the trials: the file may have been written under an older rule of what learned.
    rows = {
        int(candidate.split()[1]): row
        for candidate, row in by_depth(part, accuracies.classes_of(part)).items()
        if candidate.startswith("multiply")
    }
    infinite = [str(depth) for depth, row in rows.items() if row["finite"] < row["trials"]]
    failed = [str(depth) for depth, row in rows.items() if row["learned"] < row["trials"]]
    yield (
        "more than seven multiplicative blocks explode",
        f"no verdict, as it is stated only: of {', '.join(map(str, rows))} blocks, "
        "some trial was not finite with "
        f"{', '.join(infinite) or 'none'}, and some trial did not learn with "
        f"{', '.join(failed) or 'none'}",
    )


SECTIONS = (
    Section(
        "fmmnet",
        "FMM, Table IV",
        "a network of products is slightly better than one of sums.",
        accuracies.markdown,
        accuracy_judged,
        "WRN",
        lambda name, part: {"study": "accuracy"},
        "A WideResNet 16-1 for 3 epochs, where the paper trains wider ones for 200 with "
        "augmentation.",
    ),
    Section(
        "fmmnet",
        "FMM, depth",
        "more than seven multiplicative blocks explode.",
        depth_table,
        depth_judged,
        "depth",
        lambda name, part: {"study": "depth"},
        "Digits and 30 epochs; the paper states no measurement.",
        draw_norms,
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
