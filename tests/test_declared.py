"""Every import of the package, recipes, docs and tests is declared in setup.cfg."""

import ast
import configparser
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
OURS = {"keras_fmm", "recipes", "docs", "tests"}
# Where the distribution has another name than what it gives to import.
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "google": "protobuf"}
DISTRIBUTIONS |= {"sklearn": "scikit-learn", "yaml": "pyyaml"}


def distribution(module):
    top = module.partition(".")[0]
    return DISTRIBUTIONS.get(top, top.replace("_", "-").lower())


def declared(lines):
    names = (re.match(r"[\w.-]+", line) for line in lines.splitlines() if line.strip())
    return {name.group().replace("_", "-").lower() for name in names}


ALWAYS = declared(SETUP["options"]["install_requires"])
EXTRAS = {name: declared(lines) for name, lines in SETUP["options.extras_require"].items()}
EVERYWHERE = ALWAYS.union(*EXTRAS.values()) - {"keras-fmm"}


def imported(tree):
    """Yields (module, whether that is at the top of the file) of what is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            continue
        for name in names:
            if name.partition(".")[0] not in OURS | sys.stdlib_module_names:
                yield name, node in tree.body


def asked_for(tree):
    """Yields (module, extra) of each `checks.package(module, purpose, extra)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "checks.package":
            name, _, extra = node.args
            # Of an f-string the part before the first field.
            name = name.values[0] if isinstance(name, ast.JoinedStr) else name
            yield name.value, extra.value


@pytest.mark.parametrize("folder", sorted(OURS))
def test_every_import_is_declared(folder):
    found = set()
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        place = path.relative_to(ROOT)
        for name, is_at_the_top in imported(tree):
            found.add(distribution(name))
            assert distribution(name) in EVERYWHERE, (
                f"{place} imports {name}: declare {distribution(name)} in setup.cfg."
            )
            # `jax.py` is the file that is imported where Keras runs on JAX.
            may_be_at_the_top = distribution(name) in ALWAYS | {path.stem}
            assert folder != "keras_fmm" or not is_at_the_top or may_be_at_the_top, (
                f"{place} imports {name} at its top, which only an extra installs. Import it where "
                "it is used, by `checks.package`."
            )
        # Tests ask for what is absent.
        for name, extra in () if folder == "tests" else asked_for(tree):
            assert distribution(name) in EXTRAS[extra], (
                f"{place} says that the extra {extra!r} installs {name}: declare it in setup.cfg."
            )
    assert "keras" in found  # Else nothing was looked at.
