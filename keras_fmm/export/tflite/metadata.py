"""What a TFLite file says of itself: what its classes and inputs mean, and that it is whole."""

import hashlib
import io
import json
import math
import struct
import zipfile
import zlib

import numpy as np

from keras_fmm import checks, hints, version
from keras_fmm.export import arguments
from keras_fmm.export.tflite import flatbuffers

# Behind the model, in a zip archive that LiteRT does not look at: where TensorFlow Lite's own
# metadata has its associated files.
_LABELS = "labels.txt"
_METADATA = "keras_fmm.json"
# Names of 100,000 classes take less.
_MOST_BYTES = 2**24


# How images of another ratio of sides get that of the file, as `data.load_image` does it.
ASPECT_RATIOS = ("stretch", "crop", "pad")


def attach(
    path,
    quantization=None,
    class_names=None,
    input_range=None,
    inputs=None,
    attention_map=None,
    preprocessing=None,
    aspect_ratio=None,
):
    """Puts the metadata behind a TFLite file's model.

    Args:
        path: `pathlib.Path`, the file.
        quantization: str or None, default None. How it was quantized.
        class_names: list of str or None, default None. The classes in order.
        input_range: pair of float or None, default None. See `to_tflite`.
        inputs: list of str or None, default None. The names of the model's inputs in order; None
            where there is one.
        attention_map: str or None, default None. The path of the layer whose map is the second
            output.
        preprocessing: dict or None, default None. As of `protocols.TellsImages`.
        aspect_ratio: one of `ASPECT_RATIOS` or None, default None.

    Raises:
        ValueError: they do not fit the file, which a subclassed model does not tell before.
    """
    model = path.read_bytes()
    content = {
        "keras_fmm": version.__version__,
        "quantization": quantization,
        "class_names": class_names,
        "input_range": input_range,
        "sha256": hashlib.sha256(model).hexdigest(),
    }
    known = {
        "inputs": inputs,
        "attention_map": attention_map,
        "preprocessing": preprocessing,
        "aspect_ratio": aspect_ratio,
    }
    content.update((key, value) for key, value in known.items() if value is not None)
    _check(content, model)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_METADATA, json.dumps(content, indent=1))
        if class_names is not None:
            archive.writestr(_LABELS, "\n".join(class_names) + "\n")


def split(content):
    """Returns a TFLite file's model and its metadata, `bytes` and dict.

    Args:
        content: bytes, the file's; without metadata of this package the dict is empty, and nothing
            says whether the file is whole.

    Raises:
        ValueError: the file is damaged, or is no TFLite file.
    """
    if content[4:8] != b"TFL3":
        raise ValueError("it does not have TFL3 in bytes 4 to 7")
    if _METADATA.encode() not in content:
        return content, {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.getinfo(_METADATA).file_size > _MOST_BYTES:
                raise ValueError(f"{_METADATA} is larger than {_MOST_BYTES} bytes")
            metadata = json.loads(archive.read(_METADATA))
            model = content[: min(member.header_offset for member in archive.infolist())]
        if not isinstance(metadata, dict):
            raise ValueError(f"{_METADATA} must hold an object. Received: {str(metadata)[:80]!r}")
        is_whole = metadata.pop("sha256") == hashlib.sha256(model).hexdigest()
        if is_whole:
            _check(metadata, model)
    except _DAMAGES as error:
        raise ValueError(f"its metadata is damaged: {error}") from error
    if not is_whole:
        raise ValueError("its model is not the one that was written: the checksums differ")
    return model, metadata


# What reading the archive, the text and the model's outputs raises where they are damaged.
_DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    LookupError,
    ValueError,
    TypeError,
    EOFError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


def _check(metadata, model):
    """Raises ValueError where metadata is none that `attach` wrote for a model, `bytes`."""
    for key in ("keras_fmm", "quantization"):
        if not isinstance(metadata.get(key), (str, type(None))):
            raise ValueError(f"`{key}` must be a string. Received: {key}={metadata[key]!r}")
    for key in ("class_names", "inputs"):
        found = metadata.get(key)
        if found is not None and not (isinstance(found, list) and all(map(_is_name, found))):
            raise ValueError(
                f"`{key}` must be a list of names of one line each. Received: "
                f"{key}={str(found)[:80]!r}"
            )
    checked_input_range(metadata.get("input_range"))
    class_names, called = metadata.get("class_names"), metadata.get("inputs")
    inputs, outputs, classes = flatbuffers.ends(model)
    attention_map = metadata.get("attention_map")
    if attention_map is not None and not (_is_name(attention_map) and outputs == 2):
        raise ValueError(
            "`attention_map` must name the layer whose map is the second of two outputs. "
            f"Received: attention_map={str(attention_map)[:80]!r} of {outputs} outputs"
        )
    _check_images(metadata)
    if outputs > 1 and attention_map is None:
        classes = None
    if class_names is not None and classes not in (None, len(class_names)):
        raise ValueError(
            f"`class_names` must name each of the {classes} classes. "
            f"Received: {len(class_names)} names"
        )
    if called is not None and not len(called) == len(set(called)) == inputs:
        raise ValueError(
            f"`inputs` must name each of the {inputs} inputs. Received: inputs={str(called)[:80]}"
        )


def _check_images(metadata):
    """Raises ValueError where what is said of images is no pair of lists of numbers, or no word."""
    aspect_ratio, expected = metadata.get("aspect_ratio"), metadata.get("preprocessing")
    if aspect_ratio not in (None, *ASPECT_RATIOS):
        raise ValueError(
            f"`aspect_ratio` must be one of {', '.join(ASPECT_RATIOS)}. "
            f"Received: aspect_ratio={str(aspect_ratio)[:80]!r}"
        )
    if expected is None:
        return
    means, stds = expected["image_mean"], expected["image_std"]
    are_numbers = all(isinstance(x, (int, float)) and math.isfinite(x) for x in (*means, *stds))
    if not are_numbers or len(means) != len(stds) or not means or min(stds) <= 0:
        raise ValueError(
            "`preprocessing` must have a mean and a deviation above 0 for each channel. "
            f"Received: preprocessing={str(expected)[:80]}"
        )
    if not isinstance(expected["is_inside"], bool):
        raise ValueError(
            "`preprocessing` must say whether it is inside. "
            f"Received: preprocessing={str(expected)[:80]}"
        )


def _is_name(name):
    return isinstance(name, str) and arguments.is_line(name)


def checked_input_range(input_range):
    """Returns the range as a list of two floats, or None.

    Raises:
        ValueError: it is no pair of finite numbers, the smaller first.
    """
    if input_range is None:
        return None
    try:
        found = np.asarray(input_range)
        is_pair = found.shape == (2,) and found.dtype.kind in "iuf" and found[0] < found[1]
    except ValueError:
        is_pair = False
    # As far as float32 has them and what lies between.
    if not is_pair or not np.abs(found).max() < np.finfo("float32").max / 2:
        raise ValueError(
            "`input_range` must be a pair of finite numbers, the smaller first. "
            f"Received: input_range={input_range!r}"
        )
    return found.astype(float).tolist()


def read_metadata(path: hints.Path) -> dict:
    """Returns what a TFLite file of this package says of itself.

    It lies in a zip archive behind the model (LiteRT does not look at it), so that
    `unzip -p model.tflite labels.txt` prints the class names. TensorFlow Lite's own metadata, which
    some libraries for Android read, is not written.

    Args:
        path: str or `os.PathLike`, the file.

    Returns:
        dict: "keras_fmm" (the version that wrote it), "quantization", "class_names" and
        "input_range" as `to_tflite` was given them; of a model of several inputs "inputs", their
        names in order; where the second output is a layer's map "attention_map", the layer's path;
        "aspect_ratio" if it was given; and of a model that begins with a `models.Preprocessing`
        "preprocessing", a dict: "image_mean" and "image_std", and "is_inside", which is False where
        images must be divided by 255 and normalized by them before; "image_size", "crop_pct" and
        "interpolation" say how the pretrained weights' images were resized. Empty for a file of
        another origin, and for one that was cut before its metadata, which LiteRT then refuses to
        run.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ValueError: it is no TFLite file, or it is damaged: its model or its metadata is not as it
            was written.

    Example:

    >>> import tempfile, keras
    >>> from keras_fmm import export
    >>> model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    >>> path = tempfile.mkdtemp() + "/toy.tflite"
    >>> _ = export.to_tflite(model, path, input_range=(0, 255))
    >>> export.read_metadata(path)["input_range"]
    [0.0, 255.0]
    """
    path = checks.path("path", path)
    try:
        return split(path.read_bytes())[1]
    except ValueError as error:
        raise damaged(path, error) from error


def damaged(path, error):
    """Returns the ValueError that says that a file cannot be used, and why."""
    return ValueError(
        f"`path` must be a whole TFLite file that LiteRT can run. Received: path={str(path)!r}, "
        f"which it cannot ({checks.printable(str(error).strip())}). Export the model again."
    )
