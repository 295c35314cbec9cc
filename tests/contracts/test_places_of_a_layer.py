"""Where a layer must be written: each place that is forgotten fails here and says what to do."""

import importlib
import inspect
import pathlib
import pkgutil

import keras
import pytest

from keras_fmm import layers
from tests.support.layer_table import EXPORTS, ROWS

ROOT = pathlib.Path(__file__).parents[2]
# The bases of layers, which do nothing by themselves, and what is only a part of layers.
BASES = {"FeatureGate", "FeatureMapLayer"}
PARTS = {"BatchNorm"}
NAMES = {
    "gate": ("GATES", layers.GATES),
    "convolution": ("CONVOLUTIONS", layers.CONVOLUTIONS),
    "residual": ("RESIDUALS", layers.RESIDUALS),
    "block": ("BLOCKS", layers.BLOCKS),
}


def written():
    """Yields every layer that a file of keras_fmm/layers defines."""
    for info in pkgutil.iter_modules(layers.__path__, "keras_fmm.layers."):
        module = importlib.import_module(info.name)
        for name, kind in vars(module).items():
            is_layer = isinstance(kind, type) and issubclass(kind, keras.layers.Layer)
            if is_layer and kind.__module__ == info.name and not name.startswith("_"):
                yield kind


LAYERS = [kind for kind in written() if kind.__name__ not in BASES | PARTS]
every_layer = pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)


def file_of(kind):
    return kind.__module__.rpartition(".")[2]


def rows_of_layer(kind):
    return [row for row in ROWS if row.layer is kind]


@every_layer
def test_stands_in_a_file_of_its_name(kind):
    assert file_of(kind).replace("_", "") == kind.__name__.lower(), (
        f"Move {kind.__name__} into a file of its name in keras_fmm/layers: one class a file."
    )


@every_layer
def test_is_exported(kind):
    assert kind.__name__ in layers.__all__, (
        f"Import {kind.__name__} in keras_fmm/layers/__init__.py and name it in `__all__`."
    )


@every_layer
def test_is_registered(kind):
    name = f"keras_fmm>{kind.__name__}"
    assert keras.saving.get_registered_object(name) is kind, (
        '@keras.saving.register_keras_serializable(package="keras_fmm") must stand above '
        f"{kind.__name__}: a saved model finds it by that."
    )


@every_layer
def test_is_in_the_table(kind):
    rows = rows_of_layer(kind)
    assert rows, f"Add a row for {kind.__name__} to ROWS in tests/support/layer_table.py."
    assert len({(row.role, row.exports) for row in rows}) == 1
    for row in rows:
        assert row.role in (*NAMES, "map")
        assert row.sizes in ("any", "fixed")
        assert set(row.exports) <= set(EXPORTS)


@every_layer
def test_has_a_name_in_its_role(kind):
    for role in {row.role for row in rows_of_layer(kind)} & NAMES.keys():
        mapping, known = NAMES[role]
        assert kind in known.values(), (
            f"Give {kind.__name__}, a {role}, a name in {mapping} of keras_fmm/layers/registry.py."
        )


@every_layer
def test_has_a_test_of_its_own(kind):
    path = ROOT / "tests" / "layers" / f"test_{file_of(kind)}.py"
    assert path.exists(), (
        f"Write {path.relative_to(ROOT)}: {kind.__name__} against a NumPy loop of its equation, a "
        "case by hand, the properties that the paper claims, and each refused argument."
    )


@every_layer
def test_is_in_the_changelog(kind):
    assert f"`{kind.__name__}`" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), (
        f"Tell users of `{kind.__name__}` in CHANGELOG.md."
    )


@every_layer
def test_says_what_it_is(kind):
    for part in ("Input shape:", "Output shape:", "Example:", "Reference:"):
        assert part in kind.__doc__, (
            f"Give the docstring of {kind.__name__} a part `{part}`; see CONTRIBUTING.md."
        )


@every_layer
def test_says_what_each_argument_is(kind):
    parameters = inspect.signature(kind.__init__).parameters.values()
    for parameter in list(parameters)[1:]:
        row = f"        {'**' * (parameter.kind is parameter.VAR_KEYWORD)}{parameter.name}: "
        assert row in kind.__doc__ or kind.__init__ is keras.layers.Multiply.__init__, (
            f"Give `Args:` in the docstring of {kind.__name__} a row of its own for "
            f"`{parameter.name}`, its type and default first: `name: int, default 16. The ...`."
        )


def test_every_name_is_of_a_row():
    for role, (mapping, known) in NAMES.items():
        for name, kind in known.items():
            if kind.__module__.startswith("keras_fmm."):
                assert role in {row.role for row in rows_of_layer(kind)}, (
                    f"{mapping}[{name!r}] is {kind.__name__}; the role of its rows in "
                    f'tests/support/layer_table.py must be "{role}".'
                )
