"""The layout of design and code: who imports whom, and what an import brings in."""

import ast
import importlib
import inspect
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_fmm"

# A part may import the parts listed with it; all may import GROUND.
ALLOWED = {
    "annotations": set(),
    "checks": set(),
    "files": set(),
    "half_precision": set(),
    "input_range": set(),
    "graph": set(),
    "hints": set(),
    "locks": set(),
    "progress": set(),
    "protocols": set(),
    "version": set(),
    "ops": set(),
    "layers": {"ops"},
    "models": {"ops", "layers"},
    "detection": {"ops", "layers", "models"},
    "data": set(),
    "training": set(),
    "export": {"deprecated"},
    "analysis": set(),
    "plots": {"analysis", "training", "data", "export", "deprecated"},
    # What left the package, and is kept for a release.
    "deprecated": set(),
}
GROUND = {
    "annotations",
    "checks",
    "files",
    "graph",
    "half_precision",
    "hints",
    "input_range",
    "locks",
    "progress",
    "protocols",
    "version",
}
WITHOUT_TENSORFLOW = (*sorted(GROUND), "ops", "layers", "models", "detection", "analysis", "plots")
# The files of the mathematics that are written for one backend.
ONE_BACKEND = (
    PACKAGE / "ops" / "tensorflow_gradients.py",
    *(PACKAGE / "analysis" / "gradients" / f"{name}.py" for name in ("jax", "tensorflow", "torch")),
)


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Yields the dotted name of everything a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import with the full name, not relatively."
            for name in node.names:
                yield f"{node.module}.{name.name}"


SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE]
SOURCES += [path for name in sorted(GROUND) if (path := PACKAGE / f"{name}.py").exists()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    part = part_of(path)
    for name in imports(path):
        if name.startswith("keras_fmm."):
            other = name.split(".")[1]
            assert other in {part, *GROUND, *ALLOWED[part]}, (
                f"{path.relative_to(ROOT)} imports {name}, but {part} may import only "
                f"{sorted(ALLOWED[part] | GROUND)}. Move what both need up, under a name that "
                "says what it does."
            )
        top = name.split(".")[0]
        is_agnostic = part in WITHOUT_TENSORFLOW and path not in ONE_BACKEND
        assert not (is_agnostic and top in ("tensorflow", "jax", "torch")), (
            f"{path.relative_to(ROOT)} imports {top}; {part} is written on keras.ops, but for "
            f"{[str(path.relative_to(PACKAGE)) for path in ONE_BACKEND]}."
        )


def test_recipes_import_through_package_roots():
    for path in (ROOT / "recipes").rglob("*.py"):
        for name in imports(path):
            assert not name.startswith("keras_fmm.") or name.count(".") == 1, (
                f"{path.relative_to(ROOT)} imports {name}; write `from keras_fmm import PART`."
            )


# What may be imported in recipes: jobs share the lab, experiments ask one question each, and only
# the report, which writes all their pages, knows them. The benchmark of quantization exports and
# compares as the job does, and the comparison of detectors is one of the job's runs.
RECIPES = {
    "jobs": {"jobs", "lab"},
    "lab": {"lab"},
    "papers": {"lab", "papers.networks"},
    "benchmarks": {"lab", "benchmarks"},
    "lab/report.py": {"lab", "papers", "benchmarks"},
    "benchmarks/quantization.py": {"lab", "benchmarks", "jobs"},
    "papers/detection.py": {"lab", "papers.networks", "jobs"},
}


def test_recipes_are_sorted():
    for path in (ROOT / "recipes").rglob("*.py"):
        place = path.relative_to(ROOT / "recipes")
        folder = place.parts[0] if len(place.parts) > 1 else "jobs"
        allowed = RECIPES.get(place.as_posix(), RECIPES[folder])
        for name in imports(path):
            if not name.startswith("recipes."):
                continue
            parts = name.split(".")[1:]
            other = parts[0] if parts[0] in RECIPES else "jobs"
            assert {other, ".".join(parts[:2])} & allowed, (
                f"{path.relative_to(ROOT)} imports {name}, but {folder} may import only "
                f"{sorted(allowed)} of recipes. What experiments share is in recipes/lab, what "
                "papers share in recipes/papers/networks.py."
            )


def test_no_drawer_for_everything():
    for path in [*PACKAGE.rglob("*"), *(ROOT / "tests").rglob("*"), *(ROOT / "recipes").rglob("*")]:
        assert path.stem not in ("utils", "common", "helpers", "misc"), (
            f"Name {path.relative_to(ROOT)} for what it does."
        )


@pytest.mark.slow
def test_import_brings_in_no_extra():
    script = (
        "import sys, keras\n"
        "before = set(sys.modules)\n"
        "import keras_fmm, keras_fmm.data, keras_fmm.training, keras_fmm.export\n"
        "import keras_fmm.analysis, keras_fmm.plots\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "late = ('keras_fmm.deprecated.figures', 'keras_fmm.deprecated.manifest')\n"
        "print(*sorted(new), *(name for name in late if name in sys.modules))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    extras = {"matplotlib", "tensorflow_datasets", "sklearn", "cv2", "tf_explain", "ai_edge_litert"}
    left = {"keras_fmm.deprecated.figures", "keras_fmm.deprecated.manifest"}
    assert not (extras | left) & set(run.stdout.split())
    assert "keras_fmm" in run.stdout.split()


def test_every_package_says_what_it_exports():
    for path in sorted(PACKAGE.iterdir()):
        if (path / "__init__.py").exists():
            module = importlib.import_module(f"keras_fmm.{path.name}")
            for name in module.__all__:
                symbol = getattr(module, name)
                assert symbol.__doc__ or not callable(symbol), (
                    f"{path.name}.{name} has no docstring"
                )


TYPED = ("analysis", "data", "export", "plots", "training")


@pytest.mark.parametrize("part", TYPED)
def test_public_functions_have_hints(part):
    module = importlib.import_module(f"keras_fmm.{part}")
    for name in module.__all__:
        symbol = getattr(module, name)
        functions = {name: symbol} if inspect.isfunction(symbol) else {}
        if inspect.isclass(symbol):
            public = {"__init__"} | {key for key in vars(symbol) if not key.startswith("_")}
            functions = {f"{name}.{key}": vars(symbol).get(key) for key in public}
        for called, function in functions.items():
            if inspect.isfunction(function):
                signature = inspect.signature(function)
                lacking = [
                    key
                    for key, argument in signature.parameters.items()
                    if key != "self" and argument.annotation is argument.empty
                ]
                if signature.return_annotation is signature.empty:
                    lacking.append("return")
                assert not lacking, f"{part}.{called} has no hint for {lacking}"
