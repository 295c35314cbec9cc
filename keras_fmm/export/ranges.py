"""The ranges that int8 is cut from: measured with LiteRT, mended, then used."""

import os

import numpy as np

from keras_fmm.export import quantization

# XNNPACK refuses a whole file where one operator would multiply its integers by 256 or more to
# get its output's: where what comes out is far smaller than what goes in. We stay below half.
_GREATEST_FACTOR = 128
# And, in a sum, where it would divide one of them by more than 1024.
_LEAST_FACTOR = 1 / 512
_EMPTY = 1e-30
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


def quantized(content, images, io_dtype):
    """Returns the int8 file that follows from a float one with ranges, the ranges mended.

    They are measured anew: TensorFlow's calibrator looks at an operator's inputs when it has run,
    and where LiteRT writes the output over them, as in sums and products, it takes the output's
    range for the input's too, which is twice as wide before a gain of two.

    A hidden unit of a gate that is off for all images has the range 0 to 0. The converter takes
    1e-38 for it, and LiteRT's fast kernels then refuse the file. Such a range is made as wide as
    they need; all that was measured is still in it.

    Args:
        content: bytes, what the converter wrote when told to measure ranges alone.
        images: float32 array `(n, height, width, channels)`, to measure on.
        io_dtype: str, "float32", "int8" or "uint8".

    Returns:
        bytes.
    """
    import tensorflow as tf
    from ai_edge_litert import schema_py_generated as schema
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.tools import flatbuffer_utils

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    _measure(model.subgraphs[0], content, images)
    for graph in model.subgraphs:
        _mend(graph, model)
    dtype = tf.as_dtype(io_dtype)
    return mlir_quantize(
        bytes(flatbuffer_utils.convert_object_to_bytearray(model)),
        input_data_type=dtype,
        output_data_type=dtype,
    )


def _measure(graph, content, images):
    """Puts what is found on the images in the place of each range of the converter."""
    from ai_edge_litert import interpreter as litert

    interpreter = litert.Interpreter(
        model_content=content,
        # Fast kernels keep nothing that is between them.
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
        num_threads=os.cpu_count(),
    )
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    computed = {int(index) for op in graph.operators for index in op.outputs if index >= 0}
    computed |= {taken["index"]}
    indices = [index for index in computed if _has_range(graph.tensors[index])]
    low, high = dict.fromkeys(indices, np.inf), dict.fromkeys(indices, -np.inf)
    for batch in quantization.batches(images, int(taken["shape"][0])):
        interpreter.set_tensor(taken["index"], batch[0])
        interpreter.invoke()
        for index in indices:
            values = interpreter.get_tensor(index)
            low[index] = np.minimum(low[index], values.min(initial=np.inf))
            high[index] = np.maximum(high[index], values.max(initial=-np.inf))
    for index in indices:
        tensor = graph.tensors[index]
        if not np.isfinite([low[index], high[index]]).all():
            raise ValueError(
                "All values between the layers must be finite on `representative_data`. Received: "
                f"{low[index]} to {high[index]} at {tensor.name.decode()}. Mend the model, or take "
                "other images."
            )
        tensor.quantization.min = np.array([low[index]], "float32")
        tensor.quantization.max = np.array([high[index]], "float32")


def _has_range(tensor):
    measured = tensor.quantization
    return measured is not None and measured.min is not None and len(measured.min) == 1


def operator_name(op, model):
    """Returns the name of a flatbuffer's operator, e.g. "CONV_2D"."""
    from ai_edge_litert import schema_py_generated as schema

    code = model.operatorCodes[op.opcodeIndex].builtinCode
    return next(name for name, value in vars(schema.BuiltinOperator).items() if value == code)


def _mend(graph, model):
    """Widens the ranges of one graph's tensors in place, in the order they are computed."""
    nodes = [(operator_name(op, model), op) for op in graph.operators]
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
