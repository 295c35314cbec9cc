"""What a TFLite file says of itself, and that a damaged one is never taken for a whole one."""

import json
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from keras_fmm import export, models, version
from tests.export import toys

NAMES = ["cat", "dog", "Ähre", "two words"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metadata")
    return export.to_tflite(
        toys.cnn(), folder / "toy.tflite", class_names=NAMES, input_range=(0, 255)
    )


def test_names_and_range_travel_in_the_file(path):
    assert export.read_metadata(path) == {
        "keras_fmm": version.__version__,
        "quantization": None,
        "class_names": NAMES,
        "input_range": [0.0, 255.0],
    }
    assert export.inspect(path).metadata == export.read_metadata(path)


def test_other_programs_find_the_labels(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == NAMES
        assert archive.testzip() is None


def test_litert_alone_runs_the_file(path):
    # Without this package: what is behind the model must not matter to anyone.
    code = (
        "import sys\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "interpreter = Interpreter(sys.argv[1])\n"
        "interpreter.allocate_tensors()\n"
        "interpreter.invoke()\n"
        "assert not {'keras', 'keras_fmm', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True, timeout=120)


def test_a_file_of_another_origin_has_none(path, tmp_path):
    foreign = tmp_path / "foreign.tflite"
    content = path.read_bytes()
    foreign.write_bytes(content[: content.index(b"PK\x03\x04")])
    assert export.read_metadata(foreign) == {}
    expected = export.run_tflite(path, toys.images())
    np.testing.assert_array_equal(export.run_tflite(foreign, toys.images()), expected)


def test_a_file_kept_from_an_earlier_version_still_loads():
    kept = pathlib.Path(__file__).parents[2] / "data" / "toy_0.1.0_int8.tflite"
    assert export.read_metadata(kept)["keras_fmm"] == "0.1.0"
    assert export.inspect(kept).inputs[0].dtype == "uint8"
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), "uint8")
    outputs = export.run_tflite(kept, images)
    expected = np.load(kept.with_suffix(".npy"))
    # Kernels may round otherwise on another machine: by a step of the output's scale.
    np.testing.assert_allclose(outputs, expected, atol=2 * export.inspect(kept).outputs[0].scale)


def flipped(content, rng):
    content = bytearray(content)
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return bytes(content)


def cut(content, rng):
    return content[: rng.integers(len(content))]


@pytest.mark.parametrize("damage", [flipped, cut])
def test_whatever_is_damaged_is_an_error_or_makes_no_difference(path, tmp_path, damage):
    content, images = path.read_bytes(), toys.images()
    expected = export.run_tflite(path, images)
    model_ends = content.index(b"PK\x03\x04")
    damaged = tmp_path / "damaged.tflite"
    refused = 0
    for seed in range(150):
        damaged.write_bytes(damage(content, np.random.default_rng(seed)))
        try:
            outputs = export.run_tflite(damaged, images)
        except ValueError:
            refused += 1
            continue
        # In the archive, beside what it holds: a date, a version. Of a file cut at the very end of
        # the model nothing says that there was more.
        np.testing.assert_array_equal(outputs, expected)
        same = damaged.read_bytes()[:model_ends]
        assert same == content[:model_ends]
    assert refused > 130


@pytest.mark.parametrize("read", [export.read_metadata, export.inspect])
def test_the_other_readers_refuse_it_too(path, tmp_path, read):
    damaged = tmp_path / "damaged.tflite"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match="the checksums differ"):
        read(damaged)
    damaged.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="its metadata is damaged"):
        read(damaged)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing.tflite")


def test_names_that_do_not_fit_a_subclassed_model_are_refused(tmp_path):
    """Which has no outputs that tell how many its classes are, before it is converted."""

    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, inputs):
            return self.dense(keras.ops.mean(inputs, (1, 2)))

    model = Classifier()
    model(np.zeros((1, 4, 4, 3)))
    path = tmp_path / "toy.tflite"
    with pytest.raises(ValueError, match="must name each of the 4 classes. Received: 3 names"):
        export.to_tflite(model, path, class_names=["a", "b", "c"])
    assert list(tmp_path.iterdir()) == []


MEANS = {"image_mean": [0.5], "image_std": [0.25], "is_inside": False}


def test_constants_of_pretrained_weights_travel_in_the_file(tmp_path):
    inputs = keras.Input((8, 8, 3))
    constants = {"image_size": 224, "crop_pct": 0.9, "interpolation": "bicubic"}
    layer = models.Preprocessing((0.5, 0.5, 0.4), (0.25, 0.2, 0.2), False, **constants)
    # The layer may be in a nested model.
    inner = keras.Model(inputs, layer(inputs))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 8)(inner(inputs)))
    path = export.to_tflite(model, tmp_path / "toy.tflite", aspect_ratio="pad", verbose=0)
    found = export.read_metadata(path)
    assert found["aspect_ratio"] == "pad"
    assert found["preprocessing"] == {
        "image_mean": [0.5, 0.5, 0.4],
        "image_std": [0.25, 0.2, 0.2],
        "is_inside": False,
        **constants,
    }
    before = path.read_bytes()
    stored = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 3))
    for arguments, message in (
        ({"input_range": (0, 255)}, "`input_range` must be left out for a model that takes norm"),
        ({"aspect_ratio": "fill"}, "`aspect_ratio` must be one of"),
        (
            {"quantization": "int8", "representative_data": stored},
            r"for input_range=\(-2.5, 3\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            export.to_tflite(model, path, verbose=0, **arguments)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "told",
    [
        {"aspect_ratio": "fill"},
        {"aspect_ratio": ["pad"]},
        {"preprocessing": []},
        {"preprocessing": {}},
        {"preprocessing": {**MEANS, "image_std": [0.0]}},
        {"preprocessing": {**MEANS, "image_std": [0.5, 0.5]}},
        {"preprocessing": {**MEANS, "image_mean": "0"}},
        {"preprocessing": {**MEANS, "image_mean": [None]}},
        {"preprocessing": {**MEANS, "image_mean": [], "image_std": []}},
        {"preprocessing": {**MEANS, "is_inside": 1}},
    ],
)
def test_what_is_said_of_images_is_looked_at_when_it_is_read(path, tmp_path, told):
    changed = tmp_path / "changed.tflite"
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        known = json.loads(archive.read("keras_fmm.json"))
    changed.write_bytes(content[: content.index(b"PK\x03\x04")])
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr("keras_fmm.json", json.dumps({**known, **told}))
    with pytest.raises(ValueError, match="which it cannot"):
        export.read_metadata(changed)
