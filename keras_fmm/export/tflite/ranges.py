"""The ranges that int8 is cut from: measured with LiteRT, mended, then used."""

import os

import numpy as np

from keras_fmm.export.tflite import (
    bias_correction,
    calibration,
    equalization,
    flatbuffers,
    float_ending,
    litert,
)

# Of how many of the images each range holds all values; that which serves best is taken.
_SHARES = (1.0, 0.97, 0.9)
# By how much less the mean square error must be for images to be cut, and how many there must be
# for a share of them to say something.
_CLEARLY = 2
_FEWEST_IMAGES = 100

# XNNPACK refuses a whole file where one operator would multiply its integers by 256 or more to
# get its output's: where what comes out is far smaller than what goes in. We stay below half.
_GREATEST_FACTOR = 128
# And, in a sum, where it would divide one of them by more than 1024.
_LEAST_FACTOR = 1 / 512
_EMPTY = 1e-30
# Where a sigmoid is half a step of eight bits from its end.
_SATURATED = float(np.log(511))
# How much coarser the steps of the images may get for zero to fall on one.
_LITTLE = 1.02
_PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "MUL")
_SUMS = ("ADD", "SUB")
# What comes out is in the units of what goes in. Of other operators (a root, a quotient) nothing is
# known, and only an empty range is widened.
_KEEPING = (
    *_SUMS,
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "LEAKY_RELU",
    "MAXIMUM",
    "MAX_POOL_2D",
    "MEAN",
    "MINIMUM",
    "PAD",
    "REDUCE_MAX",
    "RELU",
    "RELU6",
    "RESHAPE",
    "SLICE",
    "STRIDED_SLICE",
    "TRANSPOSE",
)


def quantized(content, images, io_dtype, progress):
    """Returns the int8 file that follows from a float one with ranges, the ranges mended.

    They are measured anew: TensorFlow's calibrator looks at an operator's inputs when it has run,
    and where LiteRT writes the output over them, as in sums and products, it takes the output's
    range for the input's too, which is twice as wide before a gain of two.

    Where a few images reach several times as far as all others, a range that holds them leaves few
    steps to the rest. So a file is also made with each range as wide as a part of the images need,
    and taken where its outputs are clearly nearer to the float file's.

    A hidden unit of a gate that is off for all images has the range 0 to 0. The converter takes
    1e-38 for it, and LiteRT's fast kernels then refuse the file. Such a range is made as wide as
    they need; all that was measured is still in it.

    Before, channels are made to reach equally far, see `equalization`. Behind, the biases make up
    for the rounding of the weights, see `bias_correction`. With "float32" the last product gives
    floats, see `float_ending`.

    Args:
        content: bytes, what the converter wrote when told to measure ranges alone.
        images: float32 array `(n, height, width, channels)`, to measure on.
        io_dtype: str, "float32", "int8" or "uint8".
        progress: `Progress`, that is told of each image twice, and of the first ones four times.

    Returns:
        bytes.
    """
    reference = content
    content, limits = equalization.equalized(content, images, progress)
    extremes = _measured(content, images, progress)
    _cut(extremes, limits, content)
    _cut_saturated(extremes, content)
    shares = _SHARES if len(images) >= _FEWEST_IMAGES else (1.0,)
    rounded = [_quantized(content, extremes, share) for share in shares]
    # The weights are the same in all.
    moves = bias_correction.shifts(rounded[0], content, images, progress)
    found = [bias_correction.corrected(each, moves) for each in rounded]
    if io_dtype == "float32":
        found = [float_ending.in_floats(each) for each in found]
    errors = _errors(found, reference, images, progress)
    # The images that are cut lose by it: the others must gain clearly.
    best = int(np.argmin(errors * [1, *[_CLEARLY] * (len(found) - 1)]))
    if io_dtype == "float32":
        return found[best]
    whole = _quantized(content, extremes, shares[best], io_dtype)
    return bias_correction.corrected(whole, moves)


def _quantized(content, extremes, share, io_dtype="float32"):
    """Returns the int8 file with ranges that suffice for a share of the images."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    model = flatbuffers.parsed(content)
    main = model.subgraphs[0]
    # The images, which `io_dtype` may be exactly, and the scores are whole.
    ends = {*main.inputs, *main.outputs}
    for index, (lows, highs) in extremes.items():
        part = 1.0 if index in ends else share
        measured = main.tensors[index].quantization
        measured.min = np.array([np.quantile(lows, 1 - part)], "float32")
        measured.max = np.array([np.quantile(highs, part)], "float32")
    if io_dtype == "float32":
        _fit_zero(main.tensors[main.inputs[0]])
    for graph in model.subgraphs:
        _mend(graph, model)
    dtype = tf.as_dtype(io_dtype)
    return mlir_quantize(flatbuffers.packed(model), input_data_type=dtype, output_data_type=dtype)


def _fit_zero(images):
    """Widens the range of the images so that zero falls on a step.

    The converter moves all steps until it does: of -1 to 1 by half a step, by which each pixel of
    a byte is then off, the furthest possible.
    """
    if not _has_range(images):
        return
    low, high = float(images.quantization.min[0]), float(images.quantization.max[0])
    below = np.floor(255 * -low / (high - low)) if low < 0 < high else 0
    if below > 0 and (wider := (255 - below) * -low / below) - low < _LITTLE * (high - low):
        images.quantization.max = np.array([wider], "float32")


def _measured(content, images, progress):
    """Returns, for each tensor with a range, the least and the greatest value in each batch."""
    graph = flatbuffers.parsed(content).subgraphs[0]
    session = litert.Session(content, num_threads=os.cpu_count(), keeps_all=True)
    session.allocate()
    ((name, taken),) = session.inputs.items()
    computed = {int(index) for op in graph.operators for index in op.outputs if index >= 0}
    computed |= {taken["index"]}
    extremes = {index: ([], []) for index in computed if _has_range(graph.tensors[index])}
    for batch in calibration.batches(images, int(taken["shape"][0]), progress):
        session.run({name: batch})
        for index, (lows, highs) in extremes.items():
            values = session.read(index)
            lows.append(values.min(initial=np.inf))
            highs.append(values.max(initial=-np.inf))
    for index, (lows, highs) in extremes.items():
        low, high = min(lows), max(highs)
        if not np.isfinite([*lows, *highs]).all():
            raise ValueError(
                "All values between the layers must be finite on `representative_data`. Received: "
                f"{low} to {high} at {graph.tensors[index].name.decode()}. Mend the model, or take "
                "other images."
            )
    return extremes


def _cut(extremes, limits, content):
    """Cuts extremes in place to where values matter, before a gain too.

    Args:
        extremes: what `_measured` returned.
        limits: dict by tensor index of the furthest from zero that matters.
        content: bytes, the file.
    """
    model = flatbuffers.parsed(content)
    writes = {int(index): op for op in model.subgraphs[0].operators for index in op.outputs}
    for index, limit in limits.items():
        cut = {index: limit}
        before = writes[index]
        if flatbuffers.operator_name(before, model) == "MUL":
            # The first, as `equalization` has it; the second is the gain.
            features, gain = map(int, before.inputs)
            least = min(extremes[gain][0]) if gain in extremes else 0
            if least > 0:
                cut[features] = limit / least
        for each, furthest in cut.items():
            if each in extremes:
                lows, highs = extremes[each]
                extremes[each] = np.maximum(lows, -furthest), np.minimum(highs, furthest)


def _cut_saturated(extremes, content):
    """Cuts extremes in place to where a sigmoid behind still changes, through sums too.

    Its output has steps of a 256th: beyond half a one from 0 and 1 nothing changes. Scores of a
    gate reach five times as far, and had as few steps where it changes the most.
    """
    model = flatbuffers.parsed(content)
    graph = model.subgraphs[0]
    writes = {int(index): op for op in graph.operators for index in op.outputs}
    reads = [int(index) for op in graph.operators for index in op.inputs]
    reads += map(int, graph.outputs)

    def cut(index, low, high):
        if index not in extremes or reads.count(index) != 1:
            return
        lows, highs = extremes[index]
        extremes[index] = np.clip(lows, low, high), np.clip(highs, low, high)
        before = writes.get(index)
        if before is None or getattr(before.builtinOptions, "fusedActivationFunction", 0):
            return
        name = flatbuffers.operator_name(before, model)
        if name == "RESHAPE":
            cut(int(before.inputs[0]), low, high)
        elif name == "ADD" and all(int(each) in extremes for each in before.inputs):
            first, second = map(int, before.inputs)
            if first != second:
                # How far the other one can take it back.
                ends = [(min(extremes[x][0]), max(extremes[x][1])) for x in (second, first)]
                for each, (least, most) in zip((first, second), ends, strict=True):
                    cut(each, low - most, high - least)

    for op in graph.operators:
        if flatbuffers.operator_name(op, model) == "LOGISTIC":
            cut(int(op.inputs[0]), -_SATURATED, _SATURATED)


def _errors(contents, reference, images, progress):
    """Returns how far each file's outputs are from another's on the images, array of n errors.

    They are mean squares, each output's as a part of the reference's own; of a file that LiteRT
    refuses, infinity.
    """
    expecting = _loaded(reference)
    sessions = [_loaded(content, is_apart=True) for content in contents]
    ((name, taken),) = expecting.inputs.items()
    wrong, power = 0.0, 0.0
    for batch in calibration.batches(images, int(taken["shape"][0]), progress):
        expected = expecting.run({name: batch})
        power += np.array([np.mean(np.square(x)) for x in expected.values()])
        wrong += np.array(
            [_square_errors(session, {name: batch}, expected) for session in sessions]
        )
    return np.sum(wrong / (power + _EMPTY), axis=-1)


def _loaded(content, is_apart=False):
    """Returns a LiteRT session of a file, or None where LiteRT refuses it."""
    try:
        if is_apart:
            litert.try_apart(content)
        session = litert.Session(content, num_threads=os.cpu_count())
        session.allocate()
    except litert.RefusedError:
        return None
    return session


def _square_errors(session, arrays, expected):
    """Returns each output's mean square error; without a file, infinities."""
    if session is None:
        return [np.inf] * len(expected)
    outputs = session.run(arrays)
    return [np.mean(np.square(outputs[name] - value)) for name, value in expected.items()]


def _has_range(tensor):
    measured = tensor.quantization
    return measured is not None and measured.min is not None and len(measured.min) == 1


def _mend(graph, model):
    """Widens the ranges of one graph's tensors in place, in the order they are computed."""
    nodes = [(flatbuffers.operator_name(op, model), op) for op in graph.operators]
    for name, op in nodes:
        # Of two: a bias, the third input, is in the steps of the product.
        steps = [_step(graph.tensors[index], model) for index in op.inputs[:2] if index >= 0]
        steps = [step for step in steps if step]
        if not steps:
            continue
        largest = float(np.prod(steps)) if name in _PRODUCTS else max(steps)
        for index in op.outputs:
            step = _step(graph.tensors[index], model)
            if name in (*_PRODUCTS, *_KEEPING) or (step is not None and step < _EMPTY):
                _widen(graph.tensors[index], 255 * largest / _GREATEST_FACTOR)
    for name, op in nodes:
        if name in _SUMS:
            step = _step(graph.tensors[op.outputs[0]], model)
            for index in op.inputs:
                _widen(graph.tensors[index], 255 * (step or 0) * _LEAST_FACTOR)


def _step(tensor, model):
    """Returns what one integer of a tensor will stand for; of a constant, in its largest channel.

    None for what is neither measured nor a float constant, such as a shape.
    """
    measured = tensor.quantization
    if _has_range(tensor):
        return float(max(measured.max[0], 0) - min(measured.min[0], 0)) / 255
    data = model.buffers[tensor.buffer].data
    if tensor.type != 0 or data is None or not len(data):
        return None
    return float(np.abs(np.frombuffer(bytes(data), "float32")).max()) / 127


def _widen(tensor, width):
    """Makes a measured range at least this wide; it always has 0 in it."""
    if not _has_range(tensor):
        return
    measured = tensor.quantization
    low, high = min(float(measured.min[0]), 0.0), max(float(measured.max[0]), 0.0)
    if high - low < width:
        measured.min = np.array([low], "float32")
        measured.max = np.array([low + width], "float32")
