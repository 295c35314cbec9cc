"""Writes what pages list of the layers, from the layers and their registry, and of timm's weights.

    make tables

Of a layer it takes its docstring (the summary, and a link to the paper in `Reference:`), its name
and role in the registry, and what it costs on a map of 56x56x64. Each page keeps its list between
two comments; a test says where one is not what this would write.
"""

import inspect
import pathlib
import re

import keras

from keras_fmm import files, layers
from keras_fmm.models import timm

ROOT = pathlib.Path(__file__).parents[1]
START, END = "<!-- of the layers: make tables -->\n", "<!-- end -->"
SHAPE = (1, 56, 56, 64)


# What a backbone calls the role, a heading, and the role's names.
ROLES = (
    ("attention", "Gates", layers.GATES),
    ("convolution", "Convolutions", layers.CONVOLUTIONS),
    ("residual", "Residuals", layers.RESIDUALS),
    ("block", "Blocks", layers.BLOCKS),
)


def classes():
    """Returns the public layer classes, those with a name first, in the registry's order."""
    found = [layer for *_, names in ROLES for layer in names.values()]
    found += [x for x in map(layers.__dict__.get, layers.__all__) if inspect.isclass(x)]
    return [layer for layer in dict.fromkeys(found) if layer.__module__.startswith("keras_fmm")]


def place(layer):
    """Returns the role and the name of a layer, a pair of str; ("", "") without a name."""
    for role, _, names in ROLES:
        for name, other in names.items():
            if other is layer:
                return role, name
    return "", ""


def use(layer):
    """Returns how a backbone is asked for a layer, such as `attention="cbam"`."""
    role, name = place(layer)
    if role:
        # Names may stand for one of its forms.
        names = next(names for known, _, names in ROLES if known == role)
        forms = [x for x, other in names.items() if getattr(other, "func", None) is layer]
        return ", ".join([f'`{role}="{name}"`', *(f'`"{form}"`' for form in forms)])
    return "the base of your own gates" if layer is layers.FeatureGate else ""


def summary(layer):
    """Returns the docstring's first sentence without its full stop."""
    return inspect.getdoc(layer).split("\n")[0].removesuffix(".")


def paper(layer):
    """Returns a link to the paper that the docstring names, or ""."""
    text = " ".join(inspect.getdoc(layer).partition("Reference:\n")[2].split())
    url = re.search(r"https://arxiv\.org/abs/[\d.]+\d", text)
    return f"[{text.split(',')[0]} et al.]({url[0]})" if url else ""


def cost(role, name):
    """Returns the weights and multiply-adds of what a name stands for on a map of `SHAPE`."""
    shape = SHAPE
    if role == "attention":
        made = layers.get_gate(name)
    elif role == "convolution":
        made = layers.get_convolution(name)(filters=SHAPE[-1], kernel_size=3, padding="same")
    elif role == "residual":
        made, shape = layers.get_residual(name), [SHAPE, SHAPE]
    else:
        return "", ""
    made.build(shape)
    return f"{made.count_params():,}", f"{made.multiply_adds(shape) / 1e6:.2f} M"


def readme():
    rows = [
        (f"`{layer.__name__}`", summary(layer), use(layer), paper(layer)) for layer in classes()
    ]
    return _table(("layer", "what it does", "in a backbone", "paper"), rows)


def page():
    rows = [
        (f"`{layer.__name__}`", f'`{role}="{name}"`', *cost(role, name))
        for role, _, names in ROLES
        for name, other in names.items()
        if (layer := getattr(other, "func", other)).__module__.startswith("keras_fmm")
    ]
    plain = keras.layers.Conv2D(SHAPE[-1], 3, padding="same")
    plain.build(SHAPE)
    products = 56 * 56 * 9 * SHAPE[-1] ** 2
    rows.append(
        ("`keras.layers.Conv2D`, 3x3", "", f"{plain.count_params():,}", f"{products / 1e6:.2f} M")
    )
    return _table(("layer", "in a backbone", "weights", "multiply-adds"), rows)


def reference():
    sections = [
        (title, [layer.__name__ for layer in classes() if place(layer)[0] == role])
        for role, title, _ in (*ROLES, ("", "Others", {}))
    ]
    listed = {name for _, names in sections for name in names}
    sections += [("Names and functions", [x for x in layers.__all__ if x not in listed])]
    return "\n".join(_list(title, names) for title, names in sections)


def weights_of_timm():
    head = (
        "weights",
        "top-1, top-5 (%)",
        "tested at",
        "trained at",
        "mean; deviation",
        "trained on",
        "licence",
    )
    rows = []
    for found in timm.pretrained():
        if found.tag == "untrained":
            continue
        known = found.top1 is not None
        halves = found.mean == (0.5, 0.5, 0.5)
        rows.append(
            (
                f"`{found.name}`",
                f"{found.top1:.2f}, {found.top5:.2f}" if known else "",
                f"{found.test_image_size}, {found.test_crop_pct:g}",
                f"{found.image_size}, {found.crop_pct:g}, {found.interpolation}",
                "0.5; 0.5" if halves else "ImageNet's",
                found.data,
                found.license or "not said",
            )
        )
    return _table(head, rows)


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(row) + " |\n" for row in lines)


def _list(title, names):
    lines = [f"## {title}", "", "```{eval-rst}", ".. currentmodule:: keras_fmm.layers", ""]
    lines += [".. autosummary::", "   :toctree: layers", "", *(f"   {name}" for name in names)]
    return "\n".join([*lines, "```", ""])


# README has what each is; the page of layers that as well, and what it costs; the reference lists.
TABLES = {
    "README.md": (readme,),
    "docs/layers.md": (readme, page),
    "docs/api/layers.md": (reference,),
    "docs/timm.md": (weights_of_timm,),
}


def written(path):
    """Returns a page's text as it is and as it should be.

    Args:
        path: str, a key of `TABLES`.
    """
    text = (ROOT / path).read_text(encoding="utf-8")
    before, *parts = text.split(START)
    tables = [table() for table in TABLES[path]]
    tails = [part.partition(END)[2] for part in parts]
    new = [START + table + END + tail for table, tail in zip(tables, tails, strict=True)]
    return text, before + "".join(new)


def main():
    for path in TABLES:
        with files.replacing(ROOT / path) as temporary:
            temporary.write_text(written(path)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
