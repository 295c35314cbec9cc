"""What `recipes.classify` reads and prints; that it says what a file says is tested beside it."""

import json

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

from PIL import Image

from keras_fmm import export, models
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


def test_readable_files_are_classified_beside_others_where_that_is_asked(model, picture, capsys):
    folder = picture("a.png", 51).parent
    picture("c.png", 204)
    (folder / "b.png").write_bytes(b"no image")
    words = ["--model", str(model), str(folder)]
    with pytest.raises(SystemExit, match="b.png, which cannot be read|b.png', which cannot"):
        start(classify.main, classify.Settings, "", words)
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit, match="left out 1 of 3 files:\n.*b.png") as stop:
        start(classify.main, classify.Settings, "", [*words, "--skip-unreadable"])
    assert stop.value.code not in (0, None)
    out = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in out] == [str(folder / x) for x in ("a.png", "c.png")]


@pytest.fixture(scope="module")
def normalized(tmp_path_factory):
    """Files and the model that give the mean of each channel of normalized images."""
    folder = tmp_path_factory.mktemp("normalized")
    inputs = keras.Input((4, 4, 3))
    x = models.Preprocessing((0.5, 0.25, 0.0), (0.25, 0.5, 1.0), normalize=False)(inputs)
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    network.save(folder / "model.keras")
    export.to_tflite(network, folder / "model.tflite", verbose=0, aspect_ratio="crop")
    bare = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    export.to_tflite(bare, folder / "bare.tflite", verbose=0)
    return folder


@pytest.mark.parametrize("name", ["model.keras", "model.tflite"])
def test_images_are_normalized_as_the_model_says(normalized, tmp_path, name):
    Image.fromarray(np.full((4, 4, 3), (255, 51, 102), "uint8")).save(tmp_path / "a.png")
    (found,) = run(normalized / name, tmp_path / "a.png")
    assert dict(found) == pytest.approx({"0": 2.0, "1": -0.1, "2": 0.4}, abs=1e-5)


def test_the_file_says_how_other_sides_are_fitted(normalized, tmp_path):
    # Black, with white where only a stretched image has it.
    pixels = np.zeros((4, 12, 3), "uint8")
    pixels[:, :4] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    words = ["--model", str(normalized / "model.tflite"), "--resize", str(tmp_path / "wide.png")]
    (cropped,) = start(classify.main, classify.Settings, "", words)
    words += ["--aspect-ratio", "stretch"]
    (stretched,) = start(classify.main, classify.Settings, "", words)
    assert dict(cropped)["2"] == 0
    assert dict(stretched)["2"] > 0.3


def test_a_file_that_tells_no_range_says_nothing_unless_it_is_given(normalized, tmp_path, capsys):
    Image.fromarray(np.full((4, 4, 3), 255, "uint8")).save(tmp_path / "a.png")
    path = normalized / "bare.tflite"
    with pytest.raises(SystemExit, match="bare.tflite, which does not tell. Export it with `input"):
        run(path, tmp_path / "a.png")
    words = ["--model", str(path), str(tmp_path / "a.png"), "--input-range"]
    (found,) = start(classify.main, classify.Settings, "", [*words, "0,3"])
    assert dict(found)["1"] == pytest.approx(3)
    for given in ("3,0", "0", "0,nan", "a,b"):
        with pytest.raises(SystemExit, match="must be two numbers, the smaller first"):
            start(classify.main, classify.Settings, "", [*words, given])
    words[1] = str(normalized / "model.tflite")
    with pytest.raises(SystemExit, match="`input_range` must be as the file says"):
        start(classify.main, classify.Settings, "", [*words, "0,255"])
