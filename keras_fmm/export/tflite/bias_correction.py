"""The biases of a quantized file, moved by what the rounding of the weights moves the outputs."""

import copy
import os

import numpy as np

from keras_fmm.export.tflite import calibration, flatbuffers, litert

# More change little.
MOST_IMAGES = 100
# A rounded weight is at most half a step off, which of the largest of a row is 1/254; a product of
# whole files that is further off is another one.
_SAME = 1 / 64


def shifts(quantized, reference, images, progress):
    """Returns by how much to move each product's bias, a list of arrays, or None for none.

    Rounded weights move a channel's outputs by a mean that is not zero: inputs behind a ReLU are
    all positive, so errors of one sign add up, the most in a depthwise convolution, which sums nine
    products. Batch norm would tell; it is folded into the weights. So each product gets a twin
    whose weights are what rounding changed, on the values that the float file has there, and the
    mean of what it gives over images and positions is taken from the bias. (Nagel et al.,
    "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, with the
    images' means in the place of batch norm's. Taking them on the values of the quantized file,
    layer after layer, as they do, gave the same agreement for many times the work.)

    A product that is called twice has two biases afterwards, one a call.

    Args:
        quantized: bytes, the file with rounded weights.
        reference: bytes, the file in floats that it was made from.
        images: array `(n, height, width, channels)`, of which the first are taken.
        progress: `Progress`, that is told of each of those.

    Returns:
        list in the order of the quantized file's products.
    """
    model = flatbuffers.parsed(reference)
    wanted = _rounded(flatbuffers.parsed(quantized))
    partners = _partners(wanted, model)
    twins = {}
    for number, partner in enumerate(partners):
        if partner is not None:
            op, where, error = partner
            if error.any():
                twins[number] = _add_twin(model, op, where, error)
    means = {}
    if twins:
        # Those of the signature are others.
        model.signatureDefs = None
        model.subgraphs[0].outputs = list(twins.values())
        session = litert.Session(flatbuffers.packed(model), num_threads=os.cpu_count())
        ((name, taken),) = session.inputs.items()
        size = int(taken["shape_signature"][0])
        seen = images[:MOST_IMAGES]
        total = dict.fromkeys(twins, 0.0)
        for batch in calibration.batches(seen, size if size > 0 else 1, progress):
            session.run({name: batch})
            for number, index in twins.items():
                total[number] = total[number] + session.read(index).astype("float64")
        runs = -(-len(seen) // (size if size > 0 else 1))
        means = {number: -value / runs for number, value in total.items()}
    return [means.get(number) for number in range(len(partners))]


def corrected(quantized, moves):
    """Returns the file with its biases moved; one without a bias gets one.

    Args:
        quantized: bytes.
        moves: what `shifts` returned of it, or of a file that differs in ranges alone.
    """
    model = flatbuffers.parsed(quantized)
    tensors = model.subgraphs[0].tensors
    for (op, where), move in zip(flatbuffers.products(model), moves, strict=True):
        has_bias = len(op.inputs) > where.bias and op.inputs[where.bias] >= 0
        if move is None and has_bias and tensors[op.inputs[where.inputs]].type == flatbuffers.INT16:
            # One that stays where it is may have the scale of another call.
            move = 0
        scale = tensors[op.outputs[0]].quantization and tensors[op.outputs[0]].quantization.scale
        # LiteRT refuses a bias where nothing but zeros came out: it divides by such a scale.
        is_dead = scale is not None and len(scale) and scale[0] < np.finfo("float32").tiny
        if move is not None and not is_dead:
            _move_bias(model, op, where, move)
    # The biases from before.
    flatbuffers.drop_unused(model)
    return flatbuffers.packed(model)


def _rounded(model):
    """Returns of each product what it is and its weights as floats, None where not rounded."""
    found = []
    for op, where in flatbuffers.products(model):
        tensor = model.subgraphs[0].tensors[op.inputs[where.weights]]
        values = None
        if tensor.type == flatbuffers.INT8:
            steps = np.asarray(tensor.quantization.scale, "float32")
            axis = where.axis if len(steps) > 1 else 0
            integers = flatbuffers.constant(model, tensor).astype("float32")
            values = integers * flatbuffers.along(steps, axis, integers.ndim)
        found.append((flatbuffers.operator_name(op, model), values))
    return found


def _partners(wanted, model):
    """Returns for each rounded product that of a float file, where it is, and the weights' error.

    Both files have their products in one order; but a converter may drop one, or do two in one.
    """
    left = [(op, where) for op, where in flatbuffers.products(model)]
    found = []
    for name, values in wanted:
        found.append(None)
        for place, (op, where) in enumerate(left):
            exact = flatbuffers.constant(
                model, model.subgraphs[0].tensors[op.inputs[where.weights]]
            )
            if (
                values is None
                or flatbuffers.operator_name(op, model) != name
                or exact.shape != values.shape
                or exact.dtype != "float32"
            ):
                continue
            error = values - exact
            if np.abs(error).max(initial=0) <= _SAME * np.abs(exact).max(initial=0):
                found[-1] = op, where, error
                del left[place]
                break
    return found


def _add_twin(model, op, where, error):
    """Adds a product of what rounding changed, and the means of what it gives; returns them."""
    schema, graph = flatbuffers.schema(), model.subgraphs[0]
    number = str(len(graph.tensors)).encode()
    weights = graph.tensors[op.inputs[where.weights]]
    output = copy.copy(graph.tensors[op.outputs[0]])
    output.name, output.buffer, output.quantization = b"shift/" + number, 0, None
    bias = copy.copy(weights)
    bias.quantization = None
    twin = copy.copy(op)
    twin.builtinOptions = copy.copy(op.builtinOptions)
    twin.builtinOptions.fusedActivationFunction = 0
    flatbuffers.put(
        twin, where.weights, flatbuffers.add_constant(model, bias, error, b"error/" + number)
    )
    # Without one LiteRT's fast kernels take no convolution.
    zeros = np.zeros(error.shape[where.axis])
    flatbuffers.put(
        twin, where.bias, flatbuffers.add_constant(model, bias, zeros, b"zeros/" + number)
    )
    twin.outputs = [flatbuffers.add_tensor(model, output)]

    axes = copy.copy(bias)
    axes.type = flatbuffers.INT32
    every = np.arange(len(output.shape) - 1)
    mean = schema.OperatorT()
    mean.opcodeIndex = flatbuffers.opcode(model, "MEAN")
    mean.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    mean.builtinOptions = schema.ReducerOptionsT()
    means = copy.copy(output)
    means.name, means.shape, means.shapeSignature = b"mean/" + number, [len(zeros)], None
    mean.inputs = [
        twin.outputs[0],
        flatbuffers.add_constant(model, axes, every, b"axes/" + number),
    ]
    mean.outputs = [flatbuffers.add_tensor(model, means)]
    at = graph.operators.index(op) + 1
    graph.operators[at:at] = [twin, mean]
    return mean.outputs[0]


def _move_bias(model, op, where, move):
    """Adds to the bias of one product in place, in its integers where it has them."""
    schema, graph = flatbuffers.schema(), model.subgraphs[0]
    inputs, weights = (graph.tensors[op.inputs[place]] for place in (where.inputs, where.weights))
    moved, bias = np.array(move), schema.TensorT()
    index = op.inputs[where.bias] if len(op.inputs) > where.bias else -1
    if index >= 0:
        given = graph.tensors[index]
        values = flatbuffers.constant(model, given)
        if values is None:
            return
        if given.type != flatbuffers.FLOAT32:
            # What they stand for: in int16x8 the converter gives a product that is called twice the
            # first call's scale in both.
            values = values * np.asarray(given.quantization.scale, "float64")
        moved = moved + values
    bias.type = {
        flatbuffers.FLOAT32: flatbuffers.FLOAT32,
        flatbuffers.INT8: flatbuffers.INT32,
        flatbuffers.INT16: flatbuffers.INT64,
    }[inputs.type]
    if bias.type != flatbuffers.FLOAT32:
        steps = inputs.quantization.scale[0] * np.asarray(weights.quantization.scale, "float64")
        bias.quantization = schema.QuantizationParametersT()
        bias.quantization.scale = steps.astype("float32")
        bias.quantization.zeroPoint = np.zeros(len(steps), "int64")
        limits = np.iinfo("int32" if bias.type == flatbuffers.INT32 else "int64")
        moved = np.clip(np.round(moved / steps), limits.min, limits.max)
    name = weights.name + b"/moved_bias/" + str(len(graph.tensors)).encode()
    flatbuffers.put(op, where.bias, flatbuffers.add_constant(model, bias, moved, name))
