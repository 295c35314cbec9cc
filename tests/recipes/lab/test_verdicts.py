import pytest

from recipes.lab import comparison, verdicts


def row(low, high, p_value=0.5):
    return {
        "difference": (low + high) / 2,
        "confidence_95": [low, high],
        "p_value": p_value,
        "margin": 0.4,
    }


SAME = {"difference": 0.1, "confidence_95": None, "p_value": None, "margin": 0.4}


def part_of(flat=True, seeds=5, not_learned=0):
    return {
        "trials": {"A": dict.fromkeys(range(seeds)), "B": dict.fromkeys(range(5))},
        "flat": {"A": flat, "B": True},
        "not_learned": {"A": not_learned, "B": 0},
    }


@pytest.mark.parametrize(
    ("epochs", "test", "part", "paper", "verdict"),
    [
        (200, row(0.1, 0.5), part_of(flat=False), 0.3, "**holds** ("),
        (10, row(0.1, 0.5), part_of(), 0.3, "**holds** ("),
        (10, row(0.1, 0.2), part_of(), 0.9, "**holds** ("),
        (10, row(0.1, 0.5), part_of(flat=False), 0.3, "cannot tell: after 10 epochs of 200"),
        (200, row(-0.5, -0.1), part_of(), 0.3, "**does not hold** ("),
        (200, row(-0.5, 0.1), part_of(), 0.3, "**does not hold**: +0.3 is left out"),
        (200, row(-0.5, 0.4), part_of(), 0.3, "cannot tell ("),
        (200, row(-0.5, 0.1), part_of(), None, "cannot tell ("),
        (200, row(0.1, 0.5), part_of(seeds=1), None, "cannot tell: one seed"),
        (200, row(0.1, 0.5), part_of(not_learned=2), None, "cannot tell: 2 of 5 trials of A"),
        (200, SAME, part_of(), None, "cannot tell: every seed gives the same"),
    ],
)
def test_verdicts_on_what_is_claimed_to_be_higher(epochs, test, part, paper, verdict):
    name = f"mnist, {epochs} epochs"
    assert verdicts.higher(name, part, test, ("A", "B"), paper).startswith(verdict)


def test_verdicts_on_what_is_claimed_to_be_lower():
    def lower(test, paper=None):
        # No accuracy: that curves rise does not matter.
        return verdicts.lower("mnist, 10 epochs", part_of(flat=False), test, ("A", "B"), paper)

    assert lower(row(-0.5, -0.1)) == "**holds** (+0.3, +0.1 to +0.5)"
    assert lower(row(0.1, 0.5)).startswith("**does not hold** (")
    assert lower(row(-0.1, 0.5), paper=-0.2).startswith("**does not hold**: +0.2 is left out")
    assert lower(row(-0.3, 0.5), paper=-0.2).startswith("cannot tell (")
    assert lower(SAME).startswith("cannot tell: every seed")


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (row(-0.1, 0.2, p_value=0.01), "**holds**"),
        (row(-0.1, 0.5, p_value=0.2), "cannot tell ("),
        (row(0.5, 0.9, p_value=0.99), "**does not hold**"),
        (SAME, "cannot tell: every seed"),
    ],
)
def test_verdicts_on_equivalence(test, verdict):
    found = verdicts.equivalent("mnist, 10 epochs", part_of(), test, ("A", "B"))
    assert found.startswith(verdict)


@pytest.mark.parametrize(
    ("numbers", "above", "verdict"),
    [
        ([0.8, 0.9, 0.85], True, "**holds**"),
        ([0.8, 0.9, 0.85], False, "**does not hold**"),
        ([0.1, 0.9, 0.5], True, "cannot tell ("),
        ([0.9], True, "cannot tell: one seed"),
    ],
)
def test_verdicts_on_a_bound(numbers, above, verdict):
    assert verdicts.beyond(comparison.summary(numbers), 0.5, above).startswith(verdict)
