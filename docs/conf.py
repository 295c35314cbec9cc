"""Sphinx's settings: `make docs` builds the site into docs/_build/html."""

import inspect
import os
import pathlib
import re
import sys

# Nothing is computed, and JAX starts in a tenth of TensorFlow's time.
os.environ["KERAS_BACKEND"] = "jax"
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import keras

import keras_fmm

project = "keras_fmm"
author = "the keras_fmm authors"
copyright = "the keras_fmm authors, Apache-2.0"
version = release = keras_fmm.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
templates_path = ["templates"]
html_theme = "furo"
html_title = f"keras_fmm {version}"
html_show_sphinx = False

# Links to a heading of a page: `[text](page.md#a-heading)`.
myst_heading_anchors = 3
# In docstrings, `name` is code.
default_role = "code"
# Dashes, but straight quotes: values such as "int8" are to be copied.
smartquotes_action = "De"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
# The docstrings say more than the hints do.
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# Or napoleon adds each attribute's type to the one that the docstring says.
napoleon_attr_annotations = False
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    ("Input shape", "notes_style"),
    ("Output shape", "notes_style"),
    "Reference",
]


def signature_of_init(app, what, name, symbol, options, signature, returned):
    """Shows a layer with the arguments of `__init__`: Keras' `Operation.__new__` hides them."""
    if getattr(symbol, "_is_protocol", False):
        return "", None
    if what != "class" or not issubclass(symbol, keras.Operation):
        return None
    found = inspect.signature(symbol.__init__)
    return str(found.replace(parameters=list(found.parameters.values())[1:])), returned


def names_of_table(app, what, name, symbol, options, lines):
    """Says of a table of names what is in it, where its type's docstring would stand."""
    if what == "data":
        known = ", ".join("None" if key is None else f'``"{key}"``' for key in symbol)
        lines[:] = [f"The names that are known: {known}." if known else "No names yet."]
        if hasattr(symbol, "values") and all(isinstance(x, type) for x in symbol.values()):
            lines += ["", "The keys are names, the values classes."]


def markdown_in_docstrings(app, what, name, symbol, options, lines):
    """Lets a docstring, which is read unbuilt, hold a Markdown table, and a list behind a line."""
    new = []
    for line in lines:
        text = line.lstrip()
        indent = line[: len(line) - len(text)]
        before = new[-1].strip() if new else ""
        if text.startswith("|"):
            if not set(text) - set("|-: "):
                continue
            if not before:
                new += [f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
            first, *others = text.strip("| ").split("|")
            new += [f"{indent}   * - {first.strip()}"]
            new += [f"{indent}     - {cell.strip()}" for cell in others]
        else:
            new += ["", line] if text.startswith("- ") and before else [line]
    lines[:] = new


def links_of_the_site(app, document, source):
    """Links the layers in their tables to their pages, and nothing to files that have none."""
    source[0] = re.sub(r"\[(`\w+\.md`)\]\(\.\./\w+\.md\)", r"\1", source[0])
    if document == "layers":
        link = r"| {py:class}`~keras_fmm.layers.\1` |"
        source[0] = re.sub(r"^\| `(\w+)` \|", link, source[0], flags=re.MULTILINE)


def setup(app):
    app.connect("source-read", links_of_the_site)
    # Before napoleon, which has 500.
    app.connect("autodoc-process-docstring", markdown_in_docstrings, priority=400)
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("autodoc-process-docstring", names_of_table)
