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
from recipes.lab import comparison, verdicts
from recipes.lab.sections import pictures
from recipes.lab.settings import setting, start
from recipes.papers import (
    attentional_weights,
    deep_products,
    detection,
    fmmnet,
    importance_agreement,
    landscape,
    mixup_regularization,
    multiplication_is_the_key,
    self_attention,
    sensitivity,
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

This page is written by `make report` from `recipes/results/`; each section names the recipe that
measures it, whose docstring says what was fixed before the first run. Intervals are of 95 %, and n
counts the seeds.

- A claim of a difference **holds** where the interval lies on its side of zero
  (p < {verdicts.SIGNIFICANT}), however large it is.
- It **does not hold** where the interval lies on the other side, or reaches zero and leaves out a
  difference as large as the paper's.
- A claim of equivalence holds where two one-sided tests give p < {verdicts.SIGNIFICANT}.
- Else we **cannot tell**; nor where a trial did not learn (less than twice what guessing gives).
- Nor can we of an accuracy while a curve on validation still rises and the schedule is shorter than
  the paper's {verdicts.FULL_SCHEDULE} epochs, as a gate slows the first ones. A curve is flat when
  its last fifth is less than 0.2 points above the fifth before, of ten epochs or more.
- There is **no verdict** where the paper gives no number to compare with.

Several tests are made and none is corrected for their number: one in twenty would come out by
chance.
"""

# In the order of the page.
PAPERS = (
    multiplication_is_the_key,
    importance_agreement,
    landscape,
    sensitivity,
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
    "detection": detection.page,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where it reads and writes."""

    results: str = setting("recipes/results", "folder of the recipes' results")
    output: str = setting("docs/reproduction.md", "the page of verdicts, which is replaced")
    pages: str = setting("docs/results", "folder of the benchmarks' pages, which are replaced")
    smoke: bool = setting(False, "as without")


def main(settings):
    """Writes the pages and returns the text of the first, that of verdicts."""
    results = pathlib.Path(settings.results)
    benchmarks = {name: page(results) for name, page in PAGES.items()}
    benchmarks = {name: text for name, text in benchmarks.items() if text is not None}
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


def reproduction(results):
    """Returns the page of verdicts, a str, or None where no paper's claim was measured."""
    rows, texts = [], []
    for section in (section for paper in PAPERS for section in paper.SECTIONS):
        for name, part in comparison.read(results / f"{section.recipe}.json").items():
            if section.is_of(name):
                rows += section.rows(name, part)
                texts.append(section.text(name, part, pictures(results, section.recipe, name)))
    if not rows:
        return None
    return "\n".join([INTRODUCTION, table(rows), RULES, *texts])


def table(rows):
    """Returns the table of all claims."""
    lines = ["| claim | measured on | verdict | section |", "|---|---|---|---|"]
    for row in rows:
        # A bar would end the cell.
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


def write(path, text):
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    start(main, Settings, __doc__)
