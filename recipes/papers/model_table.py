"""How large are the AW paper's networks, and can its tables be derived from its text?

Question: trainable parameters and multiply-adds of every model of Tables 1 and 2 of "An Attention
Module for Convolutional Neural Networks", built from its text, beside the paper's; and of the
networks of self-attention that it compares with, beside those of their own papers.
Data: none; the models are built, not run.
Command:

    python -m recipes.papers.model_table

It prints the table and writes it into docs/results/model_table.md.
Cost: half a minute on 2 cores.
Measured: docs/results/model_table.md.
"""

import dataclasses
import math

from keras_fmm import analysis, files, models
from recipes.lab.settings import output_path, setting, start


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where the table goes."""

    output: str = setting("docs/results/model_table.md", "the page")
    smoke: bool = setting(False, "only the MobileNets")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the paper's tables.

    Args:
        paper_name: str, as the paper calls the model.
        preset: str among `models.PRESETS`.
        parameters: float, the paper's, in millions; None where we have no figure at hand.
        multiply_adds: float, the paper's, in thousand millions; None likewise.
        remark: str.
    """

    paper_name: str
    preset: str
    parameters: float | None = None
    multiply_adds: float | None = None
    remark: str = ""


CBAM = "The paper's CBAM (MaxPool): channel attention alone."
SPATIAL = "The paper's CBAM (Spatial): without max-pooling."
RESNET101 = "The paper adds 0.40 M to ResNet101; equations 4 to 8 give 0.31 M."
MOBILENET = (
    "The paper adds 0.45 M by AW-convolutions; in every second pointwise place they add 0.14 M "
    "here (0.25 M in the other half of the places). All 13, with C2 / 16 hidden units where the "
    "paper has C1 / 16, would add 0.45 M."
)
WIDE = "The paper's row has about a quarter of these parameters; its text does not say why."
AA_WIDE = (
    "The AW paper's four have 8.43 to 8.50 M parameters and 3.89 G multiply-adds, which no usual "
    "depth and width give; AW-convolutions stand where its Figure 2b has them."
)
FIT = (
    "A fit: ratios of 0.25 in the first 3x3 of each block of stages 2 to 4. In stages 3 and 4 "
    "alone it would be 20.71 M."
)
HALF = "The paper counts a multiplication and an addition as two; its figure is halved here."
STEM = "The paper's attention stem; the default has one of convolutions."

STRIDE = "The stride is in a block's first 1x1; in its 3x3 (`stride_in_3x3=True`) it is 4.09 G."

# A figure of the paper's that we do not have at hand is None, and stays empty in the table.
IMAGENET = (
    Row("ResNet50", "resnet50", 25.56, 3.86, STRIDE),
    Row("AW-ResNet50", "aw_resnet50", 25.72, 3.87),
    Row("SE-ResNet50", "se_resnet50", 28.09, 3.87),
    Row("AW-SE-ResNet50", "aw_se_resnet50", 28.25),
    Row("CBAM-ResNet50", "cbam_resnet50", 28.09),
    Row("CBAM-ResNet50 (MaxPool)", "cbam_maxpool_resnet50", remark=CBAM),
    Row("AW-CBAM-ResNet50 (MaxPool)", "aw_cbam_maxpool_resnet50", remark=CBAM),
    Row("CBAM-ResNet50 (Spatial)", "cbam_spatial_resnet50", remark=SPATIAL),
    Row("AW-CBAM-ResNet50 (Spatial)", "aw_cbam_spatial_resnet50", remark=SPATIAL),
    Row("ResNet101", "resnet101", 44.55, 7.57),
    Row("AW-ResNet101", "aw_resnet101", 44.95, remark=RESNET101),
    Row("SE-ResNet101", "se_resnet101"),
    Row("AW-SE-ResNet101", "aw_se_resnet101", remark=RESNET101),
    Row("MobileNet", "mobilenet", 4.23, 0.569),
    Row("SE-MobileNet", "se_mobilenet", 5.07),
    Row("AW-SE-MobileNet", "aw_se_mobilenet", 5.52, remark=MOBILENET),
    Row("CBAM-MobileNet (Spatial)", "cbam_spatial_mobilenet", 5.07),
    Row("AW-CBAM-MobileNet (Spatial)", "aw_cbam_spatial_mobilenet", 5.52, remark=MOBILENET),
)
CIFAR100 = (
    Row("ResNet50", "resnet50", 23.71, 1.22),
    Row("AW-ResNet50", "aw_resnet50", 23.87),
    Row("SE-ResNet50", "se_resnet50", 26.24),
    Row("AW-SE-ResNet50", "aw_se_resnet50", 26.40),
    Row("Wide-ResNet", "wide_resnet28_10", remark=WIDE),
    Row("AW-Wide-ResNet", "aw_wide_resnet28_10", remark=WIDE),
    Row("AA-Wide-ResNet", "aa_wide_resnet28_10", remark=WIDE),
    *(
        Row(f"AW-AA-Wide-ResNet-{number}", f"aw_aa_wide_resnet28_10_{number}", remark=AA_WIDE)
        for number in range(4)
    ),
)
AUGMENTED = (
    Row("AA-ResNet34", "aa_resnet34", 20.7, remark=FIT),
    Row("AA-ResNet50", "aa_resnet50", 25.8),
)
STAND_ALONE = (
    Row("ResNet-26", "stand_alone_resnet26", 10.3, 4.5 / 2, remark=HALF),
    Row("ResNet-38", "stand_alone_resnet38", 14.1, 5.7 / 2, remark=HALF),
    Row("ResNet-50", "stand_alone_resnet50", 18.0, 7.0 / 2, remark=HALF),
    Row("ResNet-26, attention stem", "stand_alone_resnet26_attention_stem", 10.3, remark=STEM),
)
PRODUCT = "The plain product, in 6 blocks; the FMM paper names neither depth nor width."
CENTERED = "Gates that start at 1, in {} blocks; not of the paper."
FMMNET = (
    Row("FMMNet", "fmmnet16_4", remark=PRODUCT),
    Row("", "fmmnet28_10", remark=CENTERED.format(12)),
    Row("", "fmmnet58_1", remark=CENTERED.format(27)),
    Row("", "fmmnet112_1", remark=CENTERED.format(54)),
    Row("", "fmmnet208_1", remark=CENTERED.format(102)),
)
TABLES = (
    ("Table 1: ImageNet, 224x224, 1000 classes", IMAGENET, {"input_shape": (224, 224, 3)}),
    ("Table 2: CIFAR-100, 32x32", CIFAR100, {"input_shape": (32, 32, 3), "classes": 100}),
    ("Bello et al.: ImageNet, 224x224", AUGMENTED, {"input_shape": (224, 224, 3)}),
    ("Ramachandran et al.: ImageNet, 224x224", STAND_ALONE, {"input_shape": (224, 224, 3)}),
    ("FMMNet: CIFAR-10, 32x32", FMMNET, {"input_shape": (32, 32, 3)}),
)
HEAD = """# The AW paper's networks

Written by `python -m recipes.papers.model_table`. Trainable parameters in millions; multiply-adds
in thousand millions, one for each multiplication in a convolution, a matrix product or a product of
features (`analysis.flops`; the AW-convolution as its formula is written, the product of kernel and
attention included). Where the paper's column is empty its figure is not at hand; the difference
is ours less the paper's. The paper is Zhu, Hofstee, Lee, Al-Ars, "An Attention Module for
Convolutional Neural Networks"; the last two sections are of Bello et al., "Attention Augmented
Convolutional Networks", and Ramachandran et al., "Stand-Alone Self-Attention in Vision Models". No
accuracy is reproduced here.
"""


def main(settings):
    """Builds, prints and writes; returns the page, a str."""
    parts = [HEAD]
    for title, rows, arguments in TABLES:
        parts.append(f"## {title}\n\n" + table(rows, arguments, settings.smoke))
    page = "\n".join(parts)
    with files.replacing(output_path(settings)) as temporary:
        temporary.write_text(page)
    print(page)
    return page


def table(rows, arguments, smoke=False):
    """Returns the rows as a table in Markdown."""
    lines = [
        "| model | preset | parameters | paper | difference | multiply-adds | paper | difference "
        "| remark |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if smoke and "mobilenet" not in row.preset:
            continue
        lines.append("| " + " | ".join(cells(row, arguments)) + " |")
    return "\n".join(lines) + "\n"


def cells(row, arguments):
    parameters, multiply_adds = sizes(models.from_preset(row.preset, **arguments))
    return [
        row.paper_name,
        f"`{row.preset}`",
        f"{parameters:.2f}",
        *beside(parameters, row.parameters, 2),
        f"{multiply_adds:.3f}",
        *beside(multiply_adds, row.multiply_adds, 3),
        row.remark,
    ]


def sizes(model):
    """Returns the trainable parameters in millions and the multiply-adds in thousand millions."""
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return parameters / 1e6, analysis.flops(model) / 1e9


def beside(ours, papers, digits):
    """Returns the paper's figure, as it stands there, and by how much ours is larger."""
    if papers is None:
        return "", ""
    # Adding zero makes no difference but to a negative one.
    return f"{papers:g}", f"{round(ours - papers, digits) + 0.0:.{digits}f}"


if __name__ == "__main__":
    start(main, Settings, __doc__)
