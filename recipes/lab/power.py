"""How many seeds a claim takes: computed from the differences between trials that are there.

Question: of a paired comparison over seeds, how many are needed to see a difference of a given size
with a given probability?
Data: recipes/results/.
Command:

    python -m recipes.lab.power

For the comparisons of `CLAIMS`: the standard deviation of the paired differences between the stored
trials, the difference that is to be seen (the paper's where it has one), and the number of seeds at
which a two-sided paired t-test at 0.05 sees it with a probability of 0.8; likewise for equivalence
(two one-sided tests at 0.05 against a margin, where the true difference is 0). The deviation of
three seeds is itself uncertain: beside the number stands that for the upper limit of its one-sided
80 % interval, which is what to plan with.
Cost: seconds.
"""

import dataclasses
import pathlib

import numpy as np
from scipy import stats

from recipes.lab.settings import setting, start

SIGNIFICANT, POWER = 0.05, 0.8
MOST = 10000

# Recipe, part, candidates, metric, whether it is compared on a logarithmic scale, the difference
# that is to be seen in the metric's units, and whether the claim is one of equivalence within it.
CLAIMS = (
    ("multiplication_is_the_key", "mnist, 10 epochs", "AM", "CNN", "test_accuracy", 0.0042, False),
    (
        "multiplication_is_the_key",
        "cifar10, 20 epochs",
        "AM",
        "CNN",
        "test_accuracy",
        0.0083,
        False,
    ),
    (
        "mixup_regularization",
        "mnist, 10 epochs",
        "CNN, mixup",
        "CNN",
        "test_accuracy",
        0.0041,
        False,
    ),
    ("mixup_regularization", "mnist, 10 epochs", "AM, mixup", "AM", "test_accuracy", 0.002, True),
    ("mixup_regularization", "cifar10, 20 epochs", "AM, mixup", "AM", "test_accuracy", 0.004, True),
    ("sensitivity", "mnist, 10 epochs", "AM", "CNN", "jacobian", np.log(677 / 357), False),
    (
        "sensitivity",
        "fashion_mnist, 10 epochs",
        "AM",
        "CNN",
        "jacobian",
        np.log(11437 / 7492),
        False,
    ),
    ("sensitivity", "cifar10, 20 epochs", "AM", "CNN", "jacobian", np.log(17347 / 12408), False),
    ("fmmnet", "cifar10, WRN-16-1, 3 epochs", "multiply", "add", "test_accuracy", 0.0013, False),
)
LOGARITHMIC = ("jacobian", "jacobian_of_logits", "output_sensitivity")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where it reads."""

    results: str = setting("recipes/results", "folder of the recipes' results")
    smoke: bool = setting(False, "as without")


def main(settings):
    """Prints the table of the claims and returns it, a str."""
    text = table(settings.results)
    print(text)
    return text


def table(results):
    """Returns the table of the claims that were measured among the results, a str."""
    # Only here: comparison judges with verdicts, which plan with this module.
    from recipes.lab import comparison

    lines = [
        "| claim | measured on | difference | deviation of pairs (n) | seeds | seeds to plan for |",
        "|---|---|---|---|---|---|",
    ]
    for recipe, name, ours, other, metric, difference, is_equivalence in CLAIMS:
        part = comparison.read(pathlib.Path(results) / f"{recipe}.json").get(name)
        # Not there, not finished, or one seed, which has no deviation.
        if part is None or not {ours, other} <= set(part["trials"]):
            continue
        pair = comparison.paired(part, ours, other, metric)
        if len(pair[0]) < 2:
            continue
        differences = np.subtract(*(np.log(pair) if metric in LOGARITHMIC else pair))
        deviation, upper = differences.std(ddof=1), deviation_limit(differences)
        counts = [seeds_needed(x, difference, is_equivalence) for x in (deviation, upper)]
        cells = [
            f"{ours} {'equals' if is_equivalence else 'against'} {other}, {metric}",
            name,
            f"{difference:.3g}",
            f"{deviation:.3g} ({len(differences)})",
            *(str(count or f"over {MOST}") for count in counts),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def seeds_needed(deviation, difference, is_equivalence=False, power=POWER, significant=SIGNIFICANT):
    """Returns the least number of pairs at which a test has a power, or None: more than `MOST`.

    Args:
        deviation: float, the standard deviation of the pairs' differences.
        difference: float above 0, the true mean difference, or the margin of an equivalence whose
            true difference is 0.
        is_equivalence: bool, default False. Two one-sided tests rather than a two-sided one.
        power: float, default 0.8.
        significant: float, default 0.05: below which p the test rejects.
    """
    has_power = (
        n
        for n in range(2, MOST + 1)
        if _power(n, deviation, difference, is_equivalence, significant) >= power
    )
    return next(has_power, None)


def _power(n, deviation, difference, is_equivalence, significant):
    if not deviation:
        return 1.0
    centre = difference * np.sqrt(n) / deviation
    if is_equivalence:
        # Both one-sided tests must reject; each fails with the same probability, on its own side.
        bound = stats.t.ppf(1 - significant, n - 1)
        return 1 - 2 * stats.nct.cdf(bound, n - 1, centre)
    bound = stats.t.ppf(1 - significant / 2, n - 1)
    # That it rejects on the wrong side counts for nothing.
    return stats.nct.sf(bound, n - 1, centre)


def deviation_limit(differences, confidence=0.8):
    """Returns what the standard deviation is below with a confidence, if they are normal."""
    n = len(differences)
    return np.std(differences, ddof=1) * np.sqrt((n - 1) / stats.chi2.ppf(1 - confidence, n - 1))


if __name__ == "__main__":
    start(main, Settings, __doc__)
