"""What matters in self-attention for images? The ablations of two papers, on small networks.

Question: "Attention Augmented Convolutional Networks" (Bello et al.) compares how positions are
told apart, and how large a share of the channels attention gives; "Stand-Alone Self-Attention in
Vision Models" (Ramachandran et al.) how large a window must be, and in which stages attention may
take the place of convolutions. Do small networks show the same?
Data: digits, or CIFAR-10 by `--dataset cifar10`; images divided by 255; a tenth of train is held
out for the curves.
Command:

    python -m recipes.papers.self_attention --study positions --seeds 4
    python -m recipes.papers.self_attention --study share
    python -m recipes.papers.self_attention --study window
    python -m recipes.papers.self_attention --study stages

All networks are ResNets of four bottlenecks, (1, 1, 1, 1) with 3x3 places of 16 to 128 filters, a
3x3 stem, and attention of four heads. "positions" and "share": attention-augmented convolutions
with as large a share of keys as of values and at least 8 channels of keys a head; in stages 1 to 3
of digits, whose maps are 8x8, 4x4 and 2x2, and in stages 2 to 4 of larger images. A share of 1 is
`RelativeSelfAttention2D`; positions are compared at a share of a half. "window" and "stages":
`LocalSelfAttention2D`, in all stages with windows of 3 to 11, and with windows of 7 in some. On
digits windows above 7 see hardly more, and the fourth stage has one position. Fixed before the
first run: SGD with momentum 0.9 and batches of 64, a constant learning rate of 0.05, no weight
decay, no augmentation; criterion and paired tests as in multiplication_is_the_key. The papers train
large networks on ImageNet: their figures are not ours to compare.
Cost: digits, two to ten seconds an epoch and network on 2 cores with other work beside it.
Measured: recipes/results/self_attention.json and docs/reproduction.md.
"""

import dataclasses
import functools

from keras_fmm import analysis, layers, models
from recipes.lab import accuracies, comparison, trials, verdicts
from recipes.lab.sections import Section
from recipes.lab.settings import setting, shown, start

HEADS = 4
POSITIONS = {
    "none": None,
    "relative": "relative",
    "sinusoidal": "sinusoidal",
    "coordinates": "coordinates",
    "absolute": "absolute",
}
SHARES = (0.25, 0.5, 0.75, 1.0)
WINDOWS = (3, 5, 7, 9, 11)
STAGES = ("1234", "234", "34", "4", "1", "12", "123")
# The smallest image whose second stage is worth attending to.
LARGE = 16


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    study: str = setting(
        "positions", "which question", choices=("positions", "share", "window", "stages")
    )
    dataset: str = setting("digits", "`digits`, or a name of tensorflow-datasets")
    epochs: int = setting(20, "passes over train", minimum=1)
    output: str = setting("recipes/results/self_attention.json", "where results go")


def main(settings):
    """Trains what is missing, tests, prints; returns the part of the results, a dict."""
    study = settings.study
    settings, dataset, schedule = comparison.begun(settings, batch_size=64)
    found = candidates(study, is_large=dataset.input_shape[0] >= LARGE)
    if settings.smoke:
        found = dict(list(found.items())[:3])

    def measure(candidate, seed):
        name, convolution = found[candidate]
        build = functools.partial(network, convolution)
        model, measured = trials.trained(
            f"self_attention {name}", build, dataset, schedule, seed, shown(settings)
        )
        costs = {"parameters": model.count_params(), "multiply_adds": analysis.flops(model)}
        return {**measured, **costs}

    part = comparison.measured(settings, dataclasses.asdict(schedule), found, measure, study)
    others = [name for name in found if name != "convolution"]
    pairs = [(name, "convolution") for name in others]
    pairs += [pair for pair in PAIRS[study] if set(pair) <= set(found) and pair not in pairs]
    conclusions = {
        **accuracies.conclusions(part, dataset.classes),
        "tests": {f"{a} minus {b}": accuracies.test(part, a, b) for a, b in pairs},
    }
    part = comparison.conclude(settings, conclusions, study)
    print(table(part))
    return part


def candidates(study, is_large):
    """Returns the networks of a study: by the candidate's name, that of its trial and what stands
    in its 3x3 places, as of `models.ResNet`.

    Args:
        study: str.
        is_large: bool, whether the second stage of the images is worth attending to.
    """
    places = "stage[234]_*" if is_large else "stage[123]_*"
    found = {"convolution": ("convolution", None)}
    if study == "positions":
        for name, positions in POSITIONS.items():
            layer = functools.partial(augmented, 0.5, positions)
            found[name] = (f"share 0.5 {name}", {places: layer})
    elif study == "share":
        for share in SHARES:
            layer = functools.partial(augmented, share, "relative")
            found[f"share {share:g}"] = (f"share {share:g} relative", {places: layer})
    elif study == "window":
        for size in WINDOWS:
            found[f"window {size}"] = (f"window {size} in 1234", local(size, "1234"))
    else:
        for stages in STAGES:
            found[f"stages {stages}"] = (f"window 7 in {stages}", local(7, stages))
    return found


def network(convolution, **arguments):
    """Returns the network with this in its 3x3 places."""
    return models.ResNet(
        (1, 1, 1, 1), filters=16, stem="small", convolution=convolution, **arguments
    )


def augmented(share, positions, filters, kernel_size, **arguments):
    """Returns the layer in the place of a convolution, of which attention has a share."""
    of_head = round(share * filters / HEADS)
    keys = max(of_head, 8)
    if share < 1:
        return layers.AttentionAugmentedConv2D(
            filters,
            kernel_size,
            num_heads=HEADS,
            key_dim=keys,
            value_dim=of_head,
            positions=positions,
            **arguments,
        )
    # Nothing is left of the convolution. The 3x3 convolutions of these blocks have no stride.
    return layers.RelativeSelfAttention2D(
        HEADS, keys, of_head, positions, use_bias=False, name=arguments["name"]
    )


def local(size, stages):
    """Returns local attention with windows of a size in the 3x3 places of these stages."""

    def layer(kernel_size, **arguments):
        return layers.LocalSelfAttention2D(kernel_size=size, num_heads=HEADS, **arguments)

    return {f"stage[{stages}]_*": layer}


def table(part):
    """Returns the tables of accuracies and of costs."""
    return accuracies.markdown(part) + "\n\n" + accuracies.costs(part, timed=False)


# What the papers say is better, and of what, by the study.
PAIRS = {
    "positions": [("relative", "none"), ("relative", "sinusoidal"), ("relative", "coordinates")],
    "share": [("share 0.25", "convolution"), ("convolution", "share 1")],
    "window": [("window 7", "window 3"), ("window 11", "window 7")],
    "stages": [("stages 34", "stages 1234"), ("stages 34", "stages 12")],
}


def judged(name, part):
    """The papers' claims, each that one candidate is better than another."""
    study = name.split(", ")[1]
    for ours, other in PAIRS[study]:
        if {ours, other} <= set(part["trials"]):
            test = part["tests"][f"{ours} minus {other}"]
            yield f"{ours} is better than {other}", verdicts.higher(name, part, test, (ours, other))


def _section(variant, title, claim):
    return Section(
        "self_attention",
        f"Self-attention, {title}",
        claim,
        table,
        judged,
        variant,
        lambda name, part: {"study": variant},
        "Digits and a ResNet of four blocks for 20 epochs, where the papers train ResNet-50 on "
        "ImageNet.",
    )


SECTIONS = (
    _section(
        "positions", "positions", "relative positions are better than others and than none (AA)."
    ),
    _section(
        "share",
        "share of attention",
        "some attention beside a convolution is better than none, and better than all (AA).",
    ),
    _section("window", "window", "larger windows are better, up to about 7 (SASA)."),
    _section(
        "stages", "stages", "attention is of use in the late stages, not in the early (SASA)."
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
