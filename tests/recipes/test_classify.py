"""What `recipes.classify` reads and prints; that it says what a file says is tested beside it."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

from PIL import Image

from keras_fmm import export
from recipes import classify
from recipes.lab.settings import start

NAMES = ["dark\x1b[2J", "bright\u202e"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A file that calls an image bright if its mean is above 127, or gives NaN if it is white."""
    inputs = keras.Input((6, 8, 1))
    mean = keras.ops.mean(inputs, (1, 2))
    bright = keras.layers.Rescaling(1 / 255)(mean) + 0 / (255 - mean)
    network = keras.Model(inputs, keras.ops.concatenate([1 - bright, bright], -1))
    path = tmp_path_factory.mktemp("classify") / "toy.tflite"
    return export.to_tflite(network, path, class_names=NAMES, input_range=(0, 255), verbose=0)


def run(model, *paths):
    return start(classify.main, classify.Settings, "", ["--model", str(model), *map(str, paths)])


@pytest.fixture
def picture(tmp_path):
    def write(name, value, dtype="uint8"):
        Image.fromarray(np.full((6, 8), value, dtype)).save(tmp_path / name)
        return tmp_path / name

    return write


def test_sixteen_bits_are_not_clipped(model, picture, capsys):
    found = run(model, picture("eight.png", 51), picture("sixteen.png", 51 * 257, "uint16"))
    for row in found:
        assert [name for name, _ in row] == NAMES
        np.testing.assert_allclose([score for _, score in row], [0.8, 0.2], atol=1e-6)


def test_names_and_paths_do_not_reach_the_terminal_raw(model, picture, capsys):
    run(model, picture("a\x1b[31m.png", 51))
    told = capsys.readouterr().out
    assert told.endswith("a\\x1b[31m.png: dark\\x1b[2J 80.0%, bright\\u202e 20.0%\n")
    with pytest.raises(SystemExit) as stop:
        run(model, "no\x1b[31m.png")
    assert "\x1b" not in str(stop.value)


@pytest.mark.parametrize(
    ("name", "value", "dtype", "message"),
    [
        ("floats.tif", 0.5, "float32", "floats.tif.*its mode is F, whose numbers have no range"),
        ("white.png", 255, "uint8", "`model` must give finite scores"),
    ],
)
def test_nothing_is_said_of_what_cannot_be_told(
    model, picture, capsys, name, value, dtype, message
):
    with pytest.raises(SystemExit, match=message):
        run(model, picture("right.png", 51), picture(name, value, dtype))
    assert capsys.readouterr().out == ""
