"""Draws the documentation's pictures into docs/pictures.

    make pictures

A guide's picture is what its own code writes under that name; the diagram is drawn here.
"""

import os
import pathlib
import tempfile

from matplotlib import figure, patches
from PIL import Image

from docs import examples

FOLDER = examples.ROOT / "docs" / "pictures"
DIAGRAM = "places.png"
# A row: its title, its boxes, and how many of them a shortcut goes past. A box that begins with
# an asterisk is a gate's.
ROWS = (
    ("residual block", ("x", "conv 3x3", "conv 3x3", "*gate", "+", "ReLU"), 3),
    ("MobileNet's block", ("x", "depthwise 3x3", "*gate", "pointwise 1x1", "*gate"), 0),
    (
        "a gate: squeeze-and-excitation",
        ("x", "*mean over\nspace", "*dense, ReLU", "*dense,\nsigmoid", "product", "out"),
        3,
    ),
)


def main():
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with tempfile.TemporaryDirectory() as folder:
        diagram().savefig(pathlib.Path(folder, DIAGRAM))
        for page in examples.pages():
            if {*examples.shown(page)} - {DIAGRAM}:
                examples.run(page, folder)
        for path in sorted(pathlib.Path(folder).glob("*.png")):
            # A palette of 256 colours: a third of the bytes.
            Image.open(path).convert("RGB").quantize(256).save(FOLDER / path.name, optimize=True)


def diagram():
    """Returns the figure of where gates stand, and of what is in one."""
    drawn = figure.Figure(figsize=(8, 4.2), dpi=100, layout="constrained")
    axes = drawn.subplots()
    axes.set_axis_off()
    for row, (title, boxes, passed) in enumerate(ROWS):
        y = -1.5 * row
        axes.text(-0.6, y + 0.55, title, fontweight="bold", fontsize=9)
        for column, text in enumerate(boxes):
            _box(axes, 1.4 * column, y, text)
            if column:
                _arrow(axes, (1.4 * column - 1.4 + 0.55, y), (1.4 * column - 0.55, y), "arc3")
        if passed:
            _arrow(axes, (0, y - 0.25), (1.4 * passed + 1.4, y - 0.25), "arc3,rad=0.18")
    axes.set_xlim(-0.7, 7.7)
    axes.set_ylim(-4.2, 0.9)
    return drawn


def _box(axes, x, y, text):
    style = {"boxstyle": "round,pad=0.02", "edgecolor": "black"}
    colour = "#f6c667" if text.startswith("*") else "#dbe9f6"
    axes.add_patch(patches.FancyBboxPatch((x - 0.53, y - 0.23), 1.06, 0.46, fc=colour, **style))
    axes.text(x, y, text.lstrip("*"), ha="center", va="center", fontsize=9)


def _arrow(axes, start, end, bend):
    arrow = {"arrowstyle": "-|>", "connectionstyle": bend, "color": "black"}
    axes.annotate("", end, start, arrowprops=arrow)


if __name__ == "__main__":
    main()
