"""Is a network with attention less sensitive to its input? Table II of the FMM paper.

Question: "Towards Understanding the Effectiveness of Attention Mechanism" measures the norm of the
input-output Jacobian (J) and the variance of the mean logit under noise (S) of a small network
without (CNN) and with gates (AM), once each, and finds both much lower with them. Are they?
Data: MNIST, Fashion-MNIST and CIFAR-10; images divided by 255; all 10,000 test images.
Command:

    python -m recipes.papers.sensitivity --dataset mnist --epochs 10
    python -m recipes.papers.sensitivity --dataset fashion_mnist --epochs 10
    python -m recipes.papers.sensitivity --dataset cifar10 --epochs 20

This compares at equal epochs, when AM has learned less; smoothness_along_training does so at equal
loss. The networks are those of multiplication_is_the_key, trained on the same schedule and used
where they are there. J is of the softmax outputs, as `analysis.jacobian_sensitivity` defines it;
also of the logits, which a confident softmax does not flatten. S is of the logits, with noise of
standard deviation 0.1 and 10 draws an image (the paper states neither). Fixed before the first run:
the criterion is the ratio AM / CNN, averaged on a logarithmic scale, with a paired t-test of its
logarithm over the seeds: a tenth less and a tenth more weigh the same.
Cost: the training, and a minute for each network, on 2 cores.
Measured: recipes/results/sensitivity.json and docs/reproduction.md.
"""

import dataclasses
import math

import numpy as np

from keras_fmm import analysis
from recipes.lab import accuracies, comparison, trials, verdicts
from recipes.lab.sections import Section
from recipes.lab.settings import setting, shown, start
from recipes.papers.networks import builder

CANDIDATES = ("CNN", "AM")
MEASURES = ("jacobian", "jacobian_of_logits", "output_sensitivity")
NOISE, DRAWS = 0.1, 10
# Table II. Its J is by its scale the sum over the 10,000 test images.
PAPER = {
    "mnist": {"jacobian_sum": (677, 357), "output_sensitivity": (7.72, 2.61)},
    "fashion_mnist": {"jacobian_sum": (11437, 7492), "output_sensitivity": (93.10, 47.04)},
    "cifar10": {"jacobian_sum": (17347, 12408), "output_sensitivity": (974.40, 235.54)},
}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    output: str = setting("recipes/results/sensitivity.json", "where results go")


def main(settings):
    """Measures what is missing, tests and prints; returns the part of the results, a dict."""
    settings, dataset, schedule = comparison.begun(settings)

    def measure(candidate, seed):
        model, found = trials.trained(
            candidate, builder(candidate), dataset, schedule, seed, shown(settings)
        )
        images = trials.examples(dataset, "test")[0][: 50 if settings.smoke else None]
        return {**found, **sensitivities(model, images)}

    fixed = {**dataclasses.asdict(schedule), "noise": NOISE, "draws": DRAWS}
    part = comparison.measured(settings, fixed, CANDIDATES, measure)
    conclusions = {
        **accuracies.conclusions(part, dataset.classes),
        "sensitivity": {
            name: {m: comparison.summary(comparison.values(part, name, m)) for m in MEASURES}
            for name in CANDIDATES
        },
        "tests": {f"log of AM / CNN, {m}": log_ratio(part, m) for m in MEASURES},
        "paper": {
            measure: dict(zip(CANDIDATES, figures, strict=True))
            for measure, figures in PAPER.get(settings.dataset, {}).items()
        },
    }
    part = comparison.conclude(settings, conclusions)
    print(markdown(part))
    return part


def sensitivities(model, images):
    """Returns each measure and its standard error over the images, a dict."""
    estimates = {
        "jacobian": analysis.jacobian_sensitivity(model, images),
        "jacobian_of_logits": analysis.jacobian_sensitivity(model, images, of="logits"),
        "output_sensitivity": analysis.output_sensitivity(model, images, NOISE, DRAWS),
    }
    found = {"images": len(images)}
    for name, estimate in estimates.items():
        found[name] = estimate.mean
        found[f"{name}_standard_error"] = estimate.standard_error
    return found


def log_ratio(part, measure):
    """Returns the paired test of the logarithms of AM's and CNN's measure."""
    ours, theirs = comparison.paired(part, "AM", "CNN", measure)
    return comparison.paired_test(np.log(ours), np.log(theirs))


def markdown(part):
    """Returns the table: a row a measure, with the sum of J, the ratio and the paper's figures."""
    images = next(iter(part["trials"]["CNN"].values()))["images"]
    lines = [
        "| | CNN, mean (n) | AM, mean (n) | AM / CNN | 95 % interval | p | paper: CNN, AM, ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for measure in MEASURES:
        test = part["tests"][f"log of AM / CNN, {measure}"]
        cells = [
            accuracies.mean_and_spread(part["sensitivity"][name][measure], style=".3g")
            for name in CANDIDATES
        ]
        ratio, interval = f"{np.exp(test['difference']):.2f}", "-"
        if test["confidence_95"] is not None:
            interval = " to ".join(f"{np.exp(x):.2f}" for x in test["confidence_95"])
        p_value = accuracies.p_value(test)
        lines.append(f"| {measure} | {' | '.join(cells)} | {ratio} | {interval} | {p_value} | - |")
        key = "jacobian_sum" if measure == "jacobian" else measure
        if key in part["paper"]:
            cnn, am = (part["paper"][key][name] for name in CANDIDATES)
            lines[-1] = lines[-1].removesuffix("- |") + f"{cnn}, {am}, {am / cnn:.2f} |"
        if measure == "jacobian":
            sums = [
                f"{images * part['sensitivity'][name][measure]['mean']:.0f}" for name in CANDIDATES
            ]
            lines.append(f"| its sum over {images} images | {' | '.join(sums)} | | | | |")
    return "\n".join(lines)


def judged(name, part):
    """Table II: J and S with attention, on a logarithmic scale."""
    figures = PAPER.get(name.split(", ")[0], {})
    for measure, quantity, key in (
        ("jacobian", "the Jacobian's norm J", "jacobian_sum"),
        ("output_sensitivity", "the logits' variance S", "output_sensitivity"),
    ):
        test = log_ratio(part, measure)
        expected = None
        if key in figures:
            plain, attended = figures[key]
            expected = math.log(attended / plain)
        yield (
            f"{quantity} is lower with attention after equally many epochs (log of CNN / AM)",
            dataclasses.replace(
                verdicts.lower(name, part, test, CANDIDATES, expected),
                paper=f"{math.exp(expected):.2f} times" if expected else "-",
                ours=f"{math.exp(test['difference']):.2f} times",
            ),
        )


SECTIONS = (
    Section(
        "sensitivity",
        "FMM, Table II",
        "a network with attention is less sensitive to its input.",
        markdown,
        judged,
        deviations=(
            "10 and 20 epochs of 200; noise and draws of S are ours. Equal epochs are not "
            "equal training: see smoothness_along_training."
        ),
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
