"""Is a network with attention smoother, or only less far trained? Table II, Figures 3 and 4 again.

Question: sensitivity and landscape find the networks with gates (AM) less sensitive and smoother
than those without (CNN) after equal epochs. But gates slow the first epochs, and all networks grow
rougher while they learn. Is AM smoother at equal loss on train, and at equal accuracy on test? And
is it smoother than a CNN made smooth by mixup or by weight decay, and than an AM made so? Is it the
product that does it, or gates that add (AMadd), and a product that does not look at the image
(AMconstant), as well? Both are rate_search's.
Data: digits, MNIST and Fashion-MNIST; images divided by 255. Measured are the first 1,000 test
images, 50 ellipses of each kind as in landscape, and the loss on the first 5,000 images of train,
or all if it has fewer, each whole and without mixup.
Command, one or more networks, which may run beside each other:

    python -m recipes.papers.smoothness_along_training CNN AM "CNN, mixup" --dataset fashion_mnist
    python -m recipes.papers.smoothness_along_training CNN AM "CNN, mixup" \
        --dataset fashion_mnist --train-images 3000 --epochs 40 --batch-size 64

On a GPU with JAX, JAX_DEFAULT_MATMUL_PRECISION=highest must stand before it.
Fixed before the first run (2026-11-27; 3,000 images: 2026-11-28): the networks and the schedule of
multiplication_is_the_key (digits and 3,000 images in batches of 64), at its rate of 0.05; mixup
with alpha 1 as in mixup_regularization; decoupled weight decay of 0.005; measured after 1, 2, 3, 5,
8, 12 and 20 epochs (of digits thrice as many, of 3,000 images twice). Of two networks of one seed,
the loss at which they are compared is the higher of the two lowest that each reaches; J, S and the
rest are interpolated there, on logarithmic scales of both, between the two measurements around the
loss, the first that reach it. So at equal accuracy, the lower of the two highest, on a linear scale
of it. The criterion is the mean logarithm of AM / CNN over the seeds, with a paired t-test. S and J
as in sensitivity. Five seeds: `python -m recipes.lab.power` plans for two to four for the paper's
ratios of J.
The loss at which two networks are compared is the end of training, which differs between the data:
so the ratios of J and S at fixed losses from 0.3 to 0.001 stand beside it (exploratory; added on
2026-11-29, when digits and Fashion-MNIST were measured and MNIST was not). So do AM at a higher
rate and a CNN whose weight decay is four times as strong (exploratory; added on 2026-11-29, when AM
and CNN of all three were measured). AM's best rate in rate_search is 0.5 on digits and 0.1 on
Fashion-MNIST; on MNIST 0.2, and 0.1 is within 0.1 points of it on validation. CNN's on
Fashion-MNIST is 0.02 since its rates were searched with three seeds: at it CNN is exploratory too,
added on 2026-11-29, when all others of Fashion-MNIST were measured. So were AMadd and AMconstant,
at 0.05, which is AMadd's best there and on MNIST.
That AM and CNN are also compared each at its best rate was decided with all of these known.
Cost: a minute a network on a GPU; 3,000 images, three minutes on one core.
Measured: recipes/results/smoothness_along_training.json.
"""

import dataclasses

import numpy as np

from keras_fmm import analysis
from recipes.lab import accuracies, comparison, curves, trials, verdicts
from recipes.lab.sections import Section
from recipes.lab.settings import setting, shown, start
from recipes.papers.networks import builder

# What of the schedule is another: fixed before the first run, and added later.
SMOOTHED = {"": {}, "mixup": {"mixup_alpha": 1.0}, "weight decay": {"weight_decay": 0.005}}
LATER = {
    "rate 0.02": {"learning_rate": 0.02},
    "rate 0.1": {"learning_rate": 0.1},
    "rate 0.5": {"learning_rate": 0.5},
    "weight decay 0.02": {"weight_decay": 0.02},
}
NETWORKS = (
    *(f"{network}, {how}" if how else network for how in SMOOTHED for network in ("CNN", "AM")),
    "AM, rate 0.1",
    "AM, rate 0.5",
    "CNN, rate 0.02",
    "CNN, weight decay 0.02",
    "AMadd",
    "AMconstant",
)
EPOCHS = (1, 2, 3, 5, 8, 12, 20)
IMAGES, OF_TRAIN, ELLIPSES = 1000, 5000, 50
NOISE, DRAWS = 0.1, 10
KINDS = ("cross-class", "single-class")
MEASURES = (
    "jacobian",
    "jacobian_of_logits",
    "output_sensitivity",
    *(f"{kind}, {m}" for kind in KINDS for m in ("total_variation, relative", "monotone_pieces")),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    networks: tuple = setting(..., "which", choices=NETWORKS)
    seeds: int = setting(5, "how many seeds, from 0 on; more that are there stay", minimum=1)
    epochs: int = setting(20, "passes over train", minimum=1)
    batch_size: int = setting(trials.Schedule.batch_size, "images a step", minimum=1)
    output: str = setting("recipes/results/smoothness_along_training.json", "where results go")


def main(settings):
    """Measures what is missing, tests, prints; returns the part of the results, a dict."""
    settings, dataset, schedule = comparison.begun(settings, settings.batch_size)
    # The same parts of the way, whatever its length.
    epochs = sorted({max(1, round(e * settings.epochs / EPOCHS[-1])) for e in EPOCHS})
    count = 2 if settings.smoke else ELLIPSES
    ellipses = {kind: curves.trajectories(dataset, kind, count) for kind in KINDS}
    images = trials.examples(dataset, "test")[0][: 20 if settings.smoke else IMAGES]
    of_train = [array[:OF_TRAIN] for array in trials.examples(dataset, "train")]

    def measure(candidate, seed):
        name, epoch = candidate_of(candidate)
        network, _, how = name.partition(", ")
        there = dataclasses.replace(schedule, epochs=epoch, **(SMOOTHED | LATER)[how])
        # Each measurement goes on with the training of the one before.
        model, found = trials.trained(
            f"along {name}", builder(network), dataset, there, seed, shown(settings)
        )
        loss, accuracy = model.evaluate(*of_train, batch_size=500, verbose=0)
        found.update(epoch=epoch, loss_on_train=loss, accuracy_on_train=accuracy)
        return {**found, **smoothness(model, images, ellipses)}

    fixed = dataclasses.asdict(schedule)
    del fixed["mixup_alpha"], fixed["weight_decay"]
    fixed.update(
        smoothed=SMOOTHED,
        images=IMAGES,
        of_train=OF_TRAIN,
        ellipses=ELLIPSES,
        noise=NOISE,
        draws=DRAWS,
        points=curves.POINTS,
    )
    candidates = [named(network, epoch) for network in settings.networks for epoch in epochs]
    comparison.measured(settings, fixed, candidates, measure)
    part = comparison.concluded(settings, lambda part: conclusions(part, dataset.classes))
    print(markdown(part))
    return part


def named(network, epoch):
    return f"{network} after {epoch}"


def candidate_of(name):
    """Returns the network and the epoch of a candidate."""
    network, epoch = name.split(" after ")
    return network, int(epoch)


def smoothness(model, images, ellipses):
    """Returns each of `MEASURES` of a network, a dict."""
    found = {
        "jacobian": analysis.jacobian_sensitivity(model, images).mean,
        "jacobian_of_logits": analysis.jacobian_sensitivity(model, images, of="logits").mean,
        "output_sensitivity": analysis.output_sensitivity(model, images, NOISE, DRAWS).mean,
    }
    drawn = analysis.curve(model, np.concatenate(list(ellipses.values())), batch_size=1000)
    for kind, values in zip(ellipses, np.split(drawn, len(ellipses)), strict=True):
        smooth = analysis.smoothness(values, relative=True)
        found[f"{kind}, total_variation, relative"] = float(smooth.total_variation.mean())
        found[f"{kind}, monotone_pieces"] = float(smooth.monotone_pieces.mean())
    return found


def path_of(part, network, seed):
    """Returns the trials of a network and seed in the order of the epochs, a list of dicts."""
    found = [
        runs[seed]
        for name, runs in part["trials"].items()
        if candidate_of(name)[0] == network and seed in runs
    ]
    return sorted(found, key=lambda trial: trial["epoch"])


def at(path, quantity, level, measure):
    """Returns a measure where a quantity first reaches a level, its logarithm interpolated.

    Args:
        path: list of dicts, of `path_of`.
        quantity: "loss_on_train", which falls and is taken as its logarithm, or "test_accuracy".
        level: float, of the quantity.
        measure: str, a key of the trials.

    Returns:
        The logarithm of the measure; None where the level lies before the first of the path or is
        not reached.
    """
    falls = quantity == "loss_on_train"
    scaled = np.array([(-np.log(x[quantity]) if falls else x[quantity]) for x in path])
    level = -np.log(level) if falls else level
    numbers = np.log([x[measure] for x in path])
    after = np.flatnonzero(scaled >= level)
    if not len(after):
        return None
    end = after[0]
    if scaled[end] == level:
        return float(numbers[end])
    if end == 0:
        return None
    share = (level - scaled[end - 1]) / (scaled[end] - scaled[end - 1])
    return float(numbers[end - 1] + share * (numbers[end] - numbers[end - 1]))


def ratio(ours, theirs, quantity, measure):
    """Returns the logarithm of ours / theirs where both have the same of a quantity, or None.

    Args:
        ours, theirs: lists of dicts, of `path_of`.
        quantity: "epoch" (the last that both have), "loss_on_train" or "test_accuracy".
        measure: str, a key of the trials.
    """
    if quantity == "epoch":
        last = max({x["epoch"] for x in ours} & {x["epoch"] for x in theirs})
        found = [np.log(x[measure]) for path in (ours, theirs) for x in path if x["epoch"] == last]
    else:
        level = last_of_both((ours, theirs), quantity)
        found = [at(path, quantity, level, measure) for path in (ours, theirs)]
    return None if None in found else float(found[0] - found[1])


def levels(part, ours, other):
    """Returns the losses at which the seeds of two networks are compared, a list of float."""
    both = paths(part, ours, other).values()
    return [last_of_both(pair, "loss_on_train") for pair in both]


def last_of_both(both, quantity):
    """Returns the level of a quantity that two paths reach: the worse of their best ones."""
    best, worst = (min, max) if quantity == "loss_on_train" else (max, min)
    return worst(best(x[quantity] for x in path) for path in both)


def paths(part, ours, other):
    """Returns the paths of two networks, a dict by the seeds that both have."""
    seeds = sorted({seed for runs in part["trials"].values() for seed in runs})
    found = {s: (path_of(part, ours, s), path_of(part, other, s)) for s in seeds}
    return {seed: both for seed, both in found.items() if all(both)}


QUANTITIES = ("epoch", "loss_on_train", "test_accuracy")
LOSSES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
PAIRS = (
    ("AM", "CNN"),
    ("CNN, mixup", "CNN"),
    ("CNN, weight decay", "CNN"),
    ("AM", "CNN, mixup"),
    ("AM", "CNN, weight decay"),
    ("AM, mixup", "CNN, mixup"),
    ("AM, weight decay", "CNN, weight decay"),
    ("AM, rate 0.1", "CNN"),
    ("AM, rate 0.5", "CNN"),
    ("AM", "CNN, rate 0.02"),
    ("AM, rate 0.1", "CNN, rate 0.02"),
    ("CNN, weight decay 0.02", "CNN"),
    ("AM", "CNN, weight decay 0.02"),
    ("AMadd", "CNN"),
    ("AM", "AMadd"),
    ("AMconstant", "CNN"),
    ("AM", "AMconstant"),
    ("AMadd", "AMconstant"),
    ("CNN", "CNN, rate 0.02"),
)
# By the beginning of a part the pair whose rates are the best that rate_search finds on it, or
# within 0.1 points of that.
AT_BEST_RATES = {
    "digits, ": ("AM, rate 0.5", "CNN"),
    "mnist, 3000 images, ": ("AM, rate 0.1", "CNN"),
    "fashion_mnist, 3000 images, ": ("AM, rate 0.1", "CNN, rate 0.02"),
}


def conclusions(part, classes):
    """Returns what follows from the trials, a dict: "ratios" has the logarithms by seed."""
    ratios, tests = {}, {}
    for ours, other in PAIRS:
        along = paths(part, ours, other)
        for quantity in QUANTITIES:
            for measure in MEASURES:
                found = {s: ratio(*both, quantity, measure) for s, both in along.items()}
                found = {seed: value for seed, value in found.items() if value is not None}
                if found:
                    name = f"log of {ours} / {other}, {measure}, equal {quantity}"
                    ratios[name] = found
                    numbers = list(found.values())
                    tests[name] = comparison.paired_test(numbers, np.zeros(len(numbers)))
    return {**accuracies.conclusions(part, classes), "ratios": ratios, "tests": tests}


def markdown(part):
    """Returns the table of the ratios: a row for each pair and measure."""
    lines = [
        f"| ratio (n) | {' | '.join(f'equal {q}' for q in QUANTITIES)} |",
        "|---" * (len(QUANTITIES) + 1) + "|",
    ]
    for ours, other in PAIRS:
        for measure in MEASURES:
            name = f"{ours} / {other}, {measure}"
            tests = [part["tests"].get(f"log of {name}, equal {q}") for q in QUANTITIES]
            if any(tests):
                lines.append(f"| {name} | {' | '.join(map(shown_ratio, tests))} |")
    return "\n".join([*lines, "", "At fixed losses on train, exploratory:", "", *at_losses(part)])


def at_losses(part):
    """Returns the table of the ratios at fixed losses on train, and where the last are, lines."""
    head = [f"loss {loss:g}" for loss in LOSSES]
    lines = [f"| ratio (n) | {' | '.join(head)} | equal loss is |", "|---" * (len(head) + 2) + "|"]
    for ours, other in PAIRS:
        along = paths(part, ours, other)
        # What is still measured has no conclusions.
        is_there = any(name.startswith(f"log of {ours} / {other}, ") for name in part["ratios"])
        for measure in ("jacobian", "output_sensitivity") if along and is_there else ():
            tests = []
            for loss in LOSSES:
                both = [[at(x, "loss_on_train", loss, measure) for x in p] for p in along.values()]
                logs = [one - two for one, two in both if None not in (one, two)]
                tests.append(comparison.paired_test(logs, np.zeros(len(logs))) if logs else None)
            cells = [*map(shown_ratio, tests), _range(levels(part, ours, other))]
            lines.append(f"| {ours} / {other}, {measure} | {' | '.join(cells)} |")
    return lines


def _range(numbers):
    return f"{min(numbers):.2g} to {max(numbers):.2g}"


def shown_ratio(test):
    """Returns a ratio, its 95 % interval and n, a str."""
    if test is None:
        return "-"
    return f"{_with_interval(test)} ({test['n']})"


def _with_interval(test, unit=""):
    text = f"{np.exp(test['difference']):.2f}{unit}"
    if test["confidence_95"]:
        text += " ({:.2f} to {:.2f})".format(*np.exp(test["confidence_95"]))
    return text


def judged(name, part):
    """Table II and Figures 3 and 4, where both networks have learned as much."""
    at_best = [pair for part_of, pair in AT_BEST_RATES.items() if name.startswith(part_of)]
    for quantity in QUANTITIES:
        for measure in MEASURES:
            finding = _lower(name, part, ("AM", "CNN"), measure, quantity)
            if finding is None:
                continue
            statement = f"{measure} is lower with attention at equal {quantity.replace('_', ' ')}"
            if quantity == "loss_on_train":
                where = _range(levels(part, "AM", "CNN"))
                finding = dataclasses.replace(finding, ours=f"{finding.ours} at {where}")
                for pair in at_best:
                    if fair := _lower(name, part, pair, measure, quantity):
                        yield f"each at its best rate, {statement} (log of CNN / AM)", fair
                        more = f"each at its best rate {fair.ours}, exploratory"
                        finding = dataclasses.replace(finding, ours=f"{finding.ours}; {more}")
            yield f"{statement} (log of CNN / AM)", finding


def _lower(name, part, pair, measure, quantity):
    """Returns the finding on a measure of two networks, or None where one was not measured."""
    ratios = part["ratios"].get(f"log of {' / '.join(pair)}, {measure}, equal {quantity}")
    last = max(candidate_of(candidate)[1] for candidate in part["trials"])
    candidates = [named(network, last) for network in reversed(pair)]
    # Another process may be at one of them.
    if not ratios or not part["trials"].keys() >= set(candidates):
        return None
    test = comparison.paired_test(list(ratios.values()), np.zeros(len(ratios)))
    found = verdicts.lower(name, part, test, candidates)
    return dataclasses.replace(found, ours=_with_interval(test, " times"))


SECTIONS = (
    Section(
        "smoothness_along_training",
        "FMM, Table II, Figures 3 and 4, at equal loss",
        "a network with attention is smoother.",
        markdown,
        judged,
        deviations=(
            "20 epochs of 200, and 60 on digits; 3,000 images of train in batches of 64 and 40 "
            "epochs where it says so; the paper compares at equal epochs alone; "
            "mixup and weight decay as controls are ours; one rate, 0.05, for all but where a row "
            "names another. In rate_search CNN's best are 0.05 on digits and MNIST and 0.02 on "
            "Fashion-MNIST, AM's 0.5, 0.2 and 0.1; each at its best rate takes 0.1 of AM on MNIST, "
            "which is within 0.1 points on validation. Rows that name a rate, a weight decay of "
            "0.02, AMadd or AMconstant are exploratory and were added on 2026-11-29, when AM and "
            "CNN were measured."
        ),
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
