"""The commands of the guide from photographs to a phone, on a small folder made on the spot."""

import contextlib
import importlib
import pathlib
import re
import shlex

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

from PIL import Image

from keras_fmm import export
from recipes import browser
from recipes.lab.settings import start

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "photos_to_phone.md"
COLOURS = {"ash": (200, 60, 60), "beech": (60, 200, 60), "oak": (60, 60, 200)}
# What a test changes of a command.
INSTEAD = {"recipes.train": ["--epochs", "2"], "recipes.browser": ["--no-serve"]}


def commands():
    """Yields the recipe and the words of each command that the guide gives in a block."""
    text = GUIDE.read_text(encoding="utf-8")
    for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for recipe, words in re.findall(r"^python -m (recipes\S+) (.*)$", block, re.MULTILINE):
            yield recipe, shlex.split(words)


def photographs(folder):
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(1, 21):
            # Of the size of none of the commands, and some on their side.
            exif = Image.Exif()
            exif[274] = 6 if number % 2 else 1
            image = rng.normal(colour, 50, (70, 90 + number, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(image).save(folder / name / f"IMG_{number:04}.jpg", exif=exif)


@pytest.mark.slow
def test_the_commands_of_the_guide_lead_from_photographs_to_the_page(tmp_path, monkeypatch, capsys):
    photographs(tmp_path / "photos")
    runtime = tmp_path / "npm"
    for name in browser.RUNTIME_FILES:
        (runtime / name).parent.mkdir(parents=True, exist_ok=True)
        (runtime / name).touch()
    monkeypatch.setattr(browser, "RUNTIME", runtime)
    ran = []
    with contextlib.chdir(tmp_path):
        for name, words in commands():
            recipe = importlib.import_module(name)
            arguments = [*words, *INSTEAD.get(name, [])]
            found = start(recipe.main, recipe.Settings, recipe.__doc__, arguments)
            ran.append(name)
            if name == "recipes.classify":
                ((best, _), *others), *_ = found
                assert {best, *(name for name, _ in others)} == {*COLOURS}
        assert ran == [f"recipes.{x}" for x in ("train", "export_model", "classify", "browser")]
        # What the guide says that there is, but for the network that it does not train here.
        named = re.findall(r"`(runs/photos[\w./]*)`", GUIDE.read_text(encoding="utf-8"))
        assert len(set(named)) >= 3
        assert [path for path in named if not pathlib.Path(path).exists()] == []
        file = export.inspect("runs/photos/best_int8.tflite")
    # And of what the developer of an app needs.
    assert [x.shape for x in file.inputs] == [(1, 64, 64, 3)]
    assert [x.shape for x in file.outputs] == [(1, 3), (1, 16, 16, 64)]
    assert {x.dtype for x in (*file.inputs, *file.outputs)} == {"float32"}
    assert file.metadata["input_range"] == [0, 255]
    assert file.metadata["class_names"] == [*COLOURS]
    assert "test accuracy" in capsys.readouterr().out
