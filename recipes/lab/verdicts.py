"""Verdicts on claims from measured numbers: the rules that docs/reproduction.md states.

The papers' recipes call them on parts as `comparison.measured` leaves them, and yield pairs of a
statement and a `Finding`; `settled` then corrects the primary ones for their number.
"""

import dataclasses

import numpy as np
from scipy import stats

from recipes.lab import power

# The day of these rules. What was measured before them had the criterion of its recipe's docstring;
# these rules are fixed for what is measured later.
RULES_DATE = "2026-11-28"
# The commits of that day, by their first ten digits, that had these rules already.
WITH_RULES = ("acb5a293d1",)
FULL_SCHEDULE = 200
SIGNIFICANT = 0.05
# A share or an accuracy of exactly 0 or 1 has no logit; it counts as half an image of so many.
IMAGES = 10000
# By recipe, the beginnings of the statements that are primary endpoints; those of one paper are one
# family. All else is exploratory.
PRIMARY = {
    "multiplication_is_the_key": ("AM is better than CNN", "AM is better than AMnoMTP"),
    "rate_search": (
        "AM is better than CNN",
        "AM is better than AMnoMTP",
        "AM is better than AMadd",
    ),
    "importance_controls": (
        "the figure as a whole, FullGrad: attention does not follow importance more than its own",
        "the figure as a whole, FullGrad: nor an importance",
    ),
    "landscape": (
        "cross-class: total_variation, relative",
        "single-class: total_variation, relative",
    ),
    "random_landscape": ("random: total_variation, relative",),
    "sensitivity": ("the Jacobian's norm J", "the logits' variance S"),
    "smoothness_along_training": (
        "jacobian is lower with attention at equal loss",
        "output_sensitivity is lower with attention at equal loss",
    ),
    "mixup_regularization": ("mixup helps the CNN", "mixup changes AM"),
    "fmmnet": ("F(x) * x is better",),
    "deep_products": ("54 blocks of centered are less",),
    "attentional_weights": ("AW is better than plain", "AW-SE is better than SE"),
    "self_attention": (
        "relative is better than none",
        "share 0.25 is better",
        "window 7 is better",
        "stages 34 is better than stages 1234",
    ),
}
OUTCOMES = (
    "**holds**",
    "**does not hold**",
    "in favour, exploratory",
    "against, exploratory",
    "smaller than the paper's, uncorrected",
    "cannot tell",
    "no verdict",
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What follows of a claim.

    Attributes:
        outcome: str, one of `OUTCOMES`.
        reason: str, why nothing can be told; or "".
        effect: float, in the direction of the claim; None without.
        confidence_95: pair of float, its interval; None without.
        p_value: float, of the test that would decide, uncorrected; None without.
        n: int, the seeds.
        differences: tuple of float, one a seed.
        expected: float, the paper's effect; None without.
        bound: float, what the effect is tested against.
        paper, ours: str, the paper's figures and ours; "-" without.
        margin: float, of a claim of equivalence; None of another.
        adjusted: float, p after Holm's correction; None where it is exploratory.
        candidates: tuple of str, those of the part that are compared; empty for all.
        tests: int, how many there are in its family.
        one_sided: bool, whether the test is, of an effect above the bound.
        rose: bool, whether the curve of a seed still rises, which until 2026-11-27 left it open.
    """

    outcome: str
    reason: str = ""
    effect: float | None = None
    confidence_95: tuple | None = None
    p_value: float | None = None
    n: int | None = None
    differences: tuple = ()
    expected: float | None = None
    bound: float = 0.0
    paper: str = "-"
    ours: str = "-"
    margin: float | None = None
    adjusted: float | None = None
    candidates: tuple = ()
    tests: int = 1
    one_sided: bool = False
    rose: bool = False

    def __str__(self):
        return " ".join(filter(None, (self.outcome, self.numbers, self.because)))

    @property
    def because(self):
        return f"because {self.reason}" if self.reason else ""

    @property
    def numbers(self):
        """Effect, interval and p, a str; "" without."""
        if self.effect is None:
            return ""
        # What equal means leave when they are subtracted is rounding.
        found = f"{0 if abs(self.effect) < 1e-12 else self.effect:+.3g}"
        if self.confidence_95:
            found += " ({:+.3g} to {:+.3g})".format(*self.confidence_95)
        if self.p_value is not None:
            found += f", p {self.p_value:.2g}"
        if self.adjusted is not None:
            found += f", Holm {self.adjusted:.3g}"
        return found

    @property
    def bounds(self):
        """What the effect is tested against, a tuple of floats."""
        return (self.bound,) if self.margin is None else (-self.margin, self.margin)

    @property
    def decides(self):
        """What would decide it, a str."""
        if self.reason.startswith("after"):
            return f"{FULL_SCHEDULE} epochs, or curves that are flat"
        is_open = self.outcome.startswith(("cannot tell", "smaller"))
        if not is_open or self.n is None:
            return "-"
        if "did not learn" in self.reason:
            return "a rate at which both learn"
        if len(self.differences) < 2 or not np.ptp(self.differences):
            return "more seeds"
        numbers = np.asarray(self.differences) - self.bound
        deviation = np.std(numbers, ddof=1)
        size, of = abs(np.mean(numbers)), "this effect"
        within = self.margin is not None and abs(self.effect) < self.margin
        if within:
            size, of = self.margin, "the margin"
        elif self.margin is not None:
            size, of = abs(self.effect) - self.margin, "what is beyond the margin"
        sizes = {of: size}
        if self.expected and self.outcome == "cannot tell":
            sizes = {"the paper's effect": abs(self.expected), **sizes}
        significant = SIGNIFICANT / self.tests
        if self.one_sided and np.mean(numbers) > 0:
            significant *= 2
        for of, size in sizes.items():
            seeds = power.seeds_needed(deviation, size, within, significant=significant)
            # So many would have shown the paper's effect; this one is smaller.
            if seeds is None or seeds > self.n:
                return f"{seeds or f'over {power.MOST}'} seeds for {of}"
        return "more seeds"


def shown_p(p_value):
    """Returns a p as text: "< 0.001" or three digits behind the point."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def learned(accuracy, classes):
    """Whether an accuracy (0 to 1) is that of a network that learned: twice guessing, or more."""
    return accuracy >= 2 / classes


def holm(p_values):
    """Returns p-values corrected by Holm for their number, a list in the same order."""
    order = np.argsort(p_values)
    steps = len(p_values) - np.arange(len(p_values))
    found = np.empty(len(p_values))
    found[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * steps))
    return found.tolist()


def is_primary(recipe, statement):
    """Whether a statement is one of the primary endpoints of a recipe."""
    return statement.startswith(PRIMARY.get(recipe, ()))


def settled(findings):
    """Returns the findings corrected for their number.

    Args:
        findings: sequence of tuples of a family (a str, or None of what is exploratory) and a
            `Finding`.

    Returns:
        List of `Finding`. A primary one that is no longer significant cannot be told; one that is
        exploratory is only in favour or against.
    """
    found = [finding for _, finding in findings]
    families = dict.fromkeys(family for family, _ in findings if family is not None)
    for family in families:
        rows = [row for row, (of, _) in enumerate(findings) if of == family]
        # What could not be tested counts as a test too: whether it could be follows from the data.
        p_values = [1.0 if found[row].p_value is None else found[row].p_value for row in rows]
        for row, p_value in zip(rows, holm(p_values), strict=True):
            found[row] = dataclasses.replace(found[row], tests=len(rows))
            if found[row].p_value is None:
                continue
            found[row] = dataclasses.replace(found[row], adjusted=p_value)
            if found[row].outcome in OUTCOMES[:2] and p_value >= SIGNIFICANT:
                found[row] = dataclasses.replace(
                    found[row],
                    outcome="cannot tell",
                    reason="it is not significant once corrected for the number of tests",
                )
    exploratory = dict(zip(OUTCOMES[:2], OUTCOMES[2:4], strict=True))
    for row, (family, finding) in enumerate(findings):
        if family is None and finding.outcome in exploratory:
            found[row] = dataclasses.replace(finding, outcome=exploratory[finding.outcome])
    return found


def interval(numbers, scale=None):
    """Returns mean and 95 % interval of numbers, bounded by what they can be.

    Student's t on a scale without bounds, back on their own: the mean is that of the numbers.

    Args:
        numbers: sequence of float.
        scale: "share" (0 to 1, by the logit), "correlation" (-1 to 1, by Fisher's z) or None.

    Returns:
        The mean, and a pair of float or None: fewer than two numbers, or all the same.
    """
    numbers = np.asarray(numbers, "float64")
    forward, back = SCALES[scale]
    scaled = forward(numbers)
    if len(numbers) < 2 or np.ptp(scaled) <= 1e-9 * np.abs(scaled).max():
        return float(numbers.mean()), None
    half = stats.sem(scaled) * stats.t.ppf(0.975, len(scaled) - 1)
    return float(numbers.mean()), tuple(float(back(scaled.mean() + x)) for x in (-half, half))


def _logit(numbers):
    clipped = np.clip(numbers, 0.5 / IMAGES, 1 - 0.5 / IMAGES)
    return np.log(clipped / (1 - clipped))


SCALES = {
    None: (lambda x: x, lambda x: x),
    "share": (_logit, lambda x: 1 / (1 + np.exp(-x))),
    "correlation": (lambda x: np.arctanh(np.clip(x, -1 + 1e-6, 1 - 1e-6)), np.tanh),
}


def obstacle(name, part, candidates, of_accuracy):
    """Returns why nothing can be said of these candidates, a str, or None.

    Args:
        name: str, the part's.
        part: dict.
        candidates: sequence of str.
        of_accuracy: bool, whether the claim is on an accuracy, which rises while it is trained.
    """
    if min(len(part["trials"][candidate]) for candidate in candidates) < 2:
        return "there is one seed"
    for candidate in candidates:
        if count := part["not_learned"][candidate]:
            of = len(part["trials"][candidate])
            return f"{count} of {of} trials of {candidate} did not learn"
    if not _must_be_flat(name, of_accuracy):
        return None
    epochs = _epochs(name)
    rising = [candidate for candidate in candidates if not is_flat(part["trials"][candidate])]
    if rising:
        curves = f"the curve of {rising[0]} still rises"
        if len(rising) > 1:
            curves = f"the curves of {' and '.join(rising)} still rise"
        return f"after {epochs} epochs of {FULL_SCHEDULE} {curves}"
    return None


def _epochs(name):
    return int(name.split(", ")[-1].split()[0])


def _must_be_flat(name, of_accuracy):
    """Whether curves must have stopped rising: of an accuracy after less than the full schedule."""
    return of_accuracy and _epochs(name) < FULL_SCHEDULE


def is_flat(runs):
    """Whether the curve on validation of a candidate has stopped rising.

    It has if the mean accuracy of its last fifth is less than 0.002 above that of the fifth before;
    fewer than ten epochs are never flat. It is the mean over the seeds that the claim is of: one
    image more in one seed, of the 144 that digits hold back, is 0.007 there.

    Args:
        runs: dict by seed of the trials, each with its list `"val_accuracy"`.
    """
    curve = np.mean([run["val_accuracy"] for run in runs.values()], axis=0)
    fifth = len(curve) // 5
    if len(curve) < 10:
        return False
    return bool(np.mean(curve[-fifth:]) - np.mean(curve[-2 * fifth : -fifth]) < 0.002)


def higher(name, part, test, candidates, expected=None, of_accuracy=True):
    """Returns the `Finding` on the claim that a test's difference is positive.

    Args:
        name, part, candidates, of_accuracy: as of `obstacle`.
        test: dict, of `comparison.paired_test`.
        expected: float, the paper's difference, or None.
    """
    interval_ = test["confidence_95"]
    found = Finding(
        "cannot tell",
        effect=test["difference"],
        confidence_95=interval_ and tuple(interval_),
        n=test["n"],
        differences=tuple(test.get("differences", ())),
        expected=expected,
        candidates=tuple(candidates),
        rose=_must_be_flat(name, of_accuracy)
        and any(
            not is_flat({seed: run})
            for candidate in candidates
            for seed, run in part["trials"][candidate].items()
        ),
        **(_accuracies(part, candidates) if of_accuracy else {}),
    )
    if reason := obstacle(name, part, candidates, of_accuracy):
        return dataclasses.replace(found, reason=reason)
    if interval_ is None:
        return dataclasses.replace(found, reason="every seed gives the same difference")
    low, high = interval_
    outcome = "cannot tell"
    if low > 0:
        outcome = "**holds**"
    elif high < 0:
        outcome = "**does not hold**"
    elif expected is not None and high < expected:
        outcome = "smaller than the paper's, uncorrected"
    return dataclasses.replace(found, outcome=outcome, p_value=test["p_value"])


def _accuracies(part, candidates):
    """Returns the paper's and our accuracies of candidates in percent, as of `Finding`."""
    found = {
        "ours": [row["mean"] for x in candidates if (row := part["accuracy_percent"].get(x))],
        "paper": [row for x in candidates if (row := (part["paper_percent"] or {}).get(x))],
    }
    return {key: " against ".join(f"{x:.2f}" for x in rows) or "-" for key, rows in found.items()}


def lower(name, part, test, candidates, expected=None, of_accuracy=False):
    """Returns the `Finding` on the claim that a test's difference is negative; as `higher`.

    Its effect is the difference with the other sign.
    """
    interval_ = test["confidence_95"]
    opposite = {
        **test,
        "difference": -test["difference"],
        "confidence_95": interval_ and [-interval_[1], -interval_[0]],
        "differences": [-x for x in test.get("differences", ())],
    }
    expected = None if expected is None else -expected
    return higher(name, part, opposite, candidates, expected, of_accuracy)


def equivalent(name, part, test, candidates, of_accuracy=True):
    """Returns the `Finding` on the claim that a difference is within a test's margin (TOST)."""
    found = higher(name, part, test, candidates, of_accuracy=of_accuracy)
    found = dataclasses.replace(found, outcome="cannot tell", margin=test["margin"])
    if found.reason:
        return found
    low, high = found.confidence_95
    outcome = "cannot tell"
    if test["p_value"] < SIGNIFICANT:
        outcome = "**holds**"
    elif low > test["margin"] or high < -test["margin"]:
        outcome = "**does not hold**"
    p_value = test["p_value"]
    if outcome == "**does not hold**":
        # The same two tests the other way: that the difference is beyond the margin.
        p_value = min(1.0, 2 * (1 - p_value))
    return dataclasses.replace(found, outcome=outcome, p_value=p_value)


def not_worse(name, part, test, candidates):
    """Returns the `Finding` on the claim that a difference is not below a test's -margin."""
    found = higher(name, part, test, candidates)
    found = dataclasses.replace(found, outcome="cannot tell", bound=-test["margin"], one_sided=True)
    if found.reason:
        return found
    outcome, p_value = "cannot tell", test["p_value"]
    if p_value < SIGNIFICANT:
        outcome = "**holds**"
    elif found.confidence_95[1] < -test["margin"]:
        outcome, p_value = "**does not hold**", min(1.0, 2 * (1 - p_value))
    return dataclasses.replace(found, outcome=outcome, p_value=p_value)
