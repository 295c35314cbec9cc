"""TFLite files as objects that can be changed: LiteRT's schema."""


def parsed(content):
    """Returns a file's bytes as a `ModelT` of LiteRT's schema."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def packed(model):
    """Returns the bytes of a `ModelT`."""
    from tensorflow.lite.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def operator_name(op, model):
    """Returns the name of a flatbuffer's operator, e.g. "CONV_2D"."""
    from ai_edge_litert import schema_py_generated as schema

    code = model.operatorCodes[op.opcodeIndex].builtinCode
    return next(name for name, value in vars(schema.BuiltinOperator).items() if value == code)


def classes(content):
    """Returns how many values the last axis of a file's one output has, or None.

    Args:
        content: bytes, a TFLite file's.
    """
    # That of TensorFlow, which is there without LiteRT too.
    from tensorflow.lite.python import schema_py_generated as schema

    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    if graph.OutputsLength() != 1:
        return None
    tensor = graph.Tensors(graph.Outputs(0))
    if tensor.ShapeSignatureLength():
        size = int(tensor.ShapeSignature(tensor.ShapeSignatureLength() - 1))
    else:
        size = int(tensor.Shape(tensor.ShapeLength() - 1)) if tensor.ShapeLength() else -1
    return None if size == -1 else size
