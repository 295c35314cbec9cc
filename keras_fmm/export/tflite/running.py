"""Running a TFLite file with LiteRT, on any number of images."""

import numpy as np

from keras_fmm import checks, hints, progress
from keras_fmm.export import arguments, names
from keras_fmm.export.tflite import litert, metadata

# Where a file takes any number.
_DYNAMIC_BATCH = 32


def run_tflite(
    path: hints.Path,
    images: hints.Inputs,
    num_threads: int = 1,
    verbose: hints.Verbose = "auto",
) -> np.ndarray | list | dict:
    """Returns what a TFLite file says of images.

    A file whose input is quantized is given what its integers can say of the images, and of
    quantized outputs what they stand for is returned. A file of a fixed batch is fed in batches of
    that size; the last one is filled up with copies of the last image, whose outputs are dropped.

    Args:
        path: str or `os.PathLike`, the file.
        images: array of numbers, shape (n, height, width, channels), or what else the file takes;
            for several inputs a list or tuple of arrays in the model's order, or a dict of arrays
            by the inputs' names (the keys of a model that takes a dict, the names of the input
            layers otherwise).
        num_threads: int, from 1 to 256, default 1. The CPU threads that LiteRT uses.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar after
            five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.

    Returns:
        array of n outputs, e.g. (n, classes), of the file's output dtype or float32; of a model of
        several outputs a list of them in the model's order, or a dict where the model gives one.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ImportError: LiteRT is not installed.
        TypeError: `images` does not hold numbers, or `num_threads` is no integer.
        ValueError: the file is no TFLite file, is damaged, needs operators that LiteRT lacks or
            gives outputs without a batch, or `images` does not fit: an input has no array or one
            of another shape, is unknown, or the inputs have different numbers of images.

    Example: see `to_tflite`; for several inputs

    >>> import tempfile, keras, numpy as np
    >>> from keras_fmm import export
    >>> left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    >>> model = keras.Model([left, right], {"sum": left + right, "product": left * right})
    >>> path = export.to_tflite(model, tempfile.mkdtemp() + "/toy.tflite")
    >>> outputs = export.run_tflite(path, {"left": np.ones((5, 3)), "right": np.ones((5, 3))})
    >>> outputs["sum"].shape, float(outputs["product"].max())
    ((5, 3), 1.0)
    """
    return names.as_given(outputs_of_file(path, images, num_threads, verbose))


def outputs_of_file(path, images, num_threads=1, verbose="auto"):
    """Returns as `run_tflite`, but always a dict by the names in the file's signature.

    Args: as `run_tflite`; and `images` may be a function of the inputs' names, a list, to them.
    """
    num_threads = checks.positive_integer("num_threads", num_threads, below=257)
    path = checks.path("path", path)
    session = litert.opened(path, num_threads)
    if callable(images):
        images = images(list(session.inputs))
    try:
        return outputs_of(session, images, f"the file {path}", verbose)
    except litert.RefusedError as error:
        raise metadata.damaged(path, error) from error


def outputs_of(session, images, of, verbose=0):
    """Returns what a file says of images, a dict of arrays by the names in its signature.

    Args:
        session: `litert.Session`.
        images: as `run_tflite` takes them.
        of: str, says in errors what the session is of.
        verbose: as `run_tflite` takes it.
    """
    wanted = {}
    for name, detail in session.inputs.items():
        dtype = "float32" if litert.is_quantized(detail) else detail["dtype"]
        wanted[name] = (tuple(detail["shape_signature"]), dtype)
    sizes = {shape[0] if shape else None for shape, _ in wanted.values()}
    if len(sizes) != 1 or None in sizes:
        shapes = ", ".join(f"{shape} for {name!r}" for name, (shape, _) in wanted.items())
        raise ValueError(f"Each input of {of} must have the same batch first. Received: {shapes}")
    inputs = arguments.fitting_inputs(images, wanted, of, session.is_ordered)
    for name, detail in session.inputs.items():
        if litert.is_quantized(detail):
            inputs[name] = litert.quantize(inputs[name], detail)
    (fixed,) = sizes
    batch = _DYNAMIC_BATCH if fixed == -1 else int(fixed)
    count = len(next(iter(inputs.values())))
    bar = progress.Progress(count, verbose, "image")
    parts, counts = [], []
    for start in range(0, count, batch):
        counts.append(min(batch, count - start))
        missing = 0 if fixed == -1 else batch - counts[-1]
        filled = {}
        for name, array in inputs.items():
            chunk = array[start : start + batch]
            filled[name] = np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)])
        parts.append(session.run(filled))
        bar.add(counts[-1])
    outputs = names.joined(parts, counts, of)
    for name, detail in session.outputs.items():
        if litert.is_quantized(detail):
            outputs[name] = litert.dequantize(outputs[name], detail)
    return outputs
