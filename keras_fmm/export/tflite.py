"""Writing a TFLite file, and running one with LiteRT."""

import pathlib
import re

import numpy as np

from keras_fmm import checks, files, float32
from keras_fmm.export import requirements

# What the trial run puts where the file leaves a size open: networks for ImageNet accept 96.
_TRIAL_SIZE = 96
_TRIAL_BATCH = 2
_DYNAMIC_BATCH = 32


def to_tflite(model, path, batch_size=1):
    """Writes a float32 TFLite file of builtin operators, whole or not at all.

    The file is run once with LiteRT before it counts as written: one that converts without an
    error can still be refused when it is loaded. A model of half or mixed precision is rebuilt
    under float32 first. Unknown height and width stay unknown (`Interpreter.resize_tensor_input`
    sets them; the trial run takes 96), which is slow: LiteRT's fast kernels need known sizes.

    Args:
        model: a built `keras.Model`, on the TensorFlow backend; several inputs are taken if it is
            functional.
        path: str or `os.PathLike` that ends in ".tflite". A file that is there is replaced.
        batch_size: int, the batch that the file takes, or None for any (slower).

    Returns:
        `pathlib.Path`, the file.

    Raises:
        ImportError: LiteRT is not installed.
        TypeError: `model` is not a `keras.Model`, or `batch_size` is no integer.
        ValueError: the model needs operators that TFLite lacks (they are named), LiteRT cannot run
            what came out, `model` is not built, cannot be rebuilt under float32, or `path` ends
            otherwise, or Keras does not run on TensorFlow.
        OSError: the file cannot be written.

        Whatever is raised, what was at `path` before is still there.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> from keras_fmm import export
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    >>> path = export.to_tflite(model, tempfile.mkdtemp() + "/toy.tflite")
    >>> export.run_tflite(path, np.zeros((5, 8, 8, 3))).shape
    (5, 192)
    """
    requirements.tensorflow_backend()
    requirements.built_model(model)
    path = requirements.file_path(path, ".tflite")
    if batch_size is not None:
        batch_size = checks.positive_integer("batch_size", batch_size)
    _interpreter_class()
    model = float32.as_float32(model)
    with files.replacing(path) as temporary, requirements.tensorflow_files():
        _convert(model, temporary, batch_size)
        _trial_run(temporary, model)
    return path


def run_tflite(path, images, num_threads=1):
    """Returns what a TFLite file of one input and one output says of images.

    A file of a fixed batch is fed in batches of that size; the last one is filled up with copies
    of the last image, whose outputs are dropped.

    Args:
        path: str or `os.PathLike`, the file.
        images: array of numbers, shape (n, height, width, channels); fed as the input's dtype.
        num_threads: int, the CPU threads that LiteRT uses.

    Returns:
        array of n outputs, e.g. (n, classes), of the file's output dtype.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ImportError: LiteRT is not installed.
        TypeError: `images` does not hold numbers, or `num_threads` is no integer.
        ValueError: the file is no TFLite file, is cut short, needs operators that LiteRT lacks, is
            quantized at its input or output, or has several of them, or `images` does not fit.

    Example: see `to_tflite`.
    """
    num_threads = checks.positive_integer("num_threads", num_threads)
    path = pathlib.Path(path)
    interpreter = _open(path, num_threads)
    details = interpreter.get_input_details() + interpreter.get_output_details()
    if len(details) != 2 or any(detail["quantization"][0] for detail in details):
        raise ValueError(
            "`path` must be a TFLite file of one input and one output, neither quantized. "
            f"Received: path={str(path)!r} with {[detail['name'] for detail in details]}"
        )
    shape = details[0]["shape_signature"]
    images = requirements.fitting_images(images, shape, details[0]["dtype"], f"the file {path}")
    batch = _DYNAMIC_BATCH if shape[0] == -1 else int(shape[0])
    outputs = []
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        missing = 0 if shape[0] == -1 else batch - len(chunk)
        filled = np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)])
        (output,) = _invoke(interpreter, [filled], path)
        outputs.append(output[: len(chunk)])
    return np.concatenate(outputs)


def _convert(model, path, batch_size):
    import tensorflow as tf

    try:
        model.export(
            path,
            format="litert",
            input_signature=[requirements.input_specs(model, batch_size)],
            verbose=False,
            target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
        )
    except Exception as error:
        # The converter's error class is not public; its text names operators and their places.
        groups = re.findall(r"^(?:TF Select|Custom) ops: (.*)$", str(error), re.MULTILINE)
        if not groups:
            raise
        places = re.findall(r'fused\["(\w+):", "([^"@]+)', str(error))
        operators = []
        for name in sorted({name.strip() for group in groups for name in group.split(",")}):
            found = sorted({place for operator, place in places if operator == name})
            operators.append(f"{name} (at {', '.join(found)})" if found else name)
        raise ValueError(
            "A TFLite file may hold builtin operators only. "
            f"Received: model={model!r}, which needs {'; '.join(operators)}. "
            "Write that layer with other operations, or leave it out of the exported model."
        ) from error


def _trial_run(path, model):
    try:
        interpreter = _open(path, num_threads=1)
        arrays = []
        for detail in interpreter.get_input_details():
            batch, *sizes = detail["shape_signature"]
            shape = [_TRIAL_BATCH if batch == -1 else batch]
            shape += [_TRIAL_SIZE if size == -1 else size for size in sizes]
            arrays.append(np.zeros(shape, detail["dtype"]))
        _invoke(interpreter, arrays, path)
    except ValueError as error:
        raise ValueError(
            "A TFLite file must run in LiteRT to count as written. "
            f"Received: model={model!r}, whose file does not ({error.__cause__})"
        ) from error


def _interpreter_class():
    module = checks.package("ai_edge_litert.interpreter", "Running a TFLite file", "mobile")
    return module.Interpreter


def _open(path, num_threads):
    """Returns a LiteRT interpreter of the file at `path`, without tensors yet."""
    interpreter_class = _interpreter_class()
    content = path.read_bytes()
    try:
        if content[4:8] != b"TFL3":
            raise ValueError("it does not have TFL3 in bytes 4 to 7")
        return interpreter_class(model_content=content, num_threads=num_threads)
    except (ValueError, RuntimeError) as error:
        raise _unusable(path, error) from error


def _invoke(interpreter, arrays, path):
    """Returns the outputs of the interpreter on `arrays`, one for each of its inputs."""
    details = interpreter.get_input_details()
    try:
        for detail, array in zip(details, arrays, strict=True):
            if tuple(detail["shape"]) != array.shape:
                interpreter.resize_tensor_input(detail["index"], array.shape)
        interpreter.allocate_tensors()
        for detail, array in zip(details, arrays, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise _unusable(path, error) from error
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def _unusable(path, error):
    return ValueError(
        f"`path` must be a whole TFLite file that LiteRT can run. Received: path={str(path)!r}, "
        f"which it cannot ({str(error).strip()}). Export the model again."
    )
