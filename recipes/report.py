"""Writes docs/reproduction.md: what the papers claim, what was measured here, and the verdict.

Question: none; it reads what the other recipes measured.
Data: recipes/results/.
Command:

    make report

Verdicts follow from the numbers by rules that are stated in the page; none is written by hand.
Cost: seconds.
"""

import dataclasses
import pathlib

import numpy as np

from keras_fmm import files
from recipes import (
    accuracy,
    attentional_weights,
    comparison,
    fmmnet,
    importance_agreement,
    landscape,
    sensitivity,
)
from recipes.settings import setting, start

FULL_SCHEDULE = 200
SIGNIFICANT = 0.05

INTRODUCTION = f"""# What was reproduced

Claims of two papers, measured by this package's recipes: "Towards Understanding the Effectiveness
of Attention Mechanism" (FMM) and "An Attention Module for Convolutional Neural Networks" (AW). This
page is written by `make report` from `recipes/results/`; each section names the recipe that
measures it, whose docstring says what was fixed before the first run. Intervals are of 95 %, and n
counts the seeds.

How a verdict is reached: a claim **holds** where the test of its difference gives p < {SIGNIFICANT}
in its favour, and **does not hold** where it gives that against it, or where the interval leaves
out a difference as large as the paper's. Else we **cannot tell**. Of an accuracy we cannot tell
either while a curve on validation still rises and the schedule is shorter than the paper's
{FULL_SCHEDULE} epochs, as a gate slows the first ones (a curve is flat when its last fifth is less
than 0.2 points above the fifth before, of ten epochs or more). Several tests are made and none is
corrected for their number: one in twenty would come out by chance.
"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where it reads and writes."""

    results: str = setting("recipes/results", "folder of the recipes' results")
    output: str = setting("docs/reproduction.md", "the page, which is replaced")
    smoke: bool = setting(False, "as without")


def main(settings):
    """Writes the page and returns its text."""
    sections = [INTRODUCTION]
    for section in SECTIONS:
        for name, part in comparison.read(f"{settings.results}/{section.recipe}.json").items():
            if section.is_of(name):
                sections.append(section.text(name, part))
    page = "\n".join(sections)
    path = pathlib.Path(settings.output)
    with files.replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return page


@dataclasses.dataclass(frozen=True)
class Section:
    """A claim, the recipe whose results speak of it, and how they are shown and judged.

    Attributes:
        recipe: str.
        title, claim: str.
        show: function of a part to markdown.
        judge: function of a part's name and the part to pairs of a statement and a verdict.
        variant: str that a part's name must hold, or None for any.
    """

    recipe: str
    title: str
    claim: str
    show: object
    judge: object
    variant: str | None = None

    def is_of(self, name):
        return self.variant is None or self.variant in name

    def text(self, name, part):
        lines = [f"## {self.title}: {name}", "", f"Claim: {self.claim}", ""]
        lines += [f"- {statement}: {verdict}" for statement, verdict in self.judge(name, part)]
        lines += ["", self.show(part), "", f"`recipes.{self.recipe}`, {circumstances(part)}", ""]
        return "\n".join(lines)


def circumstances(part):
    """Returns what a part's trials ran on, a str."""
    found = []
    for environment in part["environments"]:
        device, versions = environment["device"], environment["versions"]
        names = ", ".join(device["names"]) if device.get("names") else device["kind"]
        text = f"Keras {versions['keras']} on {versions['backend']}, {names}"
        if text not in found:
            found.append(text)
    return "; ".join(found) + "."


def epochs_of(name):
    return int(name.split(", ")[-1].split()[0])


def judged(name, part, test, candidates, paper=None):
    """Returns the verdict on the claim that an accuracy is higher, by the rules of the page."""
    row = part["tests"][test]
    if row["n"] < 2 or row["confidence_95"] is None:
        return "cannot tell: one seed"
    rising = [candidate for candidate in candidates if not part["flat"][candidate]]
    if epochs_of(name) < FULL_SCHEDULE and rising:
        return (
            f"cannot tell: after {epochs_of(name)} epochs of {FULL_SCHEDULE} the curves of "
            f"{' and '.join(rising)} still rise"
        )
    return of_difference(row, paper)


def of_difference(row, expected=None):
    """Returns the verdict on the claim that a difference is positive, as large as expected."""
    low, high = row["confidence_95"]
    found = f"{row['difference']:+.3g}, {low:+.3g} to {high:+.3g}"
    if low > 0:
        return f"**holds** ({found})"
    if high < 0:
        return f"**does not hold** ({found})"
    if expected is not None and high < expected:
        return f"**does not hold**: a difference of {expected:+.2f} is left out ({found})"
    return f"cannot tell ({found})"


def negative(row):
    """Returns the test of the opposite difference."""
    low, high = row["confidence_95"]
    return {**row, "difference": -row["difference"], "confidence_95": [-high, -low]}


def judge_multiplication(name, part):
    paper = part["paper_percent"] or {}
    for other in ("CNN", "AMnoMTP"):
        expected = paper["AM"] - paper[other] if paper else None
        test = f"AM minus {other}"
        yield f"AM is better than {other}", judged(name, part, test, ("AM", other), expected)
    row = part["tests"]["AM minus AMnoRL"]
    yield (
        "the gate's own ReLU matters little",
        f"no verdict, as the paper gives no margin (AM minus AMnoRL {row['difference']:+.2f}, "
        f"{accuracy.interval(row)})",
    )


def judge_mixup(name, part):
    paper = part["paper_percent"] or {}
    expected = paper["CNN, mixup"] - paper["CNN"] if paper else None
    yield (
        "mixup helps the CNN",
        judged(name, part, "CNN, mixup minus CNN", ("CNN", "CNN, mixup"), expected),
    )
    row = part["tests"]["AM, mixup equals AM"]
    statement = f"mixup changes AM by less than {row['margin']} points"
    yield statement, judge_equivalence(name, part, row, ("AM", "AM, mixup"))


def judge_equivalence(name, part, row, candidates):
    verdict = judged(name, part, "AM, mixup equals AM", candidates)
    if "one seed" in verdict or "still rise" in verdict:
        return verdict
    low, high = row["confidence_95"]
    found = f"{row['difference']:+.2f}, {low:+.2f} to {high:+.2f}"
    if row["p_value"] is not None and row["p_value"] < SIGNIFICANT:
        return f"**holds** ({found})"
    if low > row["margin"] or high < -row["margin"]:
        return f"**does not hold** ({found})"
    return f"cannot tell ({found})"


def judge_sensitivity(name, part):
    for measure, text in (
        ("jacobian", "J is lower with attention"),
        ("output_sensitivity", "S is lower with attention"),
    ):
        row = part["tests"][f"log of AM / CNN, {measure}"]
        if row["confidence_95"] is None:
            yield text, "cannot tell: one seed"
            continue
        ratio = f"AM / CNN is {np.exp(row['difference']):.2f}"
        yield text, of_difference(negative(row)).partition(" (")[0] + f": {ratio}"


def judge_landscape(name, part):
    for kind in landscape.KINDS:
        for measure in ("total_variation, relative", "monotone_pieces"):
            row = part["tests"][f"AM minus CNN, {kind}, {measure}"]
            text = f"{kind}: {measure} is lower with attention"
            if row["confidence_95"] is None:
                yield text, "cannot tell: one seed"
                continue
            yield text, of_difference(negative(row))


def judge_importance(name, part):
    for gate in importance_agreement.GATES:
        kind = importance_agreement.IMPORTANCES[0]
        of = {a: part["agreement"][f"{gate}, {kind}, {a}"] for a in importance_agreement.ATTENTIONS}
        if any(len(scores) < 3 for scores in of.values()):
            yield gate, "cannot tell: no channel of it is of any importance"
            continue
        tau = {a: f"{scores['kendall_median']['mean']:+.2f}" for a, scores in of.items()}
        share = {a: f"{scores['cosine_above_0.7']['mean']:.0%}" for a, scores in of.items()}
        yield (
            f"{gate}: the ranks of attention are not those of importance (|tau| below 0.1)",
            f"{_holds(abs(of['trained']['kendall_median']['mean']) < 0.1)} (median tau "
            f"{tau['trained']}; random {tau['random']}, untrained {tau['untrained']})",
        )
        yield (
            f"{gate}: the cosine is above 0.7 for most images",
            f"{_holds(of['trained']['cosine_above_0.7']['mean'] > 0.5)} ({share['trained']}; "
            f"random {share['random']}, untrained {share['untrained']})",
        )


def _holds(yes):
    return "**holds**" if yes else "**does not hold**"


def judge_fmmnet(name, part):
    paper = part["paper_percent"]
    expected = paper["multiply"] - paper["add"] if paper else None
    verdict = judged(name, part, "multiply minus add", ("add", "multiply"), expected)
    yield "F(x) * x is better than F(x) + x", verdict


def judge_depth(name, part):
    rows = {
        int(candidate.split()[1]): row
        for candidate, row in part["by_depth"].items()
        if candidate.startswith("multiply")
    }
    failed = [depth for depth, row in rows.items() if row["finite"] < row["trials"]]
    unlearned = [depth for depth, row in rows.items() if row["learned"] < row["trials"]]
    yield (
        "more than seven multiplicative blocks explode",
        f"numbers stop being finite in some trial at {failed or 'none'} blocks; "
        f"some trial does not learn at {unlearned or 'none'} (of {list(rows)})",
    )


def judge_weights(name, part):
    for other in ("plain", "SE"):
        ours = {"plain": "AW", "SE": "AW-SE"}[other]
        verdict = judged(name, part, f"{ours} minus {other}", (ours, other))
        yield f"{ours} is better than {other}", verdict


SECTIONS = (
    Section(
        "multiplication_is_the_key",
        "FMM, Table I",
        "attention helps because it multiplies.",
        accuracy.markdown,
        judge_multiplication,
    ),
    Section(
        "importance_agreement",
        "FMM, Figure 2",
        "attention does not follow the features' importance.",
        importance_agreement.markdown,
        judge_importance,
    ),
    Section(
        "landscape",
        "FMM, Figures 1, 3 and 4",
        "the landscape with attention is smoother.",
        landscape.markdown,
        judge_landscape,
    ),
    Section(
        "sensitivity",
        "FMM, Table II",
        "a network with attention is less sensitive to its input.",
        sensitivity.markdown,
        judge_sensitivity,
    ),
    Section(
        "mixup_regularization",
        "FMM, Table III",
        "attention regularises as mixup does, which adds nothing to it.",
        accuracy.markdown,
        judge_mixup,
    ),
    Section(
        "fmmnet",
        "FMM, Table IV",
        "a network of products is no worse than one of sums.",
        accuracy.markdown,
        judge_fmmnet,
        "WRN",
    ),
    Section(
        "fmmnet",
        "FMM, depth",
        "more than seven multiplicative blocks explode.",
        fmmnet.depth_table,
        judge_depth,
        "depth",
    ),
    Section(
        "attentional_weights",
        "AW",
        "attending to weights raises the accuracy at hardly any cost.",
        lambda part: accuracy.markdown(part) + "\n\n" + attentional_weights.costs(part),
        judge_weights,
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
