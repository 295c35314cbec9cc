"""Can a network of products be as deep as one of sums? The open question of the FMM paper.

Question: "Towards Understanding the Effectiveness of Attention Mechanism" multiplies branch and
shortcut, and says that more than seven such blocks explode. Which forms of the product stay finite
and learn, at which number of blocks, and is the best of them as accurate as the sum?
Data: digits will do; CIFAR-10 takes days on a CPU.
Command, one network and depth each; the forms are words beside the flags:

    python -m recipes.papers.deep_products add centered --network wide_resnet --blocks 54
    python -m recipes.papers.deep_products centered --network wide_resnet --blocks 102 \
        --policy mixed_float16 --epochs 3 --rate 0.1
    python -m recipes.papers.deep_products add product centered --network chain --blocks 7

KERAS_BACKEND=torch with OMP_NUM_THREADS=1 is the fastest on a CPU: a network of hundreds of layers
is not traced.

Networks: `chain`, the pre-activation blocks of 16 filters of fmmnet's depth study; `wide_resnet`,
WideResNet of width 1 and depth 2 n + 4 for n blocks. Fixed before the first run: SGD with momentum
0.9, batches of 128, a rate that rises over a tenth of the steps and falls along a cosine to 0, no
weight decay, no augmentation, no clipping. Each form has its own rate: of 0.03, 0.1 and 0.3, with
seed 0, the one with the highest mean accuracy on validation over the last fifth of the epochs, and
where the first or the last is better than all others by a point, the next beyond is tried. A trial
has failed when its loss or a weight is not finite, and has not learned when it has less than twice
what guessing gives (until 2026-11-27: chance plus 20 points; no trial is judged otherwise by it).
Changed after the sum's three rates at 54 blocks had been measured: a rate
beyond is tried from a point on, where any gain was enough before.
By block, of seed 0: the standard deviation, the largest value and the kurtosis of its output and
the norm of the loss' gradient there, for 256 images, untrained, in the mode of training; and those
of the outputs once trained, in that of inference. The theory's line is the kurtosis of a product
of L + 1 independent standard normal numbers, 3^(L + 1).
Test: the accuracy of each form minus that of the sum, in pairs of one seed; that it is not lower
by 1 point is a one-sided t-test. At 54 blocks and 40 epochs with 20 seeds, fixed after the first
seven, whose pairs deviate by 1.13 points: a power of 0.98 where the forms are equal, and of 0.78
where the product is worse by the 0.36 points of those seven.
Cost: 54 blocks, 20 epochs: 1 to 2 minutes a trial on one core; mixed_float16 eight times that.
Measured: recipes/results/deep_products.json and docs/reproduction.md.
"""

import dataclasses
import functools

import keras
import numpy as np

from keras_fmm import analysis, layers, models, plots
from recipes.lab import accuracies, comparison, figures, trials, verdicts
from recipes.lab.names import FORMS, FORMS_OF_DEPTH
from recipes.lab.sections import Section
from recipes.lab.settings import setting, shown, start
from recipes.papers import networks

# By how much more accurate on validation a rate at the end must be for the next to be tried.
WORTH_A_RATE = 0.01
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
FIRST_RATES = (0.03, 0.1, 0.3)
MARGIN = 1.0
QUANTITIES = ("standard_deviation", "largest", "kurtosis", "gradient")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    forms: tuple = setting(..., "the sum, and MultiplicativeResidual's", choices=("add", *FORMS))
    network: str = setting("wide_resnet", "of which blocks", choices=("chain", "wide_resnet"))
    blocks: int = setting(54, "how many", minimum=1)
    policy: str = setting(
        "float32", "of dtypes", choices=("float32", "mixed_float16", "mixed_bfloat16")
    )
    rate: float | None = setting(None, "of all forms; none: each form's best", minimum=0.0)
    dataset: str = setting("digits", "`digits`, or a name of tensorflow-datasets")
    seeds: int = setting(5, "how many seeds, from 0 on; more that are there stay", minimum=1)
    epochs: int = setting(20, "passes over train", minimum=1)
    output: str = setting("recipes/results/deep_products.json", "where results go")


@dataclasses.dataclass(frozen=True)
class Schedule(trials.Schedule):
    """SGD whose rate rises over a part of the steps and falls along a cosine."""

    warmup: float = 0.1

    def rate(self, examples):
        steps = self.epochs * (examples // self.batch_size)
        rising = max(1, round(self.warmup * steps))
        return keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - rising), warmup_target=self.learning_rate, warmup_steps=rising
        )


def main(settings):
    """Measures what is missing, tests, draws, prints; returns the part of the results, a dict."""
    if settings.network == "wide_resnet" and settings.blocks % 3:
        nearest = max(3, settings.blocks - settings.blocks % 3)
        raise ValueError(
            "`blocks` of a wide_resnet must be a multiple of 3, as it has three stages of as many. "
            f"Received: blocks={settings.blocks}. Take {nearest} or {nearest + 3}."
        )
    settings, dataset, schedule = comparison.begun(settings, batch_size=128)
    if settings.smoke:
        settings = dataclasses.replace(settings, network="chain", blocks=2, rate=0.1)
    schedule = Schedule(**dataclasses.asdict(schedule))
    variant = settings.network
    if settings.policy != "float32":
        variant += f" {settings.policy}"
    fixed = dataclasses.asdict(schedule)
    del fixed["learning_rate"]

    def measure(candidate, seed):
        form, blocks, rate = candidate_of(candidate)
        build = functools.partial(built, settings.network, form, blocks)
        name = f"deep_products {variant} {form} {blocks} {schedule.epochs} epochs"
        at_rate = dataclasses.replace(schedule, learning_rate=rate)
        images = [array[:256] for array in trials.examples(dataset, "train")]

        def look(model):
            found = sizes(model, *images)
            return {"largest": max(found["largest"]), **({"trained": found} if not seed else {})}

        with policy(settings.policy):
            arguments = (name, build, dataset, at_rate, seed, shown(settings))
            found = trials.attempted(*arguments, look=look)
            if seed == 0:
                keras.utils.set_random_seed(seed)
                model = build(input_shape=dataset.input_shape, classes=dataset.classes)
                found["untrained"] = sizes(model, *images, training=True)
        return found

    def measured(candidates, seeds):
        asked = dataclasses.replace(settings, seeds=seeds)
        return comparison.measured(asked, fixed, candidates, measure, variant)

    rates = {}
    beyond = dict.fromkeys(settings.forms, FIRST_RATES)
    if settings.rate is not None:
        beyond = dict.fromkeys(settings.forms, (settings.rate,))
    while beyond != rates:
        rates = beyond
        part = measured([named(form, settings.blocks, r) for form in rates for r in rates[form]], 1)
        beyond = {form: rates_beyond(part, form, settings.blocks, rates[form]) for form in rates}
    if settings.seeds > 1:
        chosen = [best(part, form, settings.blocks, rates[form]) for form in settings.forms]
        part = measured(chosen, settings.seeds)
    part = comparison.conclude(settings, conclusions(part, dataset.classes), variant)
    name = comparison.part_name(settings, variant)
    draw(name, part, comparison.picture(settings, variant=variant))
    print(table(part))
    return part


class policy:
    """Sets Keras' policy of dtypes while it is entered."""

    def __init__(self, name):
        self._name = name

    def __enter__(self):
        self._before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self._name)

    def __exit__(self, *error):
        keras.config.set_dtype_policy(self._before)


def built(network, form, blocks, input_shape, classes):
    """Returns the network of so many blocks that merge by a form, or by the sum."""
    residual = "add"
    if form != "add":
        depth = blocks if form in FORMS_OF_DEPTH else None
        residual = functools.partial(layers.MultiplicativeResidual, form, depth)
    if network == "chain":
        try:
            return networks.chain(residual, blocks, input_shape, classes)
        except RecursionError as error:
            raise ValueError(
                "`blocks` of a chain must be as few as Keras can follow within Python's limit of "
                f"recursion. Received: blocks={blocks}. Take 100 or fewer."
            ) from error
    return models.WideResNet(
        2 * blocks + 4, 1, input_shape=input_shape, classes=classes, residual=residual
    )


def named(form, blocks, rate):
    return f"{form} {blocks} at {rate:g}"


def candidate_of(name):
    """Returns the form, the blocks and the rate of a candidate."""
    form, blocks, _, rate = name.split()
    return form, int(blocks), float(rate)


def on_validation(part, candidate):
    """Returns what a rate is chosen by: the accuracy of seed 0 over the last fifth of the epochs.

    -1 for a trial that did not stay finite.
    """
    curve = part["trials"][candidate]["0"]["val_accuracy"]
    return float(np.mean(curve[-max(1, len(curve) // 5) :])) if curve else -1.0


def rates_beyond(part, form, blocks, tried):
    """Returns the rates to try: the same, or one more where the first or last is clearly best."""
    scores = [on_validation(part, named(form, blocks, rate)) for rate in tried]
    if len(tried) < 2:
        return tried
    lower = [rate for rate in RATES if rate < tried[0]]
    higher = [rate for rate in RATES if rate > tried[-1]]
    if scores[0] > max(scores[1:]) + WORTH_A_RATE and lower:
        return (lower[-1], *tried)
    if scores[-1] > max(scores[:-1]) + WORTH_A_RATE and higher:
        return (*tried, higher[0])
    return tried


def best(part, form, blocks, rates=RATES):
    """Returns the candidate of a form whose rate, of these, is the best on validation."""
    tried = [named(form, blocks, rate) for rate in rates]
    tried = [name for name in tried if name in part["trials"]]
    return max(tried, key=lambda name: (on_validation(part, name), -candidate_of(name)[2]))


def sizes(model, images, labels, training=False):
    """Returns how large outputs and gradients are at each block, a dict of lists.

    "standard_deviation", "largest" absolute value and "kurtosis" of the block's output and, in the
    mode of training, "gradient": the Euclidean norm of the gradient of the mean loss there. What
    is not finite is None.
    """
    kinds = (keras.layers.Add, layers.MultiplicativeResidual)
    outputs = [layer.output for layer in model.layers if isinstance(layer, kinds)]
    inside = keras.Model(model.input, [*outputs, model.output])

    def function(watch, images):
        watch(images)
        # Batch norm's moving statistics stay as they are.
        with keras.StatelessScope():
            *features, predicted = inside(images, training=training)
        # As in a training: the loss of a network in half precision is not of half precision.
        predicted = keras.ops.cast(predicted, "float32")
        loss = keras.ops.mean(keras.losses.categorical_crossentropy(labels, predicted))
        return loss, features, ()

    if training:
        images = keras.ops.convert_to_tensor(images)
        _, features, _, pullback = analysis.gradients.vjp(function, images)
        found_gradients = [as_array(x) for x in pullback(keras.ops.ones(()))]
    else:
        *features, _ = inside.predict(images, verbose=0)
        found_gradients = []
    features = [as_array(x) for x in features]
    # What overflows is what is looked for.
    with np.errstate(all="ignore"):
        found = {
            "standard_deviation": [x.std() for x in features],
            "largest": [np.abs(x).max() for x in features],
            "kurtosis": [np.mean(x**4) / np.mean(x**2) ** 2 for x in features],
            "gradient": [np.sqrt(np.sum(x**2)) for x in found_gradients],
        }
    # JSON has no infinity.
    return {
        name: [float(f"{x:.4g}") if np.isfinite(x) else None for x in numbers]
        for name, numbers in found.items()
        if numbers
    }


def as_array(x):
    return keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")).astype("float64")


def conclusions(part, classes):
    """Returns what follows from the trials, a dict."""
    groups = {}
    for name in part["trials"]:
        form, blocks, rate = candidate_of(name)
        groups.setdefault((form, blocks), []).append(rate)
    by_blocks = sorted(groups.items(), key=lambda item: item[0][1])
    chosen = {f"{form} {n}": best(part, form, n, rates) for (form, n), rates in by_blocks}
    found = {"chosen": chosen, **accuracies.conclusions(part, classes)}
    found["by_blocks"], found["tests"] = {}, {}
    for name, candidate in chosen.items():
        runs = part["trials"][candidate].values()
        scores = [trial["test_accuracy"] for trial in runs]
        largest = [trial["largest"] for trial in runs if trial.get("largest") is not None]
        found["by_blocks"][name] = {
            "rate": candidate_of(candidate)[2],
            "trials": len(runs),
            "finite": sum(trial["finite"] for trial in runs),
            "learned": sum(verdicts.learned(score, classes) for score in scores),
            "accuracy_percent": accuracies.summary(part, candidate),
            "largest": max(largest, default=None),
        }
        form, blocks, _ = candidate_of(candidate)
        if form != "add" and (twin := chosen.get(f"add {blocks}")):
            ours, theirs = comparison.paired(part, candidate, twin, "test_accuracy")
            found["tests"][name] = comparison.not_worse_test(100 * ours, 100 * theirs, MARGIN)
    return found


def table(part):
    """Returns the table of the forms at each number of blocks."""
    lines = [
        "| form, blocks | rate | trials | finite | learned "
        "| accuracy, guessing where not finite, % (n) | largest activation "
        "| minus the sum, points | 95 % interval | above, with 95 % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    part = {**part, **conclusions(part, accuracies.classes_of(part))}
    for name, row in part["by_blocks"].items():
        largest = "-" if row["largest"] is None else f"{row['largest']:.3g}"
        test = part["tests"].get(name)
        compared = ["-", "-", "-"]
        if test:
            compared = [f"{test['difference']:+.2f}", accuracies.interval(test), "-"]
            if test["lower_95"] is not None:
                compared[2] = f"{test['lower_95']:+.2f}"
        counts = [f"{row['rate']:g}", row["trials"], row["finite"], row["learned"]]
        score = accuracies.mean_and_spread(row["accuracy_percent"])
        cells = [name, *counts, score, largest, *compared]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def draw(name, part, path):
    """Writes the picture of a part: accuracy by number of blocks, and sizes within the deepest."""
    from matplotlib.figure import Figure

    part = {**part, **conclusions(part, accuracies.classes_of(part))}
    deepest = {}
    for chain, candidate in part["chosen"].items():
        form, blocks = chain.split()
        if "untrained" in part["trials"][candidate]["0"]:
            deepest[form] = max((int(blocks), candidate), deepest.get(form, (0, "")))
    figure = Figure(figsize=(13, 7), dpi=110, layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    forms = list(dict.fromkeys(name.split()[0] for name in part["by_blocks"]))
    for number, form in enumerate(forms):
        rows = {int(n.split()[1]): r for n, r in part["by_blocks"].items() if n.split()[0] == form}
        blocks = sorted(rows)
        means = [rows[b]["accuracy_percent"]["mean"] for b in blocks]
        style = {"color": f"C{number}", "label": form, "linewidth": 1.2}
        axes[0].plot(blocks, means, marker="o", markersize=3, **style)
        trial = part["trials"][deepest[form][1]]["0"]
        panels = [("untrained", name) for name in QUANTITIES] + [("trained", "largest")]
        for panel, (state, quantity) in zip(axes[1:], panels, strict=True):
            numbers = np.array(trial.get(state, {}).get(quantity, []), "float64")
            panel.plot(range(1, len(numbers) + 1), numbers, **style)
            panel.set(xlabel="block", ylabel=f"{quantity.replace('_', ' ')}, {state}")
    theory = np.arange(1, 1 + min(16, max(blocks for blocks, _ in deepest.values())))
    axes[3].plot(theory, 3.0 ** (theory + 1), "k:", label="3^(L + 1)")
    axes[0].set(xlabel="blocks", ylabel="accuracy on test, %", xscale="log")
    for panel in axes[1:]:
        panel.set_yscale("log")
    for panel in axes:
        panel.grid(alpha=0.3)
        panel.legend(fontsize="x-small")
    counts = sorted({row["trials"] for row in part["by_blocks"].values()})
    of_accuracy = f"accuracy, mean over the seeds (n = {' or '.join(map(str, counts))})"
    figures.titled(figure, name, f"{of_accuracy}; the rest, seed 0 (n = 1)")
    plots.save_figure(figure, path)


def judged(name, part):
    """Whether each form stays finite, and is not worse than the sum."""
    # Anew from the trials: the file may have been written under an older rule of what learned.
    part = {**part, **conclusions(part, accuracies.classes_of(part))}
    for form, row in part["by_blocks"].items():
        if not form.startswith("add "):
            finite = row["finite"] == row["trials"]
            state = "**holds**" if finite else "**does not hold**"
            label = "{} blocks of {}".format(*reversed(form.split()))
            found = state, f"{row['finite']} of {row['trials']} trials"
            if row["trials"] < 2:
                found = "cannot tell", "one seed"
            candidates = (part["chosen"][form],)
            counted = {"n": row["trials"], "candidates": candidates}
            yield f"{label} stay finite", verdicts.Finding(*found, **counted)
        if form in part["tests"] and row["learned"] == row["trials"]:
            yield f"{label} are less than 1 point worse than sums", not_worse(name, part, form)


def not_worse(name, part, form):
    """Returns the finding on the claim that a form is not worse than the sum by the margin."""
    candidates = (part["chosen"][form], part["chosen"][f"add {form.split()[1]}"])
    ours, theirs = comparison.paired(part, *candidates, "test_accuracy")
    test = comparison.not_worse_test(100 * ours, 100 * theirs, MARGIN)
    return verdicts.not_worse(name, part, test, candidates)


def flags_of(name, part):
    """Yields the settings of each command that measured a part: one for each number of blocks.

    Those of a policy of dtypes were given a rate, and are one for each rate.
    """
    network, _, policy = name.split(", ")[1].partition(" ")
    commands = {}
    for form, blocks, rate in map(candidate_of, part["trials"]):
        given = {"policy": policy, "rate": rate} if policy else {}
        commands.setdefault((blocks, *given.values()), (given, {}))[1][form] = None
    for (blocks, *_), (given, forms) in sorted(commands.items(), key=lambda item: item[0]):
        yield {"forms": tuple(forms), "network": network, "blocks": blocks, **given}


def deviations(name):
    """Returns how a part differs from the paper, a str."""
    found = ["The forms but the product itself are ours; digits, which the paper does not use."]
    if name == "digits, wide_resnet, 20 epochs":
        found.append(
            "The sum and centered of 54 blocks are best at 0.3, the highest of their rates, by "
            "less than the point from which the next would have been tried, a rule that was made "
            "when the sum's were there."
        )
    if name.endswith("wide_resnet, 40 epochs"):
        found.append("5, then 7 seeds were looked at before 20 were decided on.")
    return " ".join(found)


SECTIONS = (
    Section(
        "deep_products",
        "Deep products",
        "more than seven multiplicative blocks explode, and gates that start at 1 do not.",
        table,
        judged,
        flags=flags_of,
        deviations=deviations,
        draw=draw,
        only_primary=True,
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
