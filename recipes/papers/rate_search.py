"""Table I of the FMM paper with a learning rate searched for each network, and more networks.

Question: multiplication_is_the_key trains all networks at one rate, at which the added gate
(AMnoMTP) does not learn; so it says nothing of addition. At the rate that is best for each, is the
network with gates (AM) better than the plain one (CNN), than the one with added gates, and than
those in which the product is there and the attention is not?
Networks: those of Table I; AMadd, gates that are added and lie between -1 and 1 (tanh), of as many
parameters as AM's; AMconstant, each channel multiplied by a learned number from 0 to 1 that is the
same for all images; AMshuffled, AM whose images are each multiplied by the gate of another image of
the batch, in training and on test.
Data: digits, MNIST and Fashion-MNIST; images divided by 255; a tenth of train is validation.
Command, one or more networks, which may run beside each other:

    python -m recipes.papers.rate_search CNN AM AMnoMTP --dataset digits --epochs 60 \
        --batch-size 64 --seeds 10 --search-seeds 3
    python -m recipes.papers.rate_search CNN AM AMnoMTP AMadd --dataset fashion_mnist \
        --train-images 3000 --epochs 40 --batch-size 64 --seeds 10 --search-seeds 3
    python -m recipes.papers.rate_search CNN AM --dataset mnist --near-images 3000 --epochs 15 \
        --batch-size 64 --search-seeds 3
    python -m recipes.papers.rate_search CNN AM AMnoMTP --dataset fashion_mnist --epochs 20

Fixed before the first run (2026-11-27): every network has the same rates, each with the same number
of search seeds; the best is that of the highest mean accuracy on validation over the last fifth of
the epochs and the search seeds, and of equals the lowest; test is not looked at. The best rate is
trained with all the seeds. SGD with momentum 0.9 at a constant rate, no weight decay, no
augmentation. A trial that is not finite counts as guessing on test, and as 0 on validation. The
rates were 0.1 to 0.001. On digits
five of seven networks were best at 0.1, so 0.2 and 0.5 were added for all, and then, as four were
best at 0.5, 1 and 2 (2026-11-28).
Five seeds where a trial takes minutes, as `python -m recipes.lab.power` plans for the paper's
difference between AM and CNN on MNIST; ten where it takes seconds or a minute. MNIST and
Fashion-MNIST of 3,000 images, 40 epochs in batches of 64, ten seeds at the best rate of one search
seed: fixed on 2026-11-28, before the first run of them. One seed is too few: at the rate that it
chose for AMadd on MNIST none of the nine others learned. So on 2026-11-29, with the results of one
seed known, all rates were searched with three, of all networks on both datasets.
Whole MNIST and Fashion-MNIST, the same networks, CNN and AM first, 15 epochs in batches of 64,
three search seeds, five seeds at the best rate: fixed on 2026-11-29, before the first run of them
(of whole Fashion-MNIST AMnoMTP had been searched with one seed, 20 epochs in batches of 400).
Searched are only the rate that was best on 3,000 images and its two neighbours (`--near-images`),
and one more as long as the best is the last of those tried.
Cost: digits, seconds a trial; 3,000 images, a minute on one core; whole MNIST and Fashion-MNIST,
about five minutes a trial on one core, and 20 seconds on a GPU.
Measured: recipes/results/rate_search.json.
"""

import dataclasses

import numpy as np

from recipes.lab import accuracies, comparison, trials, verdicts
from recipes.lab.sections import Section
from recipes.lab.settings import output_path, setting, shown, start
from recipes.papers.networks import ATTENTIONS, MORE_ATTENTIONS, TABLE_1, builder

NETWORKS = (*ATTENTIONS, *MORE_ATTENTIONS)
# What is nearly as good as the best, in percentage points.
CLOSE = 0.1
# How the parts begin of which only some rates are searched.
NEAR = "rates near those of"
RATES = (2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    networks: tuple = setting(..., "which", choices=NETWORKS)
    seeds: int = setting(5, "how many at the best rate, from 0 on", minimum=1)
    search_seeds: int = setting(1, "how many at every rate", minimum=1)
    near_images: int | None = setting(
        None, "search near the rates that were best on so many of train; none: all", minimum=1
    )
    epochs: int = setting(20, "passes over train", minimum=1)
    batch_size: int = setting(trials.Schedule.batch_size, "images a step", minimum=1)
    output: str = setting("recipes/results/rate_search.json", "where results go")


def main(settings):
    """Trains what is missing, chooses rates, prints; returns the part of the results, a dict."""
    settings, dataset, schedule = comparison.begun(settings, settings.batch_size)
    if settings.smoke:
        settings = dataclasses.replace(settings, near_images=None)
    fixed = dataclasses.asdict(schedule)
    del fixed["learning_rate"]
    variant = settings.near_images and f"{NEAR} {settings.near_images} images"
    # A search of fewer seeds must not undo what one of more has chosen.
    content = comparison.read(output_path(settings))
    before = content.get(comparison.part_name(settings, variant), {})
    search_seeds = max(settings.search_seeds, before.get("search_seeds", 1))
    settings = dataclasses.replace(settings, search_seeds=search_seeds)

    def measure(candidate, seed):
        network, rate = candidate_of(candidate)
        at_rate = dataclasses.replace(schedule, learning_rate=rate)
        name = f"rate_search {network} {schedule.epochs} epochs"
        return trials.attempted(name, builder(network), dataset, at_rate, seed, shown(settings))

    def measured(candidates, seeds):
        return comparison.measured(settings, fixed, candidates, measure, variant, seeds)

    rates = {name: first_rates(settings, content, name, before) for name in settings.networks}
    more = rates
    while any(more.values()):
        searched = [named(network, rate) for network in rates for rate in rates[network]]
        part = measured(searched, search_seeds)
        chosen = {name: best(part, name, search_seeds, rates[name]) for name in rates}
        more = {name: beside(chosen[name], rates[name]) for name in rates}
        if settings.near_images is None:
            break
        rates = {name: (*rates[name], *more[name]) for name in rates}
    if settings.seeds > search_seeds:
        measured(chosen.values(), settings.seeds)

    def concluded(part):
        return conclusions(part, settings, dataset.classes)

    part = comparison.concluded(settings, concluded, variant)
    print(table(part))
    return part


def first_rates(settings, content, network, before):
    """Returns the rates that a search begins with, a tuple.

    Those are all; or those near another part's best, and what was tried before.

    Args:
        settings: `Settings`.
        content: dict by part, of the results that are there.
        network: str.
        before: dict, what there is of this part.
    """
    if settings.smoke:
        return RATES[4:6]
    if settings.near_images is None:
        return RATES
    name = f"{settings.dataset}, {settings.near_images} images, "
    parts = [part.get("chosen", {}) for key, part in content.items() if key.startswith(name)]
    chosen = [part[network] for part in parts if network in part]
    if not chosen:
        raise ValueError(
            f"`near_images` must be how many images of {settings.dataset} {network}'s rates were "
            f"searched on. Received: near_images={settings.near_images}, of which "
            f"{settings.output} has no search of it. Search on them first (`--train-images`), or "
            "leave it out."
        )
    tried = [candidate_of(candidate) for candidate in before.get("trials", {})]
    near = neighbours(candidate_of(chosen[0])[1])
    return tuple({*near, *(rate for name, rate in tried if name == network)})


def neighbours(rate):
    """Returns a rate of `RATES` with those beside it, a tuple."""
    place = RATES.index(rate)
    return RATES[max(0, place - 1) : place + 2]


def beside(candidate, rates):
    """Returns the neighbours of a candidate's rate that are not among the rates, a list."""
    return [rate for rate in neighbours(candidate_of(candidate)[1]) if rate not in rates]


def named(network, rate):
    return f"{network} at {rate:g}"


def candidate_of(name):
    """Returns the network and the rate of a candidate."""
    network, rate = name.split(" at ")
    return network, float(rate)


def on_validation(part, candidate, seeds):
    """Returns the mean accuracy over the last fifth of the epochs and the seeds from 0 on.

    One that diverged counts as 0: it is less than what any network that learned has.
    """
    curves = [part["trials"][candidate][str(seed)]["val_accuracy"] for seed in range(seeds)]
    return float(np.mean([np.mean(x[-max(1, len(x) // 5) :]) if x else 0.0 for x in curves]))


def best(part, network, seeds, rates=RATES):
    """Returns the candidate of a network whose rate is the best on validation."""
    tried = [named(network, rate) for rate in rates]
    return max(tried, key=lambda name: (on_validation(part, name, seeds), -candidate_of(name)[1]))


def conclusions(part, settings, classes):
    """Returns what follows from the networks whose search is complete, a dict."""
    tried = [candidate_of(name) for name in part["trials"]]
    # Another process may have searched with more meanwhile.
    search_seeds = max(settings.search_seeds, part.get("search_seeds", 1))
    seeds = [str(seed) for seed in range(search_seeds)]
    chosen = {}
    for network in NETWORKS:
        near = settings.near_images is not None
        rates = sorted({rate for name, rate in tried if name == network or not near})
        names = [named(network, rate) for rate in rates]
        if names and all(seed in part["trials"].get(name, {}) for name in names for seed in seeds):
            found = best(part, network, search_seeds, rates)
            if not near or not beside(found, rates):
                chosen[network] = found
    tests = {}
    for other in chosen:
        if other != "AM" and "AM" in chosen:
            test = accuracies.test(part, chosen["AM"], chosen[other])
            tests[f"AM minus {other}"] = test
    return {
        **accuracies.conclusions(part, classes),
        "search_seeds": search_seeds,
        "chosen": chosen,
        "tests": tests,
    }


def table(part):
    """Returns the tables of the accuracies on validation at each rate, and on test at the best."""
    rates = sorted({candidate_of(name)[1] for name in part["trials"]}, reverse=True)
    networks = dict.fromkeys(candidate_of(name)[0] for name in part["trials"])
    shown_rates = " | ".join(f"{rate:g}" for rate in rates)
    lines = [
        f"| validation, % | {shown_rates} | test at the best, % (n) |",
        "|---" * (len(rates) + 2) + "|",
    ]
    for network in networks:
        cells = [network]
        for rate in rates:
            name = named(network, rate)
            cells.append(score_of(part, name) if is_searched(part, name) else "-")
        row = part["accuracy_percent"].get(part["chosen"].get(network))
        cells.append(accuracies.mean_and_spread(row) if row else "-")
        lines.append(f"| {' | '.join(cells)} |")
    if close := nearly_best(part):
        lines += ["", f"On validation within {CLOSE} points of the best: {', '.join(close)}."]
    if others := by_one_seed(part):
        lines += ["", f"The first search seed alone would choose: {'; '.join(others)}."]
    lines += accuracies.failures(part, part["chosen"].values())
    if part["tests"]:
        lines += [
            "",
            "| difference at the best rates | points | 95 % interval | p |",
            "|---|---|---|---|",
        ]
    for name, test in part["tests"].items():
        cells = (f"{test['difference']:+.2f}", accuracies.interval(test), accuracies.p_value(test))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def score_of(part, candidate):
    """Returns the accuracy on validation in percent, and how many of the seeds diverged, a str."""
    seeds = part["search_seeds"]
    runs = [part["trials"][candidate][str(seed)] for seed in range(seeds)]
    diverged = sum(not run.get("finite", True) for run in runs)
    if diverged == seeds:
        return "diverged"
    score = f"{100 * on_validation(part, candidate, seeds):.2f}"
    return f"{score} ({diverged} of {seeds} diverged)" if diverged else score


def nearly_best(part):
    """Returns the candidates whose rate is as good as the chosen one but for `CLOSE`, a list."""
    seeds = part["search_seeds"]
    found = []
    for network, chosen in part["chosen"].items():
        least = on_validation(part, chosen, seeds) - CLOSE / 100
        others = [name for name in searched(part, network) if name != chosen]
        found += [name for name in others if on_validation(part, name, seeds) >= least]
    return found


def by_one_seed(part):
    """Returns what the first search seed alone would choose, where that is another, a list."""
    found = []
    for network, chosen in part["chosen"].items():
        rates = [candidate_of(name)[1] for name in searched(part, network)]
        name = best(part, network, 1, rates)
        if name != chosen:
            row = part["accuracy_percent"][name]
            on_test = accuracies.mean_and_spread(row)
            found.append(f"{name}, {on_test} % on test")
    return found


def searched(part, network):
    """Returns the candidates of a network that have all the seeds that a rate is chosen by."""
    of_this = [name for name in part["trials"] if candidate_of(name)[0] == network]
    return [name for name in of_this if is_searched(part, name)]


def is_searched(part, candidate):
    """Whether a candidate has all the seeds that a rate is chosen by."""
    runs = part["trials"].get(candidate, {})
    return all(str(seed) in runs for seed in range(part["search_seeds"]))


def judged(name, part):
    """Table I at each network's own rate, and against gates without attention."""
    paper = TABLE_1.get(name.split(", ")[0], {})
    for key in part["tests"]:
        other = key.removeprefix("AM minus ")
        candidates = (part["chosen"]["AM"], part["chosen"][other])
        test = accuracies.test(part, *candidates)
        statement = f"AM is better than {other}, each at its best rate"
        expected = paper["AM"] - paper[other] if other in paper else None
        found = verdicts.higher(name, part, test, candidates, expected)
        if other in paper:
            figures = f"{paper['AM']:.2f} against {paper[other]:.2f}"
            found = dataclasses.replace(found, paper=figures)
        yield statement, found


def deviations(name):
    """Returns how a part differs from the paper, a str."""
    dataset, *_, epochs = name.split(", ")
    found = [f"{epochs} of 200; a rate of its own for each network, where the paper states none."]
    found.append("The seeds that chose a rate are among those of the test.")
    if dataset == "digits":
        found.append(
            "Rates above 0.1 were tried after five of seven networks had been best at that, the "
            "highest until then."
        )
    if NEAR in name:
        found.append(
            "Searched were the rate that was best on so many images, its neighbours, and further "
            "ones while the best was the last."
        )
    elif " images, " in name:
        found.append(
            "So many images of train, and at most as many of validation. Rates were searched with "
            "one seed, and with three after nine of ten seeds had not learned at AMadd's on MNIST."
        )
    if dataset == "digits" or " images, " in name:
        found.append("Batches of 64.")
    if dataset in TABLE_1 and " images, " in name and NEAR not in name:
        found.append(
            "The paper's figures are of all 60,000. They stand here since 2026-11-29, when this "
            'was measured: AM against CNN read "cannot tell" before.'
        )
    return " ".join(found)


SECTIONS = (
    Section(
        "rate_search",
        "FMM, Table I, a rate for each network",
        "attention helps because it multiplies.",
        table,
        judged,
        deviations=deviations,
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
