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
import re

from keras_fmm import files
from recipes import (
    accuracy,
    attentional_weights,
    comparison,
    fmmnet,
    importance_agreement,
    landscape,
    sensitivity,
    verdicts,
)
from recipes.settings import setting, start

INTRODUCTION = f"""# What was reproduced

Claims of two papers, measured by this package's recipes: "Towards Understanding the Effectiveness
of Attention Mechanism" (FMM) and "An Attention Module for Convolutional Neural Networks" (AW). This
page is written by `make report` from `recipes/results/`; each section names the recipe that
measures it, whose docstring says what was fixed before the first run. Intervals are of 95 %, and n
counts the seeds.

How a verdict is reached: a claim of a difference **holds** where the interval lies on its side of
zero (p < {verdicts.SIGNIFICANT}), however large it is, and **does not hold** where the interval
lies on the other side, or reaches zero and leaves out a difference as large as the paper's. A claim
of equivalence holds where two one-sided tests give p < {verdicts.SIGNIFICANT}. Else we **cannot
tell**; nor where a trial did not learn (less than twice what guessing gives), or, of an accuracy,
while a curve on validation still rises and the schedule is shorter than the paper's
{verdicts.FULL_SCHEDULE} epochs, as a gate slows the first ones (a curve is flat when its last fifth
is less than 0.2 points above the fifth before, of ten epochs or more). Several tests are made and
none is corrected for their number: one in twenty would come out by chance.
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
                shown = pictures(settings.results, section.recipe, name)
                sections.append(section.text(name, part, shown))
    if len(sections) == 1:
        raise ValueError(
            "`results` must be a folder with results of the recipes that compare. "
            f"Received: {settings.results}. Run one of them, or name the folder."
        )
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

    def text(self, name, part, shown):
        lines = [f"## {self.title}: {name}", "", f"Claim: {self.claim}", ""]
        if "accuracy_percent" not in part and "by_depth" not in part:
            return "\n".join([*lines, "Not finished: the same command goes on.", ""])
        lines += [f"- {statement}: {verdict}" for statement, verdict in self.judge(name, part)]
        lines += ["", self.show(part), ""]
        if self.show is not accuracy.markdown and "accuracy_percent" in part:
            scores = part["accuracy_percent"].items()
            listed = ", ".join(f"{name} {accuracy.mean_and_spread(row)}" for name, row in scores)
            lines += [f"Accuracy on test, %: {listed}.", ""]
        lines += [line for picture in shown for line in (picture, "")]
        lines += [f"`recipes.{self.recipe}`, {circumstances(part)}", ""]
        return "\n".join(lines)


def circumstances(part):
    """Returns what a part's trials ran on, a str."""
    dates = sorted({t["date"] for trials in part["trials"].values() for t in trials.values()})
    found = []
    for environment in part["environments"]:
        device, versions = environment["device"], environment["versions"]
        names = ", ".join(device["names"]) if device.get("names") else device["kind"]
        text = f"Keras {versions['keras']} on {versions['backend']}, {names}"
        if text not in found:
            found.append(text)
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{'; '.join(found)}, {when}."


def pictures(results, recipe, name):
    """Returns markdown for each picture of a part among the results, a list."""
    parts = re.sub("[^A-Za-z0-9.]+", "_", "_".join(name.split(", ")[:-1]))
    found = sorted(pathlib.Path(results).glob(f"{recipe}_{parts}*.png"))
    # A part of another rate has pictures of its own.
    return [
        f"![{path.stem.replace('_', ' ')}](../recipes/results/{path.name})"
        for path in found
        if "rate" in name or "rate" not in path.stem
    ]


SECTIONS = (
    Section(
        "multiplication_is_the_key",
        "FMM, Table I",
        "attention helps because it multiplies.",
        accuracy.markdown,
        verdicts.multiplication,
    ),
    Section(
        "importance_agreement",
        "FMM, Figure 2",
        "attention does not follow the features' importance.",
        importance_agreement.markdown,
        verdicts.importance,
    ),
    Section(
        "landscape",
        "FMM, Figures 1, 3 and 4",
        "the landscape with attention is smoother.",
        landscape.markdown,
        verdicts.smoothness,
    ),
    Section(
        "sensitivity",
        "FMM, Table II",
        "a network with attention is less sensitive to its input.",
        sensitivity.markdown,
        verdicts.sensitivities,
    ),
    Section(
        "mixup_regularization",
        "FMM, Table III",
        "attention regularises as mixup does, which adds nothing to it.",
        accuracy.markdown,
        verdicts.mixup,
    ),
    Section(
        "fmmnet",
        "FMM, Table IV",
        "a network of products is slightly better than one of sums.",
        accuracy.markdown,
        verdicts.fmmnet,
        "WRN",
    ),
    Section(
        "fmmnet",
        "FMM, depth",
        "more than seven multiplicative blocks explode.",
        fmmnet.depth_table,
        verdicts.depth,
        "depth",
    ),
    Section(
        "attentional_weights",
        "AW",
        "attending to weights raises the accuracy at hardly any cost.",
        lambda part: accuracy.markdown(part) + "\n\n" + attentional_weights.costs(part),
        verdicts.weights,
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
