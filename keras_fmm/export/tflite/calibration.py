"""The images that the ranges between the layers and the shifts of biases are measured on."""

import numpy as np

from keras_fmm import checks
from keras_fmm.export.tflite.quantizations import CALIBRATED, CORRECTED
from keras_fmm.input_range import declared_problem, lacks_scaling, scaling_problem

# More change little: TensorFlow's own guide takes 100 to 500.
_MOST_IMAGES = 500


def checked_images(model, quantization, data, input_range=None):
    """Returns the images that ranges are measured on, or None where none are needed.

    Args:
        model: built `keras.Model`, functional or Sequential if images are needed.
        quantization: one of `QUANTIZATIONS`.
        data: what `to_tflite` was given.
        input_range: pair of float or None, default None. See `to_tflite`.

    Returns:
        array of the input's dtype, `_MOST_IMAGES` at the most, or None.

    Raises:
        TypeError: they are no numbers, or `data` cannot be iterated.
        ValueError: `data` is None or empty, its batches are not what the model takes, they hold a
            NaN or an infinity, or they are not scaled as the model needs it, or not in the range
            that is said.
    """
    inputs = getattr(model, "inputs", None) or []
    if quantization not in CALIBRATED:
        # What is better with images does not need them, nor a model that is fed with one array.
        if quantization not in CORRECTED or data is None or len(inputs) != 1:
            return None
    elif len(inputs) != 1:
        raise ValueError(
            f"Only a functional or Sequential model of one input can be quantized to "
            f"{quantization}. Received: model={model!r}. Wrap a subclassed model in a functional "
            'one; with several inputs take "dynamic" or "float16", which need no images.'
        )
    shape = tuple(model.inputs[0].shape)
    if None in shape[1:] and quantization in CALIBRATED:
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
        batch = checks.real_array("representative_data", batch)
        if not _fits(batch.shape, shape) or (found and batch.shape[1:] != found[0].shape[1:]):
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
    problem = _scaling_problem(model, images, input_range)
    if problem:
        raise ValueError(
            "`representative_data` must be scaled as the images that the model was trained on. "
            f"Received: {problem}"
        )
    return images.astype(model.inputs[0].dtype)


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


def _fits(sizes, shape):
    """Returns whether a batch's sizes are those that a model takes, whose None is any."""
    pairs = zip(sizes[1:], shape[1:], strict=False)
    return len(sizes) == len(shape) and all(wanted in (size, None) for size, wanted in pairs)


def _scaling_problem(model, images, input_range):
    if problem := scaling_problem(model, images):
        return problem
    if lacks_scaling(model, images):
        return (
            f"images of dtype {images.dtype}, as they are stored, for a model that does not scale "
            "them before its first layer with weights. Scale them as for training; if it was "
            "trained on them as they are, give them as float32."
        )
    return input_range and declared_problem(images, input_range)


def batches(images, batch_size, progress):
    """Yields batches of exactly this size; the last is filled up with copies of the last image.

    Args:
        images: array, the batch first.
        batch_size: int.
        progress: `Progress`, that is told of each image when its batch is done with.
    """
    for start in range(0, len(images), batch_size):
        chunk = images[start : start + batch_size]
        missing = batch_size - len(chunk)
        yield np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)])
        progress.add(len(chunk))
