"""Writing a TFLite file, and running one with LiteRT."""

import bisect
import pathlib
import re

import keras
import numpy as np

from keras_fmm import checks, files, half_precision
from keras_fmm.export import arguments, flatbuffers, metadata, ranges
from keras_fmm.export import quantization as quantizing

# What the trial run puts where the file leaves a size open: networks for ImageNet accept 96.
_TRIAL_SIZE = 96
_TRIAL_BATCH = 2
_DYNAMIC_BATCH = 32
# Of the images that ranges are measured on. How far outputs may be from those of Keras, in parts of
# their spread; and, of probabilities, how often the class is to be the same where the first is this
# far before the second. What is merely coarse stays far below, what is broken far above.
_CHECKED_IMAGES = 32
_GREATEST_ERROR = 0.3
_CLEAR_MARGIN = 4 / 256
_LEAST_AGREEMENT = 0.85


def to_tflite(
    model,
    path,
    batch_size=1,
    quantization=None,
    representative_data=None,
    io_dtype="float32",
    class_names=None,
    input_range=None,
):
    """Writes a TFLite file of builtin operators, quantized on request, whole or not at all.

    The file is run once with LiteRT before it counts as written: one that converts without an
    error can still be refused when it is loaded. A model of half or mixed precision is rebuilt
    under float32 first. Unknown height and width stay unknown (`Interpreter.resize_tensor_input`
    sets them; the trial run takes 96), which is slow: LiteRT's fast kernels need known sizes.

    | `quantization` | weights | between the layers | size | LiteRT's fast kernels |
    |---|---|---|---|---|
    | None | float32 | float32 | 1 | yes |
    | "float16" | float16 | float32 | 1/2 | yes |
    | "dynamic" | int8 | float32, int8 in products | 1/4 | for most operators |
    | "int8" | int8 | int8, float32 from the last product on | 1/4 | yes |
    | "int16x8" | int8 | int16 | 1/4 | no |

    Args:
        model: a built `keras.Model`, on the TensorFlow backend; several inputs are taken if it is
            functional and needs no `representative_data`.
        path: str or `os.PathLike` that ends in ".tflite". A file that is there is replaced.
        batch_size: int, the batch that the file takes, or None for any (slower).
        quantization: see above.
        representative_data: for "int8" and "int16x8", some hundred images as the model is fed in
            training, on which the range of every value is measured: an array, a tf.data pipeline
            of batches, with or without labels, an iterable of batches, or a function that returns
            one. The first 500 images are taken. Not looked at otherwise.
        io_dtype: "float32", or for "int8" also "int8" and "uint8", for "int16x8" "int16": of the
            file's input and output, whose scale and zero point `inspect` tells. Images of 0 to 255
            are themselves in "uint8". With integers the last product gives integers too, and
            scores that are close are the same more often.
        class_names: sequence of str, of the model's classes in order; kept in the file.
        input_range: pair of numbers, what the images' darkest and lightest values are for the
            model, such as (0, 255); kept in the file. See `read_metadata`.

    Returns:
        `pathlib.Path`, the file.

    Raises:
        ImportError: LiteRT is not installed.
        TypeError: `model` is not a `keras.Model`, or an argument is of no type that fits.
        ValueError: the model needs operators that TFLite lacks (they are named), LiteRT cannot run
            what came out, or it says something else; `model` is not built or cannot be rebuilt
            under float32; `path` ends otherwise; Keras does not run on TensorFlow; an argument is
            none of the above; `representative_data` is missing, empty, of another shape, not
            finite, or scaled otherwise than the model needs (as far as its first layer that
            scales or its first batch norm tell).
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
    arguments.tensorflow_backend()
    arguments.built_model(model)
    path = arguments.file_path(path, ".tflite")
    if batch_size is not None:
        batch_size = checks.positive_integer("batch_size", batch_size)
    quantization, io_dtype = quantizing.checked(quantization, io_dtype)
    class_names = metadata.checked_class_names(class_names, model)
    input_range = metadata.checked_input_range(input_range)
    _interpreter_class()
    model = half_precision.as_float32(model)
    images = quantizing.calibration_images(model, quantization, representative_data)
    converting = quantizing.converter_arguments(quantization, io_dtype, images, batch_size)
    expected = _first_outputs(model, images)
    with files.replacing(path) as temporary, arguments.tensorflow_files():
        with quantizing.integer_forms(model, quantization):
            _convert(model, temporary, batch_size, converting)
        if quantization == "int8":
            temporary.write_bytes(ranges.quantized(temporary.read_bytes(), images, io_dtype))
        _trial_run(temporary, model)
        if expected is not None:
            _check_outputs(temporary, model, images, expected, quantization)
        metadata.attach(temporary, quantization, class_names, input_range)
    return path


def run_tflite(path, images, num_threads=1):
    """Returns what a TFLite file of one input and one output says of images.

    A file whose input is quantized is given what its integers can say of the images, and of
    quantized outputs what they stand for is returned. A file of a fixed batch is fed in batches of
    that size; the last one is filled up with copies of the last image, whose outputs are dropped.

    Args:
        path: str or `os.PathLike`, the file.
        images: array of numbers, shape (n, height, width, channels).
        num_threads: int, the CPU threads that LiteRT uses.

    Returns:
        array of n outputs, e.g. (n, classes), of the file's output dtype or float32.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ImportError: LiteRT is not installed.
        TypeError: `images` does not hold numbers, or `num_threads` is no integer.
        ValueError: the file is no TFLite file, is damaged, needs operators that LiteRT lacks or
            has several inputs or outputs, or `images` does not fit.

    Example: see `to_tflite`.
    """
    num_threads = checks.positive_integer("num_threads", num_threads)
    path = pathlib.Path(path)
    interpreter = _open(path, num_threads)
    details = interpreter.get_input_details() + interpreter.get_output_details()
    if len(details) != 2:
        raise ValueError(
            "`path` must be a TFLite file of one input and one output. "
            f"Received: path={str(path)!r} with {[detail['name'] for detail in details]}"
        )
    taken, given = details
    shape = taken["shape_signature"]
    dtype = "float32" if quantizing.is_quantized(taken) else taken["dtype"]
    images = arguments.fitting_images(images, shape, dtype, f"the file {path}")
    if quantizing.is_quantized(taken):
        images = quantizing.quantize(images, taken)
    batch = _DYNAMIC_BATCH if shape[0] == -1 else int(shape[0])
    outputs = []
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        missing = 0 if shape[0] == -1 else batch - len(chunk)
        filled = np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)])
        (output,) = _invoke(interpreter, [filled], path)
        outputs.append(output[: len(chunk)])
    outputs = np.concatenate(outputs)
    return quantizing.dequantize(outputs, given) if quantizing.is_quantized(given) else outputs


def _convert(model, path, batch_size, converting):
    try:
        model.export(
            path,
            format="litert",
            input_signature=[arguments.input_specs(model, batch_size)],
            verbose=False,
            **converting,
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
        _invoke(interpreter, _trial_inputs(interpreter), path)
    except ValueError as error:
        raise ValueError(
            "A TFLite file must run in LiteRT to count as written. "
            f"Received: model={model!r}, whose file does not{_refused(path)} ({error.__cause__}). "
            "Write that layer with other operations, or leave it out of the exported model."
        ) from error


def _refused(path):
    """Returns which operator LiteRT refuses, with its output's name, which tells the layer.

    LiteRT's fast kernels fail as a whole. So the file is cut: the operator is the last one of the
    shortest beginning that does not run. Empty where no beginning fails.
    """
    model = flatbuffers.parsed(path.read_bytes())
    graph = model.subgraphs[0]
    operators = graph.operators
    # They name the outputs, which are now others.
    model.signatureDefs = None

    def fails(number):
        graph.operators = operators[: number + 1]
        graph.outputs = operators[number].outputs
        content = flatbuffers.packed(model)
        try:
            interpreter = _interpreter_class()(model_content=content, num_threads=1)
            _invoke(interpreter, _trial_inputs(interpreter), path)
        except (ValueError, RuntimeError):
            return True
        return False

    # A beginning must give something that is computed: a float16 file begins with its weights.
    ends = [
        number
        for number, op in enumerate(operators)
        if len(op.outputs) and flatbuffers.operator_name(op, model) != "DEQUANTIZE"
    ]
    found = bisect.bisect_left(ends, True, key=fails)
    if found == len(ends):
        return ""
    op = operators[ends[found]]
    place = graph.tensors[op.outputs[0]].name.decode()
    return f": {flatbuffers.operator_name(op, model)} at {place}"


def _trial_inputs(interpreter):
    """Returns an array of zeros for each input, of a size that most networks take."""
    arrays = []
    for detail in interpreter.get_input_details():
        batch, *sizes = detail["shape_signature"]
        shape = [_TRIAL_BATCH if batch == -1 else batch]
        shape += [_TRIAL_SIZE if size == -1 else size for size in sizes]
        arrays.append(np.zeros(shape, detail["dtype"]))
    return arrays


def _first_outputs(model, images):
    """Returns what a model says of the first images, or None if it says several things."""
    if images is None or len(model.outputs) != 1:
        return None
    size = model.inputs[0].shape[0] or _CHECKED_IMAGES
    images = images[: size * max(1, _CHECKED_IMAGES // size)]
    outputs = [
        keras.tree.flatten(model(images[start : start + size], training=False))[0]
        for start in range(0, len(images), size)
        # A model of one batch size takes no smaller last batch.
        if len(images[start : start + size]) == size or model.inputs[0].shape[0] is None
    ]
    return np.concatenate([keras.ops.convert_to_numpy(x) for x in outputs]) if outputs else None


def _check_outputs(path, model, images, expected, quantization):
    """Refuses a file that says something else than Keras; what is merely coarse passes."""
    found = run_tflite(path, images[: len(expected)])
    expected = expected.astype("float64")
    error, spread = np.sqrt(np.mean((found - expected) ** 2)), expected.std()
    problem = None
    # Scores of an untrained network spread less than a step of its outputs, or, where these are
    # floats, of the eight bits they are computed from.
    step = max(_output_step(path), np.abs(expected).max() / 127)
    if error > max(_GREATEST_ERROR * spread, 2 * step):
        problem = f"are off by {error:.3g} where those of Keras spread by {spread:.3g}"
    probabilities = expected.min() >= 0 and np.allclose(expected.sum(axis=-1), 1, atol=1e-3)
    if probabilities and expected.shape[-1] > 1:
        second, first = np.moveaxis(np.sort(expected, axis=-1)[..., -2:], -1, 0)
        clear = first - second > _CLEAR_MARGIN
        same = found.argmax(axis=-1) == expected.argmax(axis=-1)
        if clear.sum() > 4 and same[clear].mean() < _LEAST_AGREEMENT:
            problem = f"name the class of Keras for {same[clear].mean():.0%} where it is clear"
    if problem:
        raise ValueError(
            "A quantized file must say about what the model says. Received: model="
            f"{model!r}, whose {quantization} outputs {problem}. Take another quantization, or "
            "find with `inspect` what cannot be quantized."
        )


def _output_step(path):
    """Returns the step of a file's only output, of the integers that floats are made from."""
    interpreter = _open(path, num_threads=1)
    (output,) = interpreter.get_output_details()
    index = output["index"]
    for node in interpreter._get_ops_details():
        if node["op_name"] == "DEQUANTIZE" and index in node["outputs"]:
            index = int(node["inputs"][0])
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    return float(tensors[index]["quantization"][0])


def _interpreter_class():
    module = checks.package("ai_edge_litert.interpreter", "Running a TFLite file", "mobile")
    return module.Interpreter


def _open(path, num_threads):
    """Returns a LiteRT interpreter of the file at `path`, without tensors yet."""
    interpreter_class = _interpreter_class()
    content = path.read_bytes()
    try:
        content, _ = metadata.split(content)
        if content[4:8] != b"TFL3":
            raise ValueError("it does not have TFL3 in bytes 4 to 7")
        return interpreter_class(model_content=content, num_threads=num_threads)
    except (ValueError, RuntimeError) as error:
        raise metadata.damaged(path, error) from error


def invoked(path):
    """Returns a LiteRT interpreter of the file at `path` that ran once, on zeros, on one thread."""
    interpreter = _open(path, num_threads=1)
    _invoke(interpreter, _trial_inputs(interpreter), path)
    return interpreter


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
        raise metadata.damaged(path, error) from error
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
