"""Whether a TFLite file counts as written: it runs, and says about what the model says."""

import bisect

import numpy as np

from keras_fmm.export import keras_model, names
from keras_fmm.export.tflite import flatbuffers, litert, running

# Of the images that ranges are measured on. How far outputs may be from those of Keras, in parts of
# their spread; and, of probabilities, how often the class is to be the same where the first is this
# far before the second. What is merely coarse stays far below, what is broken far above.
_CHECKED_IMAGES = 32
_GREATEST_ERROR = 0.3
_CLEAR_MARGIN = 4 / 256
_LEAST_AGREEMENT = 0.85


def trial_run(path, model):
    """Returns a `litert.Session` of the file at `path`, which ran once, on zeros.

    Raises:
        ValueError: LiteRT does not run it; the operator that it refuses is named.
    """
    content = path.read_bytes()
    try:
        session = litert.Session(content)
        session.run_on_zeros()
    except litert.RefusedError as error:
        raise ValueError(
            "A TFLite file must run in LiteRT to count as written. "
            f"Received: model={model!r}, whose file does not{_refused(content)} ({error}). "
            "Write that layer with other operations, or leave it out of the exported model."
        ) from error
    return session


def _refused(content):
    """Returns which operator LiteRT refuses, with its output's name, which tells the layer.

    LiteRT's fast kernels fail as a whole. So the file is cut: the operator is the last one of the
    shortest beginning that does not run. Empty where no beginning fails.
    """
    model = flatbuffers.parsed(content)
    graph = model.subgraphs[0]
    operators = graph.operators
    # They name the outputs, which are now others.
    model.signatureDefs = None

    def fails(number):
        graph.operators = operators[: number + 1]
        graph.outputs = operators[number].outputs
        try:
            litert.Session(flatbuffers.packed(model)).run_on_zeros()
        except litert.RefusedError:
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


def check_outputs(session, model, images, quantization):
    """Refuses a file that says something else than Keras; what is merely coarse passes.

    Args:
        session: `litert.Session` of the file.
        model: the `keras.Model` of one input that it was made from.
        images: float32 array, of which the first ones are taken.
        quantization: str, said in the error.

    Raises:
        ValueError: an output of the file is far from the model's; it is named if there are several.
    """
    size = model.inputs[0].shape[0] or _CHECKED_IMAGES
    images = images[: size * max(1, _CHECKED_IMAGES // size)]
    if model.inputs[0].shape[0] is not None:
        # A model of one batch size takes no smaller last batch.
        images = images[: len(images) // size * size]
    if not len(images):
        return
    expected = keras_model.outputs(model, [images], size)
    steps = {name: _step(session, detail) for name, detail in session.outputs.items()}
    found = running.outputs_of(session, images, repr(model))
    titles = names.of_outputs(model, expected)
    for (name, values), title in zip(expected.items(), titles, strict=True):
        problem = _problem(values.astype("float64"), found[name], steps[name])
        if problem:
            which = f" {title!r}" if len(expected) > 1 else ""
            raise ValueError(
                "A quantized file must say about what the model says. Received: model="
                f"{model!r}, whose {quantization} outputs{which} {problem}. Take another "
                "quantization, or find with `inspect` what cannot be quantized."
            )


def _problem(expected, found, step):
    """Says how an output of the file is not what Keras says; None where it is, about."""
    error, spread = np.sqrt(np.mean((found - expected) ** 2)), expected.std()
    problem = None
    # Scores of an untrained network spread less than a step of its outputs, or, where these are
    # floats, of the eight bits they are computed from.
    step = max(step, np.abs(expected).max() / 127)
    if error > max(_GREATEST_ERROR * spread, 2 * step):
        problem = f"are off by {error:.3g} where those of Keras spread by {spread:.3g}"
    probabilities = expected.min() >= 0 and np.allclose(expected.sum(axis=-1), 1, atol=1e-3)
    if probabilities and expected.shape[-1] > 1:
        second, first = np.moveaxis(np.sort(expected, axis=-1)[..., -2:], -1, 0)
        clear = first - second > _CLEAR_MARGIN
        same = found.argmax(axis=-1) == expected.argmax(axis=-1)
        if clear.sum() > 4 and same[clear].mean() < _LEAST_AGREEMENT:
            problem = f"name the class of Keras for {same[clear].mean():.0%} where it is clear"
    return problem


def _step(session, output):
    """Returns the step of an output, of the integers that floats are made from."""
    index = output["index"]
    for node in session.operators():
        if node["op_name"] == "DEQUANTIZE" and index in node["outputs"]:
            index = int(node["inputs"][0])
    return float(session.tensors()[index]["quantization"][0])
