"""From a Keras model to a TFLite file: TensorFlow's converter, and what it is told."""

import contextlib
import functools
import re
import tempfile
import warnings

import keras
import numpy as np

from keras_fmm import graph, protocols
from keras_fmm.export import arguments
from keras_fmm.export.tflite import calibration, flatbuffers
from keras_fmm.export.tflite.quantizations import CALIBRATED

# What layers with a form for integers are told.
_BITS = {"int8": 8, "int16x8": 16, "dynamic": 32}


def convert(model, batch_size, quantization, io_dtype, images, progress):
    """Returns a model as a TFLite file, and in floats what its biases are corrected by.

    Args:
        model: a built float32 `keras.Model`.
        batch_size: int, the batch that the file takes, or None for any.
        quantization: as `quantizations.checked` returns it.
        io_dtype: as `quantizations.checked` returns it.
        images: what `calibration.checked_images` returned, or None.
        progress: `Progress`, that is told of each image.

    Returns:
        list of bytes: the file, for "int8" in floats still, with room for ranges; and, for
        "dynamic" and "int16x8" with images, the one in floats that it was made from.

    Raises:
        ValueError: the model needs operators that TFLite lacks; they are named. Or what failed is a
            model that Keras has quantized.
    """
    told = [_told(quantization, io_dtype, images, batch_size, progress)]
    if images is not None and quantization != "int8":
        told.append(_told(None, io_dtype, None, batch_size, progress))
    with contextlib.ExitStack() as stack:
        if quantization in _BITS:
            stack.enter_context(integer_forms(model, _BITS[quantization]))
        try:
            found = _converted(model, batch_size, told)
        except Exception as error:
            # TensorFlow raises RuntimeError, its private ConverterError and others of these.
            if refusal := (
                quantized_error(model)
                or _lacking(model, error)
                or _without_integers(model, error)
                or _not_finite(model, error)
            ):
                raise refusal from error
            raise
    if quantization == "int16x8":
        _check_int16(model, found[0])
    return found


def _check_int16(model, content):
    """Raises ValueError where an int16x8 file holds what would be wrong, and names it."""
    file = flatbuffers.parsed(content)
    for each in file.subgraphs:
        for op in each.operators:
            inputs = [each.tensors[index] for index in op.inputs if index >= 0]
            wrong = None
            if flatbuffers.operator_name(op, file) == "SUM" and inputs[0].type == flatbuffers.INT16:
                wrong = "a sum over axes, which LiteRT 2.3 gets wrong in int16"
            elif not all(np.isfinite(_scales(tensor)).all() for tensor in inputs):
                wrong = "a product of what is 0 for all of `representative_data`"
            if wrong:
                name = each.tensors[op.outputs[0]].name.decode()
                raise ValueError(
                    '`quantization="int16x8"` takes no sums over axes, and no products of what is '
                    f"0 for all images. Received: model={model!r}, in which {name} is {wrong}. "
                    "Write a sum as the mean times the number, give other images, or choose "
                    'another quantization, such as "int8".'
                )


def warn_of_division(model, content):
    """Warns of what LiteRT 2.3 gets wrong in an int8 file: -1 by more than 64, as integers."""
    file = flatbuffers.parsed(content)
    graph = file.subgraphs[0]
    for op in graph.operators:
        output = graph.tensors[op.outputs[0]]
        if flatbuffers.operator_name(op, file) == "DIV" and output.type == flatbuffers.INT8:
            warnings.warn(
                "LiteRT divides int8 wrongly where a small negative number meets a large one. "
                f"Received: model={model!r}, in which {output.name.decode()} is a division. "
                "Multiply by a reciprocal in its place, such as two of keras.ops.rsqrt.",
                stacklevel=3,
            )


def _scales(tensor):
    """Returns the scales of a tensor, an array, empty of one that is not quantized."""
    scales = tensor.quantization and tensor.quantization.scale
    return np.asarray([] if scales is None else scales)


@contextlib.contextmanager
def integer_forms(model, bits):
    """Has all layers that have a form for integers compute in it.

    Args:
        model: `keras.Model` or layer; layers in it at any depth are asked.
        bits: 8, 16 or 32.
    """
    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers():
            if isinstance(layer, protocols.HasIntegerForm):
                stack.enter_context(layer.for_integers(bits))
        yield


def _converted(model, batch_size, told):
    """Returns the bytes of TFLite files, made as Keras 3.15's exporter makes them, one a telling.

    Those of Keras 3.13 and 3.14 drop the names of several inputs and the size of the batch, which
    a traced function keeps there.
    """
    import tensorflow as tf

    specs = keras.tree.map_structure(
        lambda spec: tf.TensorSpec(spec.shape, spec.dtype, spec.name),
        arguments.input_specs(model, batch_size),
    )
    call = functools.partial(model.__call__, training=False)
    call = tf.function(call, input_signature=[specs], autograph=False)
    concrete = call.get_concrete_function()
    if any("representative_dataset" in each for each in told):
        _check_no_loop(model, concrete.graph.as_graph_def())
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", call)
        archive.write_out(folder, verbose=False)
        found = []
        for each in told:
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            converter.experimental_enable_resource_variables = True
            for name, value in each.items():
                setattr(converter, name, value)
            found.append(converter.convert())
        return found


def _check_no_loop(model, graph):
    """Raises ValueError where a loop is left in a traced graph.

    TensorFlow 2.21's calibrator reads memory that is not its own there, and the process ends.
    """
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    loops = [node.name for node in nodes if node.op in ("While", "StatelessWhile")]
    if loops:
        raise ValueError(
            "What measures ranges cannot look into a loop, as in a recurrent layer. Received: "
            f"model={model!r}, with {', '.join(loops[:5])}. Give a recurrent layer `unroll=True`, "
            "export what `detection.split` makes of a detector of one stage (of Faster R-CNN there "
            'is no form in integers), or take "dynamic" or "float16".'
        )


def _told(quantization, io_dtype, images, batch_size, progress):
    """Returns what TensorFlow's converter is to be told, its attributes by name."""
    import tensorflow as tf

    sets = tf.lite.OpsSet
    supported = {
        "int8": sets.TFLITE_BUILTINS_INT8,
        "int16x8": sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }.get(quantization, sets.TFLITE_BUILTINS)
    told = {"target_spec": tf.lite.TargetSpec(supported_ops=[supported])}
    if quantization is None:
        return told
    told["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        told["target_spec"].supported_types = [tf.float16]
    if quantization in CALIBRATED:
        told["representative_dataset"] = lambda: (
            [batch] for batch in calibration.batches(images, batch_size or 1, progress)
        )
        # Where ranges are needed; `ranges.quantized` measures and mends them, and quantizes.
        told["_experimental_calibrate_only"] = quantization == "int8"
        if io_dtype != "float32":
            told["inference_input_type"] = tf.as_dtype(io_dtype)
            told["inference_output_type"] = tf.as_dtype(io_dtype)
    return told


def quantized_error(model):
    """Returns the error that names layers that Keras has quantized, or None if there are none."""
    modes = {
        place.path: place.operation.quantization_mode
        for place in graph.places(model)
        if getattr(place.operation, "quantization_mode", None) is not None
    }
    if not modes:
        return None
    named = ", ".join(f"{path} ({mode})" for path, mode in list(modes.items())[:5])
    left = f" and {len(modes) - 5} more" if len(modes) > 5 else ""
    return ValueError(
        "TensorFlow's converter to TFLite cannot write all that Keras has quantized, such as "
        f"int8 and float8. Received: model={model!r}, with the quantized layers {named}{left}. "
        "Export the model as it was before `model.quantize`, with the `quantization` of "
        "`to_tflite`, or write a SavedModel."
    )


def _lacking(model, error):
    """Returns the error that names the operators that TFLite lacks, or None if it is another."""
    # The converter's error class is not public; its text names operators and their places.
    groups = re.findall(r"^(?:TF Select|Custom) ops: (.*)$", str(error), re.MULTILINE)
    if not groups:
        return None
    places = re.findall(r'fused\["(\w+):", "([^"@]+)', str(error))
    operators = []
    for name in sorted({name.strip() for group in groups for name in group.split(",")}):
        found = sorted({place for operator, place in places if operator == name})
        operators.append(f"{name} (at {', '.join(found)})" if found else name)
    return ValueError(
        "A TFLite file may hold builtin operators only. "
        f"Received: model={model!r}, which needs {'; '.join(operators)}. "
        "Write that layer with other operations, or leave it out of the exported model."
    )


def _without_integers(model, error):
    """Returns the error that names the operator that has no form for int16x8, or None."""
    found = re.search(r"16x8-bit not yet supported for op: '(\w+)'", str(error))
    if not found:
        return None
    of_input = ""
    if found[1] == "CAST" and not all("float" in x.dtype for x in getattr(model, "inputs", ())):
        of_input = "give the model an input of floats, "
    return ValueError(
        '`quantization="int16x8"` takes the operators that TensorFlow\'s converter has in int16. '
        f"Received: model={model!r}, which needs {found[1]}. Choose another quantization, such as "
        f'"int8", {of_input}or write that layer with other operations.'
    )


def _not_finite(model, error):
    """Returns the error that names where int16x8 has measured no number, or None."""
    found = re.search(
        r"Empty min/max for tensor (\S+)|Unable to find min/max value for (.+)", str(error)
    )
    return found and ValueError(
        "All values between the layers must be finite on `representative_data`. Received: "
        f"model={model!r}, with no number at {found[1] or found[2]}. Mend the model, or take other "
        "images."
    )
