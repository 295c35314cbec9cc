"""How a TFLite file's numbers are stored, and the images that the ranges are measured on."""

import contextlib

import keras
import numpy as np

from keras_fmm import checks
from keras_fmm.input_range import scaling_layer, scaling_problem

QUANTIZATIONS = (None, "float16", "dynamic", "int8", "int16x8")
# These need the range of every value in between, which is measured on images.
_CALIBRATED = {"int8": ("float32", "int8", "uint8"), "int16x8": ("float32", "int16")}
# More change little: TensorFlow's own guide takes 100 to 500.
_MOST_IMAGES = 500
# How far the variance of trained features may be from what their batch norm saw in training.
# Images divided by 255, or not, differ by a factor of 65,000.
_GREATEST_RATIO = 10_000.0


def checked(quantization, io_dtype):
    """Returns the two if they go together.

    Raises:
        ValueError: one is unknown, or the second is not to be had with the first.
    """
    checks.one_of("quantization", quantization, QUANTIZATIONS)
    allowed = _CALIBRATED.get(quantization, ("float32",))
    if io_dtype not in allowed:
        raise ValueError(
            f"`io_dtype` must be one of {', '.join(map(repr, allowed))} with "
            f"quantization={quantization!r}. Received: io_dtype={io_dtype!r}"
        )
    return quantization, io_dtype


@contextlib.contextmanager
def integer_forms(model, quantization):
    """Has the layers that know one compute in the form that loses least in integers.

    They are found by the method `for_integers`, which gives the context to compute in.
    """
    bits = 16 if quantization == "int16x8" else 8
    with contextlib.ExitStack() as stack:
        if quantization in _CALIBRATED:
            for layer in model._flatten_layers():
                if hasattr(layer, "for_integers"):
                    stack.enter_context(layer.for_integers(bits))
        yield


def converter_arguments(quantization, io_dtype, images, batch_size):
    """Returns what TensorFlow's converter is to be told, keyword arguments of `Model.export`.

    Args:
        quantization, io_dtype: as `checked` returns them.
        images: what `calibration_images` returned, or None.
        batch_size: int, the batch that the file takes, or None.
    """
    import tensorflow as tf

    sets = tf.lite.OpsSet
    supported = {
        "int8": sets.TFLITE_BUILTINS_INT8,
        "int16x8": sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }.get(quantization, sets.TFLITE_BUILTINS)
    arguments = {"target_spec": {"supported_ops": [supported]}}
    if quantization is None:
        return arguments
    arguments["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        arguments["target_spec"]["supported_types"] = [tf.float16]
    if quantization in _CALIBRATED:
        arguments["representative_dataset"] = lambda: batches(images, batch_size or 1)
        # Where ranges are needed; `ranges.quantized` measures and mends them, and quantizes.
        arguments["_experimental_calibrate_only"] = quantization == "int8"
        if io_dtype != "float32":
            arguments["inference_input_type"] = tf.as_dtype(io_dtype)
            arguments["inference_output_type"] = tf.as_dtype(io_dtype)
    return arguments


def batches(images, batch_size):
    """Yields batches of this size in a list, as the converter takes them; the last is filled up."""
    for start in range(0, len(images), batch_size):
        chunk = images[start : start + batch_size]
        missing = batch_size - len(chunk)
        yield [np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)])]


def calibration_images(model, quantization, data):
    """Returns the images that ranges are measured on, or None where none are needed.

    Args:
        model: built `keras.Model`, functional or Sequential if images are needed.
        quantization: one of `QUANTIZATIONS`.
        data: what `to_tflite` was given.

    Returns:
        float32 array, `_MOST_IMAGES` at the most, or None.

    Raises:
        TypeError: they are no numbers, or `data` cannot be iterated.
        ValueError: `data` is None or empty, its batches are not what the model takes, they hold a
            NaN or an infinity, or they are not scaled as the model needs it.
    """
    if quantization not in _CALIBRATED:
        return None
    if len(getattr(model, "inputs", None) or []) != 1:
        raise ValueError(
            f"Only a functional or Sequential model of one input can be quantized to "
            f"{quantization}. Received: model={model!r}. Wrap it in a functional model."
        )
    shape = tuple(model.inputs[0].shape)
    if None in shape[1:]:
        raise ValueError(
            f"The height and width must be known for {quantization}. Received: model={model!r} "
            f"for inputs {shape}. Build it for one size."
        )
    if data is None:
        raise ValueError(
            f"`representative_data` must be given with quantization={quantization!r}. Received: "
            "None. Give some hundred images as the model is fed: an array, a tf.data pipeline of "
            "batches or a generator of them."
        )
    found, count = [], 0
    for batch in _each_batch(data):
        batch = np.asarray(batch)
        if batch.dtype.kind not in "biuf":
            raise TypeError(
                f"`representative_data` must hold numbers. Received: a batch of dtype {batch.dtype}"
            )
        if batch.shape[1:] != shape[1:] or batch.ndim != len(shape):
            raise ValueError(
                f"`representative_data` must be batches of what the model takes, {shape}. "
                f"Received: a batch of shape {batch.shape}. Resize the images; a single one needs "
                "an axis for the batch."
            )
        found.append(batch)
        count += len(batch)
        if count >= _MOST_IMAGES:
            break
    if not count:
        raise ValueError(
            "`representative_data` must hold at least one image. Received: none. A generator can "
            "be read only once: make a new one."
        )
    images = np.concatenate(found)[:_MOST_IMAGES]
    if not np.isfinite(images).all():
        raise ValueError("`representative_data` must be finite. Received: a NaN or an infinity.")
    problem = _scaling_problem(model, images)
    if problem:
        raise ValueError(
            "`representative_data` must be scaled as the images that the model was trained on. "
            f"Received: {problem}"
        )
    return images.astype("float32")


def _each_batch(data):
    """Yields the batches of images of an array, a pipeline, a generator or a function of one."""
    if hasattr(data, "shape"):
        yield data[:_MOST_IMAGES]
        return
    try:
        batches = iter(data() if callable(data) else data)
    except TypeError as error:
        raise TypeError(
            "`representative_data` must be an array of images, a tf.data pipeline of batches, or "
            f"an iterable of batches. Received: {data!r}"
        ) from error
    for batch in batches:
        # Beside labels, or in the list that TensorFlow's converter wants.
        yield batch[0] if isinstance(batch, (tuple, list)) else batch


def _scaling_problem(model, images):
    floats = images[:100].astype("float32")
    problem = scaling_problem(model, floats)
    # Dark images look as if they were scaled before, and few pixels with a small variance as if
    # never: only what would be right after one more scaling, or one fewer, is refused.
    is_scaled = images.dtype.kind == "f" and scaling_problem(model, 255 * floats) is None
    if problem and (is_scaled or scaling_problem(model, floats / 255) is None):
        return problem
    if scaling_layer(model) is None and images.dtype.kind in "iu":
        return (
            f"images of dtype {images.dtype}, as they are stored, for a model that does not begin "
            "with a Rescaling or Normalization layer. Scale them as for training; if it was "
            "trained on them as they are, give them as float32."
        )
    return _batch_norm_problem(model, floats)


def _batch_norm_problem(model, images):
    """Says how far the images' features are from what the first batch norm saw in training."""
    layers = keras.layers
    norm = next((x for x in model.layers if isinstance(x, layers.BatchNormalization)), None)
    if norm is None:
        return None
    try:
        before = keras.Model(model.inputs[0], norm._inbound_nodes[0].input_tensors[0])
        features = keras.ops.convert_to_numpy(before(images))
    except ValueError:
        # The layer is another model's too, or the model takes another number of images.
        return None
    axes = tuple(axis for axis in range(features.ndim) if axis != norm.axis % features.ndim)
    seen = np.asarray(norm.moving_variance) + norm.epsilon
    moments = np.square(features - np.expand_dims(np.asarray(norm.moving_mean), axes)).mean(axes)
    ratio = float(np.median((moments + norm.epsilon) / seen))
    if 1 / _GREATEST_RATIO < ratio < _GREATEST_RATIO:
        return None
    return (
        f"images from {images.min():.3g} to {images.max():.3g}, whose features have {ratio:.2g} "
        f"times the variance that the layer {norm.name!r} met in training. Scale them as for "
        "training."
    )


def quantize(values, detail):
    """Returns float values as the integers of a file's input.

    Args:
        values: float array.
        detail: dict of LiteRT's interpreter about the input.
    """
    scale, zero_point = detail["quantization"]
    bounds = np.iinfo(detail["dtype"])
    whole = np.round(values / scale) + zero_point
    return np.clip(whole, bounds.min, bounds.max).astype(detail["dtype"])


def dequantize(values, detail):
    """Returns the floats that the integers of a file's output stand for, as `quantize`."""
    scale, zero_point = detail["quantization"]
    return (values.astype("float32") - zero_point) * np.float32(scale)


def is_quantized(detail):
    return detail["quantization"][0] != 0
