"""TFLite files as objects that can be changed: LiteRT's schema."""

import contextlib
import copy
import typing

import numpy as np

from keras_fmm import checks
from keras_fmm.export import names


def schema():
    """Returns the module of LiteRT's schema, of which TensorFlow has a copy."""
    with contextlib.suppress(ImportError):
        from ai_edge_litert import schema_py_generated

        return schema_py_generated
    with contextlib.suppress(ImportError):
        from tensorflow.lite.python import schema_py_generated

        return schema_py_generated
    return checks.package("ai_edge_litert.schema_py_generated", "Reading TFLite files", "mobile")


def parsed(content):
    """Returns a file's bytes as a `ModelT` of LiteRT's schema."""
    return schema().ModelT.InitFromPackedBuf(content, 0)


def packed(model):
    """Returns the bytes of a `ModelT`."""
    from tensorflow.lite.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def in_order(content):
    """Returns a file whose outputs stand in the model's order, as those of its signature do.

    TensorFlow's converter mixes them, and not all that runs files looks at signatures.

    Args:
        content: bytes, the file.
    """
    if schema().Model.GetRootAs(content, 0).Subgraphs(0).OutputsLength() == 1:
        return content
    model = parsed(content)
    (signature,) = model.signatureDefs
    found = names.as_given({x.name.decode(): x.tensorIndex for x in signature.outputs})
    model.subgraphs[0].outputs = list(found.values() if isinstance(found, dict) else found)
    return packed(model)


def operator_name(op, model):
    """Returns the name of a flatbuffer's operator, e.g. "CONV_2D"."""
    code = model.operatorCodes[op.opcodeIndex].builtinCode
    return next(name for name, value in vars(schema().BuiltinOperator).items() if value == code)


def opcode(model, name):
    """Returns the number by which a `ModelT`'s operators say that they are `name`; adds it."""
    code = getattr(schema().BuiltinOperator, name)
    for number, each in enumerate(model.operatorCodes):
        if each.builtinCode == code:
            return number
    added = schema().OperatorCodeT()
    added.builtinCode, added.version = code, 1
    # Where older readers look; larger ones stand in the other alone.
    added.deprecatedBuiltinCode = min(code, 127)
    model.operatorCodes.append(added)
    return len(model.operatorCodes) - 1


def ends(content):
    """Returns how many inputs and outputs a file has, and the size of the first's last axis.

    The third is None where the file leaves it open.

    Args:
        content: bytes, a TFLite file's.
    """
    graph = schema().Model.GetRootAs(content, 0).Subgraphs(0)
    output = graph.Tensors(graph.Outputs(0))
    shape = output.ShapeAsNumpy()
    if output.ShapeSignatureLength():
        shape = output.ShapeSignatureAsNumpy()
    is_known = np.ndim(shape) and len(shape) and shape[-1] != -1
    return graph.InputsLength(), graph.OutputsLength(), int(shape[-1]) if is_known else None


class Product(typing.NamedTuple):
    """Where a kind of operator that multiplies with constant weights has what it takes.

    Attributes:
        weights, inputs, bias: int, which of the operator's inputs it is.
        axis: int, the weights' axis of output channels.
    """

    weights: int
    inputs: int
    bias: int
    axis: int


PRODUCTS = {
    "CONV_2D": Product(1, 0, 2, 0),
    "DEPTHWISE_CONV_2D": Product(1, 0, 2, 3),
    "FULLY_CONNECTED": Product(1, 0, 2, 0),
    "TRANSPOSE_CONV": Product(1, 2, 3, 0),
}
# What the file format calls dtypes.
FLOAT32, INT32, INT64, INT16, INT8 = 0, 2, 4, 7, 9
_DTYPES = {FLOAT32: "<f4", INT32: "<i4", INT64: "<i8", INT8: "i1"}


def products(model):
    """Yields each operator of the main graph that multiplies with constant weights, as a pair.

    The second is its `Product`. Weights of 16 and 4 bits, and what is computed, are none.
    """
    graph = model.subgraphs[0]
    for op in graph.operators:
        where = PRODUCTS.get(operator_name(op, model))
        if where and constant(model, graph.tensors[op.inputs[where.weights]]) is not None:
            yield op, where


def constant(model, tensor):
    """Returns the values of a constant tensor, an array, or None where it is computed.

    None also for other dtypes than float32, int8, int32 and int64.
    """
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or tensor.type not in _DTYPES:
        return None
    values = np.frombuffer(bytes(data), _DTYPES[tensor.type])
    return values.reshape(() if tensor.shape is None else tensor.shape)


def add_constant(model, like, values, name):
    """Adds a constant to the main graph and returns its tensor's index.

    Args:
        model: `ModelT`, changed in place.
        like: `TensorT`, whose dtype and scale the values have.
        values: array of that dtype's numbers.
        name: bytes.
    """
    tensor = copy.copy(like)
    buffer = type(model.buffers[0])()
    values = np.ascontiguousarray(values, _DTYPES[tensor.type])
    buffer.data = np.frombuffer(values.tobytes(), "uint8")
    model.buffers.append(buffer)
    tensor.name, tensor.shape, tensor.shapeSignature = name, list(values.shape), None
    tensor.buffer = len(model.buffers) - 1
    return add_tensor(model, tensor)


def add_tensor(model, tensor):
    """Adds a tensor to the main graph and returns its index."""
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def drop_unused(model):
    """Takes out of the main graph the tensors that nothing names, and their values.

    Args:
        model: `ModelT`, changed in place.
    """
    graph = model.subgraphs[0]
    places = [(graph, "inputs"), (graph, "outputs")]
    for op in graph.operators:
        places += [(op, "inputs"), (op, "outputs"), (op, "intermediates")]
    # The parser gives arrays, and None where there is no list.
    given = [getattr(owner, field) for owner, field in places]
    lists = [[] if each is None else [int(index) for index in each] for each in given]
    used = sorted(set().union(*lists) - {-1})
    number = {old: new for new, old in enumerate(used)} | {-1: -1}
    for (owner, field), indices in zip(places, lists, strict=True):
        setattr(owner, field, [number[index] for index in indices])
    for signature in model.signatureDefs or ():
        if signature.subgraphIndex == 0:
            for each in (*signature.inputs, *signature.outputs):
                each.tensorIndex = number[each.tensorIndex]
    graph.tensors = [graph.tensors[index] for index in used]
    kept = {tensor.buffer for each in model.subgraphs for tensor in each.tensors}
    kept |= {each.buffer for each in model.metadata or ()}
    for index, buffer in enumerate(model.buffers):
        if index not in kept:
            buffer.data = None


def along(values, axis, rank):
    """Returns a vector in a shape that meets the axis of an array of this rank."""
    shape = [1] * rank
    shape[axis] = -1
    return np.reshape(values, shape)


def put(op, place, index):
    """Puts a tensor at one place of an operator's inputs, in the place of none too."""
    inputs = [int(each) for each in op.inputs]
    inputs += [-1] * (place + 1 - len(inputs))
    inputs[place] = index
    op.inputs = inputs
