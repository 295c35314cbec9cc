"""What the measured numbers say of the papers' claims, by the rules in docs/reproduction.md.

Each function that judges takes a part's name and the part, as `comparison.measured` and a recipe's
conclusions leave it, and yields pairs of a statement and its verdict.
"""

import math

from recipes import accuracy, comparison, importance_agreement, landscape, sensitivity

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


def multiplication(name, part):
    """Table I: AM against CNN, and against the gate that adds."""
    paper = part["paper_percent"] or {}
    for other in ("CNN", "AMnoMTP"):
        expected = paper["AM"] - paper[other] if paper else None
        test = part["tests"][f"AM minus {other}"]
        yield f"AM is better than {other}", higher(name, part, test, ("AM", other), expected)
    test = part["tests"]["AM minus AMnoRL"]
    yield (
        "the gate's own ReLU matters little",
        "no verdict, as the paper gives no margin "
        f"(AM minus AMnoRL {test['difference']:+.2f}, p = {accuracy.p_value(test)})",
    )


def mixup(name, part):
    """Table III: what mixup adds to each network."""
    paper = part["paper_percent"] or {}
    expected = paper["CNN, mixup"] - paper["CNN"] if paper else None
    test, candidates = part["tests"]["CNN, mixup minus CNN"], ("CNN", "CNN, mixup")
    yield "mixup helps the CNN", higher(name, part, test, candidates, expected)
    test, candidates = part["tests"]["AM, mixup equals AM"], ("AM", "AM, mixup")
    yield (
        f"mixup changes AM by less than {test['margin']} points",
        equivalent(name, part, test, candidates),
    )


def sensitivities(name, part):
    """Table II: J and S with attention, on a logarithmic scale."""
    figures = sensitivity.PAPER.get(name.split(", ")[0], {})
    for measure, letter, key in (
        ("jacobian", "J", "jacobian_sum"),
        ("output_sensitivity", "S", "output_sensitivity"),
    ):
        test = part["tests"][f"log of AM / CNN, {measure}"]
        expected = None
        if key in figures:
            plain, attended = figures[key]
            expected = math.log(attended / plain)
        yield (
            f"{letter} is lower with attention (AM / CNN here {math.exp(test['difference']):.2f}; "
            "the verdict's numbers are logarithms of CNN / AM)",
            lower(name, part, test, sensitivity.CANDIDATES, expected),
        )


def smoothness(name, part):
    """Figures 1, 3 and 4: the two measures that speak of how often and how far curves turn."""
    for kind in landscape.KINDS:
        for measure in ("total_variation, relative", "monotone_pieces"):
            test = part["tests"][f"AM minus CNN, {kind}, {measure}"]
            yield (
                f"{kind}: {measure} is lower with attention (CNN minus AM)",
                lower(name, part, test, landscape.CANDIDATES),
            )


def importance(name, part):
    """Figure 2: attention beside importance, and beside what else could stand there."""
    if reason := obstacle(name, part, ("AM",), of_accuracy=False):
        yield "attention and importance", f"cannot tell: {reason}"
        return
    kind = importance_agreement.IMPORTANCES[0]
    trials = list(part["trials"]["AM"].values())
    for gate in importance_agreement.GATES:
        scores = {}
        for attention in importance_agreement.ATTENTIONS:
            rows = [trial["agreement"][f"{gate}, {kind}, {attention}"] for trial in trials]
            scores[attention] = {
                score: [row[score] for row in rows if row[score] is not None]
                for score in ("kendall_median", "cosine_above_0.7")
            }
        if min(len(found) for found in scores["trained"].values()) < 2:
            yield gate, "cannot tell: in some trial its attention or importance is the same of all"
            continue
        # Attention that is the same for all channels, as an untrained gate's may be, has no ranks.
        means = {
            score: ", ".join(
                f"{attention} {comparison.summary(row[score])['mean']:.2f}"
                if row[score]
                else f"{attention} none"
                for attention, row in scores.items()
            )
            for score in ("kendall_median", "cosine_above_0.7")
        }
        sizes = [abs(tau) for tau in scores["trained"]["kendall_median"]]
        yield (
            f"{gate}: |median tau| is below 0.1 (tau: {means['kendall_median']})",
            beyond(comparison.summary(sizes), 0.1, above=False),
        )
        yield (
            f"{gate}: the cosine is above 0.7 for most images ({means['cosine_above_0.7']})",
            beyond(comparison.summary(scores["trained"]["cosine_above_0.7"]), 0.5, above=True),
        )


def fmmnet(name, part):
    """Table IV: products instead of sums."""
    paper = part["paper_percent"] or {}
    expected = paper["multiply"] - paper["add"] if paper else None
    test = part["tests"]["multiply minus add"]
    verdict = higher(name, part, test, ("add", "multiply"), expected)
    yield "F(x) * x is better than F(x) + x", verdict


def depth(name, part):
    """How many multiplicative blocks can be trained; stated, not judged."""
    rows = {
        int(candidate.split()[1]): row
        for candidate, row in part["by_depth"].items()
        if candidate.startswith("multiply")
    }
    infinite = [str(depth) for depth, row in rows.items() if row["finite"] < row["trials"]]
    failed = [str(depth) for depth, row in rows.items() if row["learned"] < row["trials"]]
    yield (
        "more than seven multiplicative blocks explode",
        f"of {', '.join(map(str, rows))} blocks, some trial was not finite with "
        f"{', '.join(infinite) or 'none'}, and some trial did not learn with "
        f"{', '.join(failed) or 'none'}",
    )


def weights(name, part):
    """The AW paper: attending to weights, without and with gates."""
    for ours, other in (("AW", "plain"), ("AW-SE", "SE")):
        test = part["tests"][f"{ours} minus {other}"]
        yield f"{ours} is better than {other}", higher(name, part, test, (ours, other))
