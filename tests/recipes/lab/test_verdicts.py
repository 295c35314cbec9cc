import math

import numpy as np
import pytest
from scipy import stats

from recipes.lab import verdicts


def row(low, high, p_value=0.5):
    return {
        "difference": (low + high) / 2,
        "confidence_95": [low, high],
        "p_value": p_value,
        "margin": 0.4,
        "n": 3,
    }


SAME = {"difference": 0.1, "confidence_95": None, "p_value": None, "margin": 0.4, "n": 3}


FLAT, RISING = [0.9] * 10, np.linspace(0.5, 0.9, 10)


def part_of(flat=True, seeds=5, not_learned=0):
    return {
        "trials": {
            "A": {seed: {"val_accuracy": FLAT if flat else RISING} for seed in range(seeds)},
            "B": {seed: {"val_accuracy": FLAT} for seed in range(5)},
        },
        "not_learned": {"A": not_learned, "B": 0},
        "accuracy_percent": {"A": {"mean": 98.7}, "B": {"mean": 98.2}},
        "paper_percent": None,
    }


@pytest.mark.parametrize(
    ("epochs", "test", "part", "paper", "verdict"),
    [
        (200, row(0.1, 0.5), part_of(flat=False), 0.3, "**holds** +"),
        (10, row(0.1, 0.5), part_of(), 0.3, "**holds** +"),
        (10, row(0.1, 0.2), part_of(), 0.9, "**holds** +"),
        (10, row(0.1, 0.5), part_of(flat=False), 0.3, "because after 10 epochs of 200"),
        (200, row(-0.5, -0.1), part_of(), 0.3, "**does not hold** "),
        (200, row(-0.5, 0.1), part_of(), 0.3, "smaller than the paper's, uncorrected -0.2"),
        (200, row(-0.5, 0.4), part_of(), 0.3, "cannot tell "),
        (200, row(-0.5, 0.1), part_of(), None, "cannot tell "),
        (200, row(0.1, 0.5), part_of(seeds=1), None, "because there is one seed"),
        (200, row(0.1, 0.5), part_of(not_learned=2), None, "because 2 of 5 trials of A"),
        (200, SAME, part_of(), None, "because every seed gives the same"),
    ],
)
def test_verdicts_on_what_is_claimed_to_be_higher(epochs, test, part, paper, verdict):
    name = f"mnist, {epochs} epochs"
    found = verdicts.higher(name, part, test, ("A", "B"), paper)
    assert verdict in str(found)
    assert found.ours == "98.70 against 98.20"


def test_curves_are_flat_in_the_mean_over_the_seeds():
    def flat(*curves):
        runs = {seed: {"val_accuracy": curve} for seed, curve in enumerate(curves)}
        return verdicts.is_flat(runs)

    still, rising = [0.5] * 6 + [0.9] * 4, [0.9] * 8 + [0.9035] * 2
    assert flat(still)
    assert not flat(rising)
    assert flat(rising, still), "by 0.00175 in the mean"
    assert not flat(rising, rising, still), "by 0.0023 in the mean"
    assert not flat(np.linspace(0.5, 0.9, 20))
    assert not flat([0.9] * 9), "nine epochs are too few to tell"


def test_verdicts_on_what_is_claimed_to_be_lower():
    def lower(test, paper=None):
        # No accuracy: that curves rise does not matter.
        return str(verdicts.lower("mnist, 10 epochs", part_of(flat=False), test, ("A", "B"), paper))

    assert lower(row(-0.5, -0.1)) == "**holds** +0.3 (+0.1 to +0.5), p 0.5"
    assert lower(row(0.1, 0.5)).startswith("**does not hold** ")
    assert lower(row(-0.1, 0.5), paper=-0.2).startswith("smaller than the paper's")
    assert lower(row(-0.3, 0.5), paper=-0.2).startswith("cannot tell ")
    assert "because every seed" in lower(SAME)


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (row(-0.1, 0.2, p_value=0.01), "**holds**"),
        (row(-0.1, 0.5, p_value=0.2), "cannot tell "),
        (row(0.5, 0.9, p_value=0.99), "**does not hold**"),
        (SAME, "because every seed"),
    ],
)
def test_verdicts_on_equivalence(test, verdict):
    found = verdicts.equivalent("mnist, 10 epochs", part_of(), test, ("A", "B"))
    assert verdict in str(found)


def seeds_by_simulation(mean, deviation, significant, one_sided=False):
    """The least n of which eight of ten samples reject, by 20,000 drawn samples for each n."""
    rng = np.random.default_rng(0)
    for n in range(2, 200):
        drawn = rng.normal(mean, deviation, (20_000, n))
        t = drawn.mean(1) / drawn.std(1, ddof=1) * np.sqrt(n)
        if (t > stats.t.ppf(1 - significant / (1 if one_sided else 2), n - 1)).mean() >= 0.8:
            return n
    return None


def open_finding(**arguments):
    numbers = (0.1, 0.5, -0.3, 0.9, 0.3)
    arguments = {"effect": 0.3, "n": 5, "differences": numbers, **arguments}
    return verdicts.Finding("cannot tell", **arguments)


def told(finding):
    count, _, of = finding.decides.partition(" seeds for ")
    return int(count), of


@pytest.mark.parametrize("tests", [1, 10])
def test_the_seeds_that_would_decide_by_simulation(tests):
    deviation = np.std([0.1, 0.5, -0.3, 0.9, 0.3], ddof=1)
    found = told(open_finding(tests=tests))
    assert found == (
        pytest.approx(seeds_by_simulation(0.3, deviation, 0.05 / tests), abs=1),
        "this effect",
    )
    # From a bound below: by a one-sided test.
    found = told(open_finding(tests=tests, bound=-0.1, one_sided=True))
    wanted = seeds_by_simulation(0.4, deviation, 0.05 / tests, one_sided=True)
    assert found == (pytest.approx(wanted, abs=1), "this effect")
    assert told(open_finding(tests=tests, expected=0.25))[1] == "the paper's effect"
    # So few would have shown the paper's effect that this one must be smaller.
    assert told(open_finding(tests=tests, expected=2.0))[1] == "this effect"


def test_a_rising_seed_is_told_where_curves_must_be_flat():
    part = part_of()
    trial = next(iter(part["trials"]["A"].values()))
    assert not verdicts.higher("mnist, 10 epochs", part, row(0.1, 0.5), ("A", "B")).rose
    trial["val_accuracy"] = RISING
    assert verdicts.higher("mnist, 10 epochs", part, row(0.1, 0.5), ("A", "B")).rose
    assert not verdicts.higher("mnist, 200 epochs", part, row(0.1, 0.5), ("A", "B")).rose
    arguments = ("mnist, 10 epochs", part, row(0.1, 0.5), ("A", "B"))
    assert not verdicts.higher(*arguments, of_accuracy=False).rose


def test_holm_by_hand():
    # 0.005 * 4, 0.01 * 3, 0.03 * 2, and the last may not be below the one before.
    assert verdicts.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert verdicts.holm([0.7, 0.6]) == [1.0, 1.0]


def test_primary_ones_are_corrected_and_others_are_exploratory():
    def finding(p_value, outcome="**holds**"):
        return verdicts.Finding(outcome, effect=1.0, p_value=p_value)

    untested = verdicts.Finding("cannot tell", "there is one seed")
    given = [
        ("A", finding(0.03)),
        ("A", finding(0.012)),
        (None, finding(0.04)),
        ("B", finding(0.02)),
    ]
    found = verdicts.settled([*given, ("A", untested), (None, finding(0.9, "cannot tell"))])
    # Of three tests in A, as the one that could not be made counts.
    assert [row.outcome for row in found] == [
        "cannot tell",
        "**holds**",
        "in favour, exploratory",
        "**holds**",
        "cannot tell",
        "cannot tell",
    ]
    assert found[2].adjusted is None
    assert [found[row].adjusted for row in (0, 1, 3)] == pytest.approx([0.06, 0.036, 0.02])


@pytest.mark.parametrize(
    ("numbers", "scale", "least", "most"),
    [
        ([0.99, 1.0, 0.93], "share", 0, 1),
        ([0.0, 0.046, 0.0001], "share", 0, 1),
        ([0.9, 0.2, 0.95], "correlation", -1, 1),
        ([-0.9, -0.2, -0.95], "correlation", -1, 1),
    ],
)
def test_no_interval_holds_what_cannot_be(numbers, scale, least, most):
    mean, (low, high) = verdicts.interval(numbers, scale)
    assert mean == pytest.approx(sum(numbers) / 3)
    assert least <= low < high <= most
    # By Student's t on the numbers as they are it would.
    plain = verdicts.interval(numbers)[1]
    assert plain[0] < least or plain[1] > most


def test_an_interval_of_shares_by_hand():
    logits = [math.log(x / (1 - x)) for x in (0.8, 0.9, 0.7)]
    mean = sum(logits) / 3
    error = math.sqrt(sum((x - mean) ** 2 for x in logits) / 2 / 3)
    # Student's t of 2 degrees of freedom at 0.975.
    bounds = [1 / (1 + math.exp(-(mean + sign * 4.302653 * error))) for sign in (-1, 1)]
    assert verdicts.interval([0.8, 0.9, 0.7], "share")[1] == pytest.approx(bounds, abs=1e-6)


def test_what_learned_has_twice_guessing():
    assert verdicts.learned(0.2, 10)
    assert not verdicts.learned(0.199, 10)


@pytest.mark.parametrize(
    ("effect", "shown"), [(2.84e-15, "+0"), (-2.84e-10, "-2.84e-10"), (0.5, "+0.5")]
)
def test_the_difference_of_equal_means_is_nought(effect, shown):
    assert verdicts.Finding("cannot tell", effect=effect).numbers == shown
