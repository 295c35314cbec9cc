"""What `recipes.classify` reads and prints; that it says what a file says is tested beside it."""

import json

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


def test_a_folder_and_a_keras_file_with_the_names_of_its_run(model, picture, tmp_path, capsys):
    inputs = keras.Input((6, 8, 1))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    network = keras.Model(inputs, keras.layers.Concatenate()([1 - mean, mean]))
    (tmp_path / "run" / "export").mkdir(parents=True)
    path = tmp_path / "run" / "export" / "model.keras"
    network.save(path)
    (tmp_path / "photos" / "inner").mkdir(parents=True)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    for name in ("photos/b.PNG", "photos/inner/a.png"):
        picture(name, 51)
    found = run(path, tmp_path / "photos", picture("c.png", 204))
    assert [[name for name, _ in row] for row in found] == [["0", "1"], ["0", "1"], ["1", "0"]]
    np.testing.assert_allclose([row[0][1] for row in found], 0.8, atol=1e-6)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(tmp_path / name) for name in ("photos/b.PNG", "photos/inner/a.png", "c.png")
    ]
    record = {"metrics": {"class_names": NAMES}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert [name for name, _ in run(path, tmp_path / "c.png")[0]] == NAMES[::-1]
    named = start(
        classify.main,
        classify.Settings,
        "",
        ["--model", str(path), "--class-names", "night, day", str(tmp_path / "c.png")],
    )
    assert [name for name, _ in named[0]] == ["day", "night"]
    assert run(model, tmp_path / "photos")[0][0][0] == NAMES[0]


def test_all_files_that_cannot_be_read_are_named(model, picture, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as stop:
        run(model, tmp_path / "broken.png", picture("right.png", 51), tmp_path / "absent.png")
    assert "Received: 2 that are not" in str(stop.value)
    assert "broken.png" in str(stop.value)
    assert "absent.png" in str(stop.value)
    assert capsys.readouterr().out == ""
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="must hold image files. Received: .*empty, without"):
        run(model, tmp_path / "empty")
