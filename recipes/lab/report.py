"""Writes docs/reproduction.md and docs/results/ from what the recipes measured.

Question: none; it reads recipes/results/.
Data: recipes/results/.
Command:

    make report

In docs/reproduction.md are the papers' claims, what was measured here and the verdicts, which
follow from the numbers by rules that are stated there; none is written by hand. docs/results/ has
a page for each benchmark. docs/results/model_table.md is the work of recipes.papers.model_table,
as its networks must be built.
Cost: seconds.
"""

import dataclasses
import pathlib
import textwrap

from keras_fmm import files
from recipes.benchmarks import (
    accelerator,
    aw_conv,
    first_step,
    memory,
    mobile,
    models,
    quantization,
    residuals,
)
from recipes.benchmarks import detection as detection_benchmark
from recipes.benchmarks import self_attention as self_attention_benchmark
from recipes.lab import comparison, figures, power, verdicts
from recipes.lab.sections import is_finished, pictures
from recipes.lab.settings import setting, start
from recipes.papers import (
    attentional_weights,
    deep_products,
    detection,
    fmmnet,
    importance_agreement,
    importance_controls,
    landscape,
    mixup_regularization,
    multiplication_is_the_key,
    random_landscape,
    rate_search,
    self_attention,
    sensitivity,
    smoothness_along_training,
)

INTRODUCTION = """# What was reproduced

Claims of papers, measured by this package's recipes: "Towards Understanding the Effectiveness of
Attention Mechanism" (FMM), "An Attention Module for Convolutional Neural Networks" (AW), "Attention
Augmented Convolutional Networks" (AA) and "Stand-Alone Self-Attention in Vision Models" (SASA). The
last column leads to the numbers behind a verdict.

CNN is the FMM paper's small network, and AM the same with a squeeze-and-excite gate after each
convolution. AMnoRL has gates without their ReLU, and AMnoMTP gates that are added. AW stands for
AW-convolution and SE for squeeze-and-excite.
"""

RULES = f"""## How a verdict is reached

This page is written by `make report` from `recipes/results/`, whose files have every trial by seed.
The rules are in `recipes/lab/verdicts.py`; they are of {verdicts.RULES_DATE}, as is the list of
primary endpoints. **What was measured before them says so in its section**; what was fixed before
its first run is in its recipe's docstring. The rules before corrected nothing for the number of
tests.

- The **primary** endpoints of one paper are one family: their p is corrected by Holm, and stands
  beside the raw one; one that could not be tested counts as a test. A claim **holds**, or **does
  not hold**, only by a corrected p < {verdicts.SIGNIFICANT}. The table above has the primary ones,
  and all of a section without; of the deep products, which are no paper's claim, the primary ones.
- All else is exploratory: in favour or against by the raw p, uncorrected; of what is counted, such
  as trials that stay finite, by whether it is so of all.
- A difference is tested in pairs of one seed (two-sided t-test), an equivalence by two one-sided
  tests (TOST) against the margin that is stated.
- Where an interval reaches zero and leaves out a difference as large as the paper's, that size is
  excluded, uncorrected, and not the claim: **smaller than the paper's, uncorrected**.
- Else we **cannot tell**; nor where a trial did not learn: less than twice what guessing gives. One
  that diverged is entered as guessing, and its section says so.
- Nor can we of an accuracy while a curve on validation still rises and the schedule is shorter than
  the paper's {verdicts.FULL_SCHEDULE} epochs, as a gate slows the first ones. A curve is flat when
  its last fifth is less than 0.2 points above the fifth before, of ten epochs or more, in the mean
  over the seeds. (Until 2026-11-27 in each seed, so that more seeds made it rarer: one image of
  digits' 144 is 0.7 points. The rule was changed after some of the results were there: what it
  decides and the older one left open is marked in its section.)
- There is **no verdict** where the paper gives no number to compare with, nor on how attention
  agrees with an importance of which it is a factor (of the cosine: "cannot tell" until 2026-11-29).

Intervals are of 95 %, over the seeds (n), by Student's t: of accuracies and shares on the logit, of
tau by Fisher's z, so that none of these holds what cannot be; of differences as they are. With
three seeds they lean on normality: of three pairs an exact test of their signs can have no p below
0.25.
"With changes" stands behind a commit whose tracked files differed; until 2026-11-29 the results
that other trials had written meanwhile counted as such.
Effects are in the direction of the claim. Seconds are of training, on the machine of the section;
recipes that use the same networks train them once. The seeds that would decide are those of a power
of 0.8 with the deviation that was found, at 0.05 divided by the number of tests of the family.
"""

POWER = """## How many seeds

By `python -m recipes.lab.power`: seeds for a power of 0.8 at 0.05 in pairs of one seed; the last
column plans with the upper 80 % limit of the deviation, which few seeds leave uncertain.

"""

# In the order of the page.
PAPERS = (
    multiplication_is_the_key,
    rate_search,
    importance_agreement,
    importance_controls,
    landscape,
    random_landscape,
    sensitivity,
    smoothness_along_training,
    mixup_regularization,
    fmmnet,
    deep_products,
    attentional_weights,
    self_attention,
)
# By the name of its page: what makes it of the folder of results, or returns None without them.
PAGES = {
    "aw_conv": aw_conv.page,
    "models": models.page,
    "first_step": first_step.page,
    "memory": memory.page,
    "accelerator": accelerator.page,
    "mobile": mobile.page,
    "quantization": quantization.page,
    "residuals": residuals.page,
    "self_attention": self_attention_benchmark.page,
    "detection": detection.page,
    "detection_cost": detection_benchmark.page,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where it reads and writes."""

    results: str = setting("recipes/results", "folder of the recipes' results")
    output: str = setting("docs/reproduction.md", "the page of verdicts, which is replaced")
    pictures: bool = setting(True, "draw the differences too, beside the results")
    pages: str = setting("docs/results", "folder of the benchmarks' pages, which are replaced")
    smoke: bool = setting(False, "as without")


def main(settings):
    """Writes the pages and returns the text of the first, that of verdicts."""
    results = pathlib.Path(settings.results)
    benchmarks = {name: page(results) for name, page in PAGES.items()}
    benchmarks = {name: text for name, text in benchmarks.items() if text is not None}
    if settings.pictures:
        draw(results)
    judged = reproduction(results)
    if judged is None and not benchmarks:
        raise ValueError(
            "`results` must be a folder with results of the recipes that compare. "
            f"Received: {settings.results}. Run one of them, or name the folder."
        )
    for name, text in benchmarks.items():
        write(pathlib.Path(settings.pages) / f"{name}.md", text)
    if judged is not None:
        write(pathlib.Path(settings.output), judged)
    return judged


def measured(results):
    """Returns each section with a part of the results and its claims, corrected, a list."""
    found = [
        (section, name, part, section.findings(name, part))
        for section in (section for paper in PAPERS for section in paper.SECTIONS)
        for name, part in comparison.read(results / f"{section.recipe}.json").items()
        if section.is_of(name)
    ]
    claims = [claim for *_, claims in found for claim in claims]
    settled = iter(verdicts.settled([(claim.family, claim.finding) for claim in claims]))
    return [
        (*which, [dataclasses.replace(claim, finding=next(settled)) for claim in claims])
        for *which, claims in found
    ]


def reproduction(results):
    """Returns the page of verdicts, a str, or None where no paper's claim was measured."""
    rows, texts = [], []
    for section, name, part, claims in measured(results):
        rows += section.rows(name, part, claims)
        shown = pictures(results, section.recipe, name)
        texts.append(section.text(name, part, claims, shown))
    if not texts:
        return None
    planned = POWER + power.table(results) + "\n"
    return "\n".join([INTRODUCTION, table(rows), RULES, planned, *texts])


def draw(results):
    """Writes a picture of the differences of each part, beside its results."""
    for section, name, part, claims in measured(results):
        rows = {
            textwrap.fill(claim.statement.partition(" (")[0], 60): (
                claim.finding.differences,
                claim.finding.confidence_95,
                claim.finding.bounds,
            )
            for claim in claims
            if len(claim.finding.differences) > 1 and "did not learn" not in claim.finding.reason
        }
        if section.draw is not None and is_finished(part):
            of_part = comparison.as_file_name(f"{section.recipe}_{name}")
            section.draw(name, part, results / f"{of_part}.png")
        if rows:
            part = comparison.as_file_name(name)
            path = results / f"differences_{section.recipe}_{part}.png"
            figures.differences(
                rows, section.heading(name), "effect in the claim's direction", path
            )


def table(rows):
    """Returns the table of all claims."""
    head = (
        "claim",
        "measured on",
        "paper",
        "ours",
        "verdict",
        "effect (95 %), p",
        "n",
        "seconds of training",
        "command",
        "what would decide it",
        "section",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        # A bar would end the cell.
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


def write(path, text):
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    start(main, Settings, __doc__)
