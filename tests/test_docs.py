"""The examples in docstrings and in README are run."""

import doctest
import importlib
import pathlib

import keras
import pytest

from keras_fmm import layers

ROOT = pathlib.Path(__file__).parents[1]
PORTABLE = ("checks", "files", "ops", "layers", "models")


def modules():
    for path in sorted((ROOT / "keras_fmm").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if ">>>" in path.read_text(encoding="utf-8"):
            yield name


@pytest.mark.parametrize("name", list(modules()))
def test_examples_of_docstrings(name):
    if keras.backend.backend() != "tensorflow" and name.split(".")[1] not in PORTABLE:
        pytest.skip("needs TensorFlow")
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted
    assert not failed


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports")
def test_readmes_examples(tmp_path, monkeypatch, capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    examples = [part.split("```")[0] for part in readme.split("```python\n")[1:]]
    first, second, third, shipping, measuring = examples
    monkeypatch.chdir(tmp_path)
    exec(compile(first, "README.md", "exec"), {})
    assert (tmp_path / "model.tflite").exists()
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[:2] == ["tflite", "8"]
    assert float(row[2]) < 1e-5
    exec(compile(second, "README.md", "exec"), {})
    assert capsys.readouterr().out == "(1, 1, 1, 16)\n2375680 multiply-adds\n"
    exec(compile(third, "README.md", "exec"), {})
    stages, same, upgraded = capsys.readouterr().out.splitlines()
    assert stages == "[(32, 32, 16), (16, 16, 32), (8, 8, 64)]"
    assert (same, upgraded.split()[0]) == ("True", "True")
    exec(compile(shipping, "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "input  uint8 (1, 28, 28, 1)" in shown
    row = shown.splitlines()[-1].split()
    assert row[:2] == ["tflite", "100"]
    assert float(row[2]) < 0.05
    assert (tmp_path / "served" / "saved_model.pb").exists()
    exec(compile(measuring, "README.md", "exec"), {})
    agreement, heat_maps, sensitivities = capsys.readouterr().out.splitlines()
    assert -1 <= float(agreement) <= 1
    assert heat_maps == "(16, 14, 14)"
    assert sensitivities.count("n=16") == 2


def test_readme_lists_every_layer_gate_and_recipe():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = [f"| `{name}` |" for name in layers.__all__ if isinstance(getattr(layers, name), type)]
    named += [f'| `"{name}"` |' for name in layers.GATES]
    for path in (ROOT / "recipes").glob("*.py"):
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8"):
            named.append(f"python -m recipes.{path.stem}")
    missing = [name for name in named if name not in readme]
    assert not missing, f"README's tables lack {missing}"
