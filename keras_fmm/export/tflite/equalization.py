"""Channels of one tensor that share one scale in int8 are made to reach equally far."""

import itertools
import os

import numpy as np

from keras_fmm.export.tflite import bias_correction, calibration, flatbuffers, litert

# A channel is not stretched further: of one that was small on a few images little is known.
_MOST = 32
# What a channel may reach beyond what it did, of one image and of many: 1 + _ROOM / images.
_ROOM = 10
# Fused activations: what is scaled goes through them as it would without. ReLU6 does for a factor
# that lets the channel reach no more than 6.
_NONE, _RELU, _RELU6 = 0, 1, 3
_TINY = 1e-30
# They treat each channel for itself, and a factor comes out as it went in. The data is the first
# input; of a product the second has no factor.
_PASSING = ("MUL", "PAD", "RELU", "RESHAPE")


def equalized(content, images, progress):
    """Returns a file in floats that says the same, with channels that reach equally far.

    In int8 a tensor has one scale, and the channel that reaches furthest sets it. What one product
    gives and only a depthwise one takes can be stretched channel by channel: the weights of both
    have a scale for each channel, so that this costs nothing. It matters the most where batch norm
    stands behind a gain, as in an AW-convolution, and is folded into a later product; and where it
    stands behind products side by side, as in an attention-augmented convolution, as a
    multiplication by a number for each channel: those become more alike too. (Nagel et al.,
    "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, who make weights
    equal; here it is what images give.)

    Args:
        content: bytes, a float file.
        images: array `(n, height, width, channels)`, of which the first are taken.
        progress: `Progress`, that is told of each of those.

    Returns:
        pair of the file, bytes, and a dict by tensor index of how far from zero its values matter:
        a ReLU6 behind makes one of all that is further.
    """
    model = flatbuffers.parsed(content)
    found = _stretchable(model)
    limits = {}
    if not found:
        return content, limits
    reaches = _reaches(content, [int(op.inputs[0]) for op, _ in found], images, progress)
    room = 1 + _ROOM / len(images)
    for (op, before), reach in zip(found, reaches, strict=True):
        if not reach.any():
            continue
        limit = _limit(model, op)
        if limit is not None:
            reach = np.minimum(reach, limit)
            limits[int(op.inputs[0])] = reach.max()
        factor = np.maximum(np.minimum(room * reach / reach.max(), 1), 1 / _MOST)
        factor[reach == 0] = 1
        for product, where, part in before:
            _scale(model, product, where.weights, 1 / factor[part], where.axis)
            if len(product.inputs) > where.bias and product.inputs[where.bias] >= 0:
                _scale(model, product, where.bias, 1 / factor[part], 0)
        _scale(model, op, 1, factor, -1)
    return flatbuffers.packed(model), limits


def _limit(model, op):
    """Returns how far from zero each channel of an operator's inputs matters, or None.

    Of a depthwise product with one tap and a ReLU6 that is known.
    """
    if flatbuffers.operator_name(op, model) == "MUL":
        return None
    tensors = model.subgraphs[0].tensors
    weights = flatbuffers.constant(model, tensors[op.inputs[1]])
    if weights.shape[1:3] != (1, 1) or op.builtinOptions.fusedActivationFunction != _RELU6:
        return None
    bias = 0.0
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        bias = flatbuffers.constant(model, tensors[op.inputs[2]])
        if bias is None:
            return None
    weights = np.abs(weights.reshape(-1)) + _TINY
    return np.maximum(np.abs(bias), np.abs(6 - bias)) / weights


def _stretchable(model):
    """Returns pairs: what takes each channel for itself, and what alone gives what it alone takes.

    That is a list of products, the places of their weights, and the slices of channels they give.
    """
    graph = model.subgraphs[0]
    products = {id(op): where for op, where in flatbuffers.products(model)}
    writes = {int(index): op for op in graph.operators for index in op.outputs}
    reads = [int(index) for op in graph.operators for index in op.inputs]
    reads += map(int, graph.outputs)

    def before(index, part, allowed=(_NONE, _RELU, _RELU6)):
        """Returns the products behind a tensor of some channels, or None where other things are."""
        tensor, op = graph.tensors[index], writes.get(index)
        if op is None or reads.count(index) != 1 or _channels(tensor) != part.stop - part.start:
            return None
        if getattr(op.builtinOptions, "fusedActivationFunction", _NONE) not in allowed:
            return None
        if id(op) in products:
            where = products[id(op)]
            bias = op.inputs[where.bias] if len(op.inputs) > where.bias else -1
            known = bias < 0 or flatbuffers.constant(model, graph.tensors[bias]) is not None
            return [(op, where, part)] if known else None
        name = flatbuffers.operator_name(op, model)
        if name == "CONCATENATION":
            parts = [part] * len(op.inputs)
            if op.builtinOptions.axis in (-1, len(tensor.shape) - 1):
                sizes = [_channels(graph.tensors[each]) for each in op.inputs]
                ends = itertools.accumulate(sizes, initial=part.start)
                parts = [slice(*each) for each in itertools.pairwise(ends)]
            found = [
                before(int(n), each, allowed) for n, each in zip(op.inputs, parts, strict=True)
            ]
            return None if None in found else list(itertools.chain(*found))
        if name == "MUL":
            # How far a channel reaches behind a gain says nothing of a limit before it.
            allowed = (_NONE, _RELU)
        return before(int(op.inputs[0]), part, allowed) if name in _PASSING else None

    found = []
    for op in graph.operators:
        if _treats_channels_apart(model, op):
            channels = _channels(graph.tensors[op.inputs[1]])
            given = before(int(op.inputs[0]), slice(0, channels))
            if given:
                found.append((op, given))
    return found


def _treats_channels_apart(model, op):
    """Returns whether an operator is a depthwise product, or one by a constant for each channel."""
    name = flatbuffers.operator_name(op, model)
    if name not in ("DEPTHWISE_CONV_2D", "MUL"):
        return False
    values = flatbuffers.constant(model, model.subgraphs[0].tensors[op.inputs[1]])
    if values is None or not values.ndim:
        return False
    return name == "DEPTHWISE_CONV_2D" or values.size == values.shape[-1]


def _channels(tensor):
    """Returns the size of a tensor's last axis, or None of a scalar."""
    return None if tensor.shape is None or not len(tensor.shape) else int(tensor.shape[-1])


def _reaches(content, indices, images, progress):
    """Returns for each of these tensors how far each channel reaches, a list of arrays."""
    model = flatbuffers.parsed(content)
    model.signatureDefs = None
    model.subgraphs[0].outputs = indices
    session = litert.Session(flatbuffers.packed(model), num_threads=os.cpu_count())
    ((name, taken),) = session.inputs.items()
    reaches = [0.0] * len(indices)
    size = max(1, int(taken["shape_signature"][0]))
    for batch in calibration.batches(images[: bias_correction.MOST_IMAGES], size, progress):
        session.run({name: batch})
        for place, index in enumerate(indices):
            values = np.abs(session.read(index))
            reaches[place] = np.maximum(
                reaches[place], values.max(axis=tuple(range(values.ndim - 1)))
            )
    return reaches


def _scale(model, op, place, factor, axis):
    """Multiplies one constant of an operator, of which others keep theirs, along an axis."""
    tensor = model.subgraphs[0].tensors[op.inputs[place]]
    values = flatbuffers.constant(model, tensor)
    values = values * flatbuffers.along(factor, axis, values.ndim)
    name = tensor.name + b"/equalized/" + str(len(model.subgraphs[0].tensors)).encode()
    flatbuffers.put(op, place, flatbuffers.add_constant(model, tensor, values, name))
