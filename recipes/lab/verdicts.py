"""Verdicts on claims from measured numbers: the rules that docs/reproduction.md states.

The papers' recipes call them on parts as `comparison.measured` and their conclusions leave them.
"""

FULL_SCHEDULE = 200
SIGNIFICANT = 0.05


def obstacle(name, part, candidates, of_accuracy):
    """Returns why nothing can be said of these candidates, a str, or None.

    Args:
        name: str, the part's.
        part: dict.
        candidates: sequence of str.
        of_accuracy: bool, whether the claim is on an accuracy, which rises while it is trained.
    """
    if min(len(part["trials"][candidate]) for candidate in candidates) < 2:
        return "one seed"
    for candidate in candidates:
        if count := part["not_learned"][candidate]:
            of = len(part["trials"][candidate])
            return f"{count} of {of} trials of {candidate} did not learn"
    epochs = int(name.split(", ")[-1].split()[0])
    rising = [candidate for candidate in candidates if not part["flat"][candidate]]
    if of_accuracy and epochs < FULL_SCHEDULE and rising:
        curves = f"the curve of {rising[0]} still rises"
        if len(rising) > 1:
            curves = f"the curves of {' and '.join(rising)} still rise"
        return f"after {epochs} epochs of {FULL_SCHEDULE} {curves}"
    return None


def higher(name, part, test, candidates, expected=None, of_accuracy=True):
    """Returns the verdict on the claim that a test's difference is positive.

    Args:
        name, part, candidates, of_accuracy: as of `obstacle`.
        test: dict, of `comparison.paired_test`.
        expected: float, the paper's difference, or None.
    """
    if reason := obstacle(name, part, candidates, of_accuracy):
        return f"cannot tell: {reason}"
    if test["confidence_95"] is None:
        return f"cannot tell: every seed gives the same difference ({test['difference']:+.3g})"
    low, high = test["confidence_95"]
    found = f"({test['difference']:+.3g}, {low:+.3g} to {high:+.3g})"
    if low > 0:
        return f"**holds** {found}"
    if high < 0:
        return f"**does not hold** {found}"
    if expected is not None and high < expected:
        return f"**does not hold**: {expected:+.3g} is left out {found}"
    return f"cannot tell {found}"


def lower(name, part, test, candidates, expected=None, of_accuracy=False):
    """Returns the verdict on the claim that a test's difference is negative; as `higher`."""
    interval = test["confidence_95"]
    opposite = {
        "difference": -test["difference"],
        "confidence_95": interval and [-interval[1], -interval[0]],
    }
    expected = None if expected is None else -expected
    return higher(name, part, opposite, candidates, expected, of_accuracy)


def equivalent(name, part, test, candidates):
    """Returns the verdict on the claim that a difference is within a test's margin."""
    if reason := obstacle(name, part, candidates, of_accuracy=True):
        return f"cannot tell: {reason}"
    if test["confidence_95"] is None:
        return f"cannot tell: every seed gives the same difference ({test['difference']:+.3g})"
    low, high = test["confidence_95"]
    found = f"({test['difference']:+.3g}, {low:+.3g} to {high:+.3g})"
    if test["p_value"] < SIGNIFICANT:
        return f"**holds** {found}"
    if low > test["margin"] or high < -test["margin"]:
        return f"**does not hold** {found}"
    return f"cannot tell {found}"


def beyond(row, bound, above):
    """Returns the verdict on the claim that a mean over the seeds is above, or below, a bound."""
    if row["confidence_95"] is None:
        return "cannot tell: one seed, or the same of all"
    low, high = row["confidence_95"]
    found = f"({row['mean']:.3g}, {low:.3g} to {high:.3g})"
    if low > bound:
        return f"**{'holds' if above else 'does not hold'}** {found}"
    if high < bound:
        return f"**{'does not hold' if above else 'holds'}** {found}"
    return f"cannot tell {found}"
