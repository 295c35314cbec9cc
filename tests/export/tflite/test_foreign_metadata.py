"""What another program wrote as a file's metadata is checked where it is read."""

import hashlib
import io
import json
import re
import zipfile

import keras
import pytest

from keras_fmm import export
from tests.export import toys

GOOD = {"keras_fmm": "0.1.0", "quantization": None, "class_names": list("abcd")}
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "toy.tflite"
    content = export.to_tflite(toys.cnn(), path, verbose=0).read_bytes()
    return content[: content.index(b"PK\x03\x04")]


@pytest.fixture
def written(model, tmp_path):
    """A function that writes the model with a text as its metadata, and returns the path."""

    def write(text, compression=zipfile.ZIP_STORED):
        archive = io.BytesIO(model)
        with zipfile.ZipFile(archive, "a", compression) as opened:
            opened.writestr("keras_fmm.json", text)
        path = tmp_path / "foreign.tflite"
        path.write_bytes(archive.getvalue())
        return path

    return write


def told(model, **changed):
    return json.dumps({**GOOD, "sha256": hashlib.sha256(model).hexdigest(), **changed})


def test_what_is_right_is_read(model, written):
    path = written(told(model, input_range=[0, 255], note=[1]))
    for read in (export.read_metadata, lambda path: export.inspect(path).metadata):
        assert read(path) == {**GOOD, "input_range": [0, 255], "note": [1]}
    assert export.read_metadata(written(told(model, class_names=None)))["class_names"] is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"class_names": ["a", "b", "c"]}, "name each of the 4 classes. Received: 3 names"),
        ({"class_names": list("abcde")}, "Received: 5 names"),
        ({"class_names": []}, "Received: 0 names"),
        ({"class_names": "abcd"}, "`class_names` must be a list of names"),
        ({"class_names": {"a": 1, "b": 2, "c": 3, "d": 4}}, "`class_names` must be a list"),
        ({"class_names": ["a", "b", "c", None]}, "`class_names` must be a list"),
        ({"class_names": ["a", "b", "c", "d\nerror: e"]}, "of one line each"),
        ({"class_names": ["a", "b", "c", "\ud800"]}, "of one line each"),
        ({"input_range": [float("nan"), 1]}, "`input_range` must be a pair of finite numbers"),
        ({"input_range": [0, float("inf")]}, "`input_range`"),
        ({"input_range": [255, 0]}, "`input_range`"),
        ({"input_range": [0, 10**400]}, "`input_range`"),
        ({"input_range": "0 255"}, "`input_range`"),
        ({"input_range": {}}, "`input_range`"),
        ({"input_range": [[0], [1, 2]]}, "`input_range`"),
        ({"input_range": [-1e300, 1e300]}, "`input_range`"),
        ({"inputs": 3}, "`inputs` must be a list"),
        ({"inputs": [[]]}, "`inputs` must be a list"),
        ({"inputs": ["a", "b"]}, "`inputs` must name each of the 1 inputs"),
        ({"inputs": []}, "`inputs` must name each of the 1 inputs"),
        ({"quantization": ["int8"]}, "`quantization` must be a string"),
        ({"keras_fmm": 1}, "`keras_fmm` must be a string"),
        ({"sha256": None}, "the checksums differ"),
    ],
)
@pytest.mark.parametrize(
    "read", [export.read_metadata, export.inspect, lambda path: export.run_tflite(path, [])]
)
def test_what_is_wrong_is_refused_by_name(model, written, read, changed, reason):
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        read(written(told(model, **changed)))
    assert "foreign.tflite" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    ["[]", "null", "3", '"sha256"', "", "{", "{}", "nonsense", DEEP, "\xff\xfe", '{"sha256": ' * 2],
    ids=[
        "list",
        "null",
        "number",
        "text",
        "empty",
        "cut",
        "object",
        "word",
        "deep",
        "bom",
        "twice",
    ],
)
def test_what_is_no_metadata_is_refused(written, text):
    with pytest.raises(ValueError, match="its metadata is damaged"):
        export.read_metadata(written(text))


def test_inputs_of_one_name_are_refused(tmp_path):
    inputs = [keras.Input((3,), name=name) for name in ("left", "right")]
    path = export.to_tflite(keras.Model(inputs, inputs[0] - inputs[1]), tmp_path / "two.tflite")
    assert export.read_metadata(path)["inputs"] == ["left", "right"]
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        text = archive.read("keras_fmm.json").decode().replace("right", "left")
    archive = io.BytesIO(content[: content.index(b"PK\x03\x04")])
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("keras_fmm.json", text)
    path.write_bytes(archive.getvalue())
    with pytest.raises(ValueError, match="`inputs` must name each of the 2 inputs"):
        export.inspect(path)


def test_a_text_that_unpacks_to_much_is_not_unpacked(written):
    path = written(b" " * 2**25, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="is larger than"):
        export.read_metadata(path)


def test_a_damaged_compressed_text(model, written):
    path = written(told(model), zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x03\x04") + 30 + len("keras_fmm.json")
    content[start : start + 20] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its metadata is damaged"):
        export.read_metadata(path)
