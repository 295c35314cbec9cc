"""The last products of an int8 file whose outputs are floats give floats themselves."""

import numpy as np

from keras_fmm.export.tflite import flatbuffers

# What stands between a classifier's product and its scores; of one input and one output each.
_BETWEEN = ("LOGISTIC", "RESHAPE", "SOFTMAX")


def in_floats(content):
    """Returns an int8 file whose last products give floats, and what follows them too.

    Their weights stay int8. In eight bits the scores of a classifier are cut into steps of a
    255th of their whole range: where that is wide, the first two are often the same, and the class
    that is named is chance. LiteRT has a kernel for floats times int8 weights.

    An output is left as it is where it does not come from a FULLY_CONNECTED operator, or a CONV_2D
    to a single position, with constant weights whose outputs nothing else looks at, perhaps a
    softmax or sigmoid, and a DEQUANTIZE.

    Args:
        content: bytes, the file.

    Returns:
        bytes.
    """
    model = flatbuffers.parsed(content)
    graph = model.subgraphs[0]
    endings = [_ending(graph, model, int(output)) for output in dict.fromkeys(graph.outputs)]
    for ending in endings:
        if ending is not None:
            _put_in_floats(graph, model, *ending)
    if not any(endings):
        return content
    flatbuffers.drop_unused(model)
    return flatbuffers.packed(model)


def _put_in_floats(graph, model, product, *following):
    """Changes a graph in place; `following` ends with the DEQUANTIZE of an output."""
    *between, last = following
    features = graph.tensors[product.inputs[0]]
    weights, outputs = graph.tensors[product.inputs[1]], graph.tensors[last.outputs[0]]

    # The DEQUANTIZE of the outputs becomes that of the features.
    graph.operators.remove(last)
    output, last.inputs = last.outputs[0], [product.inputs[0]]
    last.outputs = [_append(graph, outputs, features.name + b"/floats", features.shape)]
    graph.operators.insert(graph.operators.index(product), last)

    product.inputs = [last.outputs[0], *product.inputs[1:]]
    # The features have a zero point, as their range need not be symmetric.
    if hasattr(product.builtinOptions, "asymmetricQuantizeInputs"):
        # That of a convolution always is.
        product.builtinOptions.asymmetricQuantizeInputs = True
    if len(product.inputs) > 2 and product.inputs[2] >= 0:
        step = features.quantization.scale[0] * np.asarray(weights.quantization.scale)
        product.inputs[2] = _float_bias(model, graph, product.inputs[2], step, outputs)
    for op in (product, *between):
        tensor = graph.tensors[op.outputs[0]]
        tensor.type, tensor.quantization = flatbuffers.FLOAT32, None
    (between or [product])[-1].outputs = [output]


def _ending(graph, model, output):
    """Returns the operators from the last product to the DEQUANTIZE of an output, or None."""
    writes = {int(index): op for op in graph.operators for index in op.outputs}
    reads = [int(index) for op in graph.operators for index in op.inputs]
    found = [writes.get(output)]
    while found[0] is not None:
        name = flatbuffers.operator_name(found[0], model)
        if len(found) > 1 and _is_classifier(found[0], name, graph):
            weights = graph.tensors[found[0].inputs[1]]
            return found if model.buffers[weights.buffer].data is not None else None
        if name not in (_BETWEEN if len(found) > 1 else ("DEQUANTIZE",)):
            return None
        before = int(found[0].inputs[0])
        if reads.count(before) != 1:
            return None
        found.insert(0, writes.get(before))
    return None


def _is_classifier(op, name, graph):
    """Returns whether an operator can be the product of a classifier's scores."""
    sizes = [int(size) for size in graph.tensors[op.outputs[0]].shape[1:-1]]
    return name == "FULLY_CONNECTED" or (name == "CONV_2D" and sizes == [1, 1])


def _append(graph, like, name, shape, buffer=0):
    """Adds a float tensor to a graph and returns its index."""
    tensor = type(like)()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, flatbuffers.FLOAT32, buffer
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _float_bias(model, graph, index, step, like):
    """Adds what the integers of a bias stand for, and returns the new tensor's index."""
    bias = graph.tensors[index]
    values = np.frombuffer(bytes(model.buffers[bias.buffer].data), "<i4") * step
    buffer = type(model.buffers[0])()
    buffer.data = np.frombuffer(values.astype("<f4").tobytes(), "uint8")
    model.buffers.append(buffer)
    return _append(graph, like, bias.name + b"/floats", bias.shape, len(model.buffers) - 1)
