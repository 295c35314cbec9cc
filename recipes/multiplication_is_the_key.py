"""Does attention help because it multiplies? Table I of the FMM paper, with several seeds.

Question: "Towards Understanding the Effectiveness of Attention Mechanism" trains a small network
plain (CNN), with a squeeze-and-excite gate after each convolution (AM), with the gate's ReLU left
out (AMnoRL), and with the gate added instead of multiplied (AMnoMTP), once each, and finds AM and
AMnoRL better than the other two. Are they?
Data: MNIST and CIFAR-10; images divided by 255; a tenth of train is held out for the curves.
Command:

    python -m recipes.multiplication_is_the_key --dataset mnist --epochs 10
    python -m recipes.multiplication_is_the_key --dataset cifar10 --epochs 20

Fixed before the first run: SGD with momentum 0.9 and batches of 400 (the paper's); a constant
learning rate of 0.05 (recipes.train's own; the paper states none), not tuned; no weight decay, no
augmentation; gates with reduction 16; the criterion is the accuracy on test after the last epoch;
AM is compared with each other row by a paired t-test over the seeds, which give weights and order.
The paper's schedule is 200 epochs: `--epochs 200` goes on from the same folders.
Cost: about 15 seconds an epoch and network on 2 cores with nothing else to do.
Measured: recipes/results/multiplication_is_the_key.json and docs/reproduction.md.
"""

import dataclasses

import numpy as np

from keras_fmm import data, layers, models, plots
from recipes import comparison, trials
from recipes.settings import output_path, setting, start

ATTENTIONS = {
    "CNN": None,
    "AM": layers.SqueezeExcite,
    "AMnoRL": lambda: layers.SqueezeExcite(activation=None),
    "AMnoMTP": lambda: layers.SqueezeExcite(merge="add"),
}
# Table I, accuracy in percent.
PAPER = {
    "mnist": {"CNN": 98.61, "AM": 99.03, "AMnoRL": 99.06, "AMnoMTP": 98.69},
    "cifar10": {"CNN": 79.57, "AM": 80.40, "AMnoRL": 80.12, "AMnoMTP": 79.66},
}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    output: str = setting("recipes/results/multiplication_is_the_key.json", "where results go")


def main(settings):
    """Trains what is missing, tests, draws, prints; returns the part of the results, a dict."""
    settings = comparison.resolved(settings)
    dataset = data.load(settings.dataset, data_dir=settings.data_dir)
    schedule = trials.Schedule(settings.epochs, smoke=settings.smoke)

    def measure(candidate, seed):
        return trials.trained(candidate, builder(candidate), dataset, schedule, seed)[1]

    part = comparison.measured(settings, dataclasses.asdict(schedule), ATTENTIONS, measure)
    accuracies = {name: 100 * comparison.values(part, name, "test_accuracy") for name in ATTENTIONS}
    part = comparison.conclude(
        settings,
        {
            "accuracy_percent": {n: comparison.summary(v) for n, v in accuracies.items()},
            "paper_percent": PAPER.get(settings.dataset),
            "am_minus": {
                name: scaled_test(part, "AM", name) for name in ATTENTIONS if name != "AM"
            },
            "flat": {name: all_flat(part, name) for name in ATTENTIONS},
        },
    )
    draw(part, settings)
    print(markdown(part))
    return part


def builder(candidate):
    """Returns the function that builds a candidate's network."""

    def build(**arguments):
        return models.ToyCNN(attention=ATTENTIONS[candidate], **arguments)

    return build


def scaled_test(part, candidate, other):
    """Returns the paired test of two candidates' accuracies, in percentage points."""
    ours, theirs = comparison.paired(part, candidate, other, "test_accuracy")
    return comparison.paired_test(100 * ours, 100 * theirs)


def all_flat(part, candidate):
    """Whether the validation curves of all of a candidate's trials have stopped rising."""
    return all(comparison.is_flat(t["val_accuracy"]) for t in part["trials"][candidate].values())


def draw(part, settings):
    """Writes the mean curves of accuracy on validation beside the results."""
    curves = {
        name: {
            "val_accuracy": np.mean([trial["val_accuracy"] for trial in trials.values()], axis=0)
        }
        for name, trials in part["trials"].items()
    }
    path = output_path(settings)
    figure = plots.training_curves(curves, metrics=["accuracy"])
    plots.save_figure(figure, path.with_name(f"{path.stem}_{settings.dataset}.png"))


def markdown(part):
    """Returns the table: a row a candidate, ours, the paper's and the test against AM."""
    lines = [
        "| | ours, mean ± standard deviation (n) | 95 % interval | paper | AM minus it, p |",
        "|---|---|---|---|---|",
    ]
    for name, row in part["accuracy_percent"].items():
        paper = (part["paper_percent"] or {}).get(name)
        lines.append(
            f"| {name} | {mean_and_spread(row)} | {interval(row)} "
            f"| {'-' if paper is None else f'{paper:.2f}'} | {difference(part['am_minus'], name)} |"
        )
    return "\n".join(lines)


def mean_and_spread(row, digits=2):
    spread = row["standard_deviation"]
    shown = "" if spread is None else f" ± {spread:.{digits}f}"
    return f"{row['mean']:.{digits}f}{shown} ({row['n']})"


def interval(row, digits=2):
    if row["confidence_95"] is None:
        return "-"
    low, high = row["confidence_95"]
    return f"{low:.{digits}f} to {high:.{digits}f}"


def difference(tests, name):
    if name not in tests:
        return "-"
    test = tests[name]
    p_value = "-" if test["p_value"] is None else f"{test['p_value']:.3f}"
    return f"{test['difference']:+.2f}, p = {p_value}"


if __name__ == "__main__":
    start(main, Settings, __doc__)
