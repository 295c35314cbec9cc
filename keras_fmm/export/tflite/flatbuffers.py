"""TFLite files as objects that can be changed: LiteRT's schema."""

import contextlib

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
