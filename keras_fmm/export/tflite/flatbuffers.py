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
