"""Does attention look at what matters? Figure 2 of the FMM paper, with controls.

Question: "Towards Understanding the Effectiveness of Attention Mechanism" compares the attention
that a gate gives to each channel with the channel's importance by FullGrad, finds Kendall's tau
about 0.05 and a cosine above 0.7 for most test images, and concludes that attention does not follow
importance. Does it, and would anything else score otherwise? The controls, which the paper lacks:
uniformly random numbers of 0 to 1 in the place of the attention, and the attention of the same
network with untrained weights (seed + 1000), both against the trained network's importance. These
controls are too weak: the attention is a factor of the importance, which theirs is not.
importance_controls has them inside the network.
Data: MNIST and CIFAR-10; images divided by 255; all 10,000 test images.
Command:

    python -m recipes.papers.importance_agreement --dataset mnist --epochs 10
    python -m recipes.papers.importance_agreement --dataset cifar10 --epochs 20

The network is AM of multiplication_is_the_key, on the same schedule, and used where it is there;
each of its three gates is measured, with and without FullGrad's bias terms, as the paper leaves
open which it took. Fixed before the first run: the criteria are the median of tau over the images,
and the share of images whose cosine is above 0.7. Vectors of positive numbers are never far from
each other in cosine: the random gate says how near.
Cost: the training, and a minute for each network, on 2 cores.
Measured: recipes/results/importance_agreement.json and docs/reproduction.md.
"""

import dataclasses

import keras
import numpy as np

from keras_fmm import analysis, plots
from recipes.lab import accuracies, comparison, figures, trials, verdicts
from recipes.lab.sections import Section
from recipes.lab.settings import setting, shown, start
from recipes.papers.networks import builder

ATTENTIONS = ("trained", "random", "untrained")
GATES = ("stage1_attention", "stage2_attention", "stage3_attention")
IMPORTANCES = ("with bias", "without bias")
# By the scale of `verdicts.interval`.
SCORES = {
    "kendall_median": "correlation",
    "cosine_median": "correlation",
    "cosine_above_0.7": "share",
}
BINS = np.linspace(-1, 1, 41)


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    output: str = setting("recipes/results/importance_agreement.json", "where results go")


def main(settings):
    """Measures what is missing, draws, prints; returns the part of the results, a dict."""
    settings, dataset, schedule = comparison.begun(settings)

    def measure(candidate, seed):
        model, found = trials.trained(
            candidate, builder(candidate), dataset, schedule, seed, shown(settings)
        )
        images = trials.examples(dataset, "test")[0][: 50 if settings.smoke else None]
        # A seed of its own, the same whether the trial ran just now or was there.
        keras.utils.set_random_seed(1000 + seed)
        untrained = builder(candidate)(input_shape=dataset.input_shape, classes=dataset.classes)
        return {**found, "agreement": agreements(model, untrained, images, seed)}

    part = comparison.measured(settings, dataclasses.asdict(schedule), ("AM",), measure)
    part = comparison.conclude(
        settings, {**accuracies.conclusions(part, dataset.classes), "agreement": summaries(part)}
    )
    draw(comparison.part_name(settings), part, comparison.picture(settings))
    print(markdown(part))
    return part


def agreements(model, untrained, images, seed):
    """Returns the scores of each gate, attention and importance, a dict of dicts."""
    rng = np.random.default_rng(seed)
    maps = {"trained": analysis.attention_maps(model, images)}
    maps["untrained"] = analysis.attention_maps(untrained, images)
    maps["random"] = {name: rng.random(x.shape) for name, x in maps["trained"].items()}
    found = {}
    for gate in GATES:
        importance = analysis.channel_importance(model, images, gate)
        kinds = {"with bias": importance.with_bias, "without bias": importance.without_bias}
        for kind, numbers in kinds.items():
            for attention in ATTENTIONS:
                scores = analysis.rank_agreement(maps[attention][gate], numbers)
                found[f"{gate}, {kind}, {attention}"] = described(scores)
    return found


def described(scores):
    """Returns medians, the share of high cosines, and histograms of the scores, a dict."""
    # A channel that no image excites has no rank: such an image has no tau.
    tau = scores.kendall[np.isfinite(scores.kendall)]
    cosine = scores.cosine[np.isfinite(scores.cosine)]
    return {
        "images_with_tau": len(tau),
        "kendall_median": float(np.median(tau)) if len(tau) else None,
        "cosine_median": float(np.median(cosine)) if len(cosine) else None,
        "cosine_above_0.7": float(np.mean(cosine > 0.7)) if len(cosine) else None,
        "kendall_histogram": np.histogram(tau, BINS)[0].tolist(),
        "cosine_histogram": np.histogram(cosine, BINS)[0].tolist(),
    }


def summaries(part):
    """Returns mean and spread over the seeds of each score but the histograms, a dict of dicts."""
    trials_ = list(part["trials"]["AM"].values())
    found = {}
    for name in trials_[0]["agreement"]:
        rows = [trial["agreement"][name] for trial in trials_]
        found[name] = {
            score: comparison.summary([row[score] for row in rows], scale)
            for score, scale in SCORES.items()
            if all(row[score] is not None for row in rows)
        }
    return found


def draw(name, part, path):
    """Writes the histograms of the first seed, with the importance that has bias terms."""
    seed, trial = next(iter(part["trials"]["AM"].items()))
    agreement = trial["agreement"]
    for score in ("kendall", "cosine"):
        panels = {
            gate: {
                attention: agreement[f"{gate}, {IMPORTANCES[0]}, {attention}"][f"{score}_histogram"]
                for attention in ATTENTIONS
            }
            for gate in GATES
        }
        figure = figures.histograms(panels, BINS, xlabel=score, ylabel="images")
        figures.titled(figure, name, f"images by agreement, seed {seed} (n = 1)")
        plots.save_figure(figure, path.with_stem(f"{path.stem}_{score}"))


def markdown(part):
    """Returns the table: a row for each gate, importance and attention."""
    lines = [
        "| gate, importance, attention | median tau (n) | median cosine (n) | above 0.7 (n) |",
        "|---|---|---|---|",
    ]
    for name, scores in part["agreement"].items():
        cells = [
            accuracies.mean_and_spread(scores[score], ".3f") if score in scores else "-"
            for score in SCORES
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def judged(name, part):
    """Figure 2 as the paper has it; that attention follows importance beyond chance it cannot say.

    The attention is a factor of the importance at the gate's input, so that any numbers in its
    place agree with it; "random" is not in its place. importance_controls has what is.
    """
    if reason := verdicts.obstacle(name, part, ("AM",), of_accuracy=False):
        yield "attention and importance", f"cannot tell: {reason}"
        return
    trials = list(part["trials"]["AM"].values())
    for gate in GATES:
        rows = [trial["agreement"][f"{gate}, {IMPORTANCES[0]}, trained"] for trial in trials]
        taus = [row["kendall_median"] for row in rows if row["kendall_median"] is not None]
        shares = [row["cosine_above_0.7"] for row in rows if row["cosine_above_0.7"] is not None]
        if min(len(taus), len(shares)) < 2:
            yield gate, "cannot tell: in some trial its attention or importance is the same of all"
            continue
        for claim, numbers, scale in (
            ("|median tau| is below 0.1 (median tau", taus, "correlation"),
            ("the cosine is above 0.7 for most images (share", shares, "share"),
        ):
            mean, interval = verdicts.interval(numbers, scale)
            text = f"{mean:.2f}" + (" ({:.2f} to {:.2f})".format(*interval) if interval else "")
            yield (
                f"{gate}: {claim} {text}, n = {len(numbers)})",
                "no verdict, as attention is a factor of this importance: see the controls",
            )


SECTIONS = (
    Section(
        "importance_agreement",
        "FMM, Figure 2",
        "attention does not follow the features' importance.",
        markdown,
        judged,
        deviations=(
            "10 and 20 epochs of 200. Its random numbers stand beside the network, not in "
            "the gate's place: the wrong null, as attention is a factor of the importance "
            "at the gate's input, which numbers in the gate's place agree with too."
        ),
        draw=draw,
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
