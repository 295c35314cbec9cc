"""TFLite files as objects that can be changed: LiteRT's schema."""

import contextlib

import numpy as np

from keras_fmm import checks


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


def operator_name(op, model):
    """Returns the name of a flatbuffer's operator, e.g. "CONV_2D"."""
    code = model.operatorCodes[op.opcodeIndex].builtinCode
    return next(name for name, value in vars(schema().BuiltinOperator).items() if value == code)


def ends(content):
    """Returns how many inputs a file has, and how many values its one output's last axis has.

    The second is None where the file has several outputs or leaves the size open.

    Args:
        content: bytes, a TFLite file's.
    """
    graph = schema().Model.GetRootAs(content, 0).Subgraphs(0)
    inputs = graph.InputsLength()
    if graph.OutputsLength() != 1:
        return inputs, None
    output = graph.Tensors(graph.Outputs(0))
    shape = output.ShapeAsNumpy()
    if output.ShapeSignatureLength():
        shape = output.ShapeSignatureAsNumpy()
    is_known = np.ndim(shape) and len(shape) and shape[-1] != -1
    return inputs, int(shape[-1]) if is_known else None
