"""The images given to a measurement: checked against the model, and taken in batches."""

import warnings

import keras
import numpy as np

from keras_fmm import checks
from keras_fmm.graph import check_model
from keras_fmm.half_precision import as_float32
from keras_fmm.input_range import scaling_problem
from keras_fmm.progress import Progress


def prepared(model, images, name="images"):
    """Returns the model in float32, and `images` as a float32 array that fits it.

    Every measurement that takes a model and images begins with this; the user's call is to be two
    above, for the warning to name it.

    Args:
        model: functional or Sequential `keras.Model` of one input.
        images: array of numbers, `(n, height, width, channels)` or what the model takes, n >= 1.
        name: str, default "images". The argument's name, quoted in errors.

    Raises:
        TypeError: `images` holds no real numbers.
        ValueError: the model is subclassed or has several inputs, or is of half precision and
            cannot be rebuilt; the images are none, do not fit its input, or hold a NaN or an
            infinity.

    Warns:
        UserWarning: the images look scaled already to a model that scales them, or not scaled
            though it needs that; see `scaling_problem`.
    """
    check_model(model)
    if len(model.inputs) != 1:
        raise ValueError(
            "`model` must have one input, the images. "
            f"Received: {len(model.inputs)} inputs of the model {model.name!r}."
        )
    given = checks.real_array(name, images)
    # What float32 cannot hold becomes infinite, and is refused below.
    with np.errstate(over="ignore"):
        images = given.astype("float32")
    expected = model.inputs[0].shape
    fits = len(images.shape) == len(expected) and all(
        size in (None, given) for size, given in zip(expected[1:], images.shape[1:], strict=True)
    )
    if not fits or 0 in images.shape:
        raise ValueError(
            f"`{name}` must be a batch of what the model takes, {expected}, of at least one. "
            f"Received: {name} of shape {images.shape}. A single image needs an axis for the "
            f"batch: `{name}[None]`."
        )
    bad = np.flatnonzero(~np.isfinite(images.reshape(len(images), -1)).all(axis=1))
    if len(bad):
        raise ValueError(
            f"`{name}` must be finite. "
            f"Received: a NaN or an infinity in {len(bad)} of {len(images)} images, first in "
            f"{name}[{bad[0]}]."
        )
    model = as_float32(model)
    problem = scaling_problem(model, given)
    if problem:
        warnings.warn(
            f"`{name}` should be in the range that the model was trained on. Received: {problem}",
            stacklevel=3,
        )
    return model, images


def checked_classes(logits, images, class_index):
    """Returns one class for each image, an int array.

    Args:
        logits: what `class_logits` returned.
        images: float32 array.
        class_index: int, one for all; array of ints, one for each; or None for the class that the
            model predicts.

    Raises:
        TypeError: `class_index` is no integer.
        ValueError: it is not among the classes, or there is not one for each image.
    """
    if class_index is None:
        # Not by `predict_on_batch`: TensorFlow warns where it is traced for model after model.
        return over_batches(lambda x: keras.ops.argmax(logits(x, training=False), -1), [images])
    classes = np.asarray(checks.as_numpy(class_index))
    # Of integers that no dtype holds NumPy makes objects.
    is_huge = classes.dtype == object and all(isinstance(x, int) for x in classes.flat)
    if classes.dtype.kind not in "iu" and not is_huge:
        raise TypeError(
            "`class_index` must be an integer, an array of them or None. "
            f"Received: class_index={class_index!r}"
        )
    if classes.shape not in ((), (len(images),)):
        raise ValueError(
            "`class_index` must be one integer, or one for each image. "
            f"Received: shape {classes.shape} for {len(images)} images."
        )
    count = logits.outputs[0].shape[-1]
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(
            f"`class_index` must be from 0 to {count - 1}. Received: class_index={class_index}"
        )
    return np.broadcast_to(classes, (len(images),)).astype("int32")


def over_batches(function, arrays, batch_size=128, verbose=0):
    """Returns what a function gives for arrays of one length, batch after batch, put together.

    Args:
        function: of a batch of each array, to an array or a structure (list, dict) of arrays with
            the batch first.
        arrays: list of arrays.
        batch_size: int, at least 1, default 128. The length of a batch.
        verbose: "auto", 0, 1 or 2, default 0. See `Progress`.

    Returns:
        The structure of whole NumPy arrays.
    """
    count = len(arrays[0])
    progress = Progress(count, verbose, unit_name="image")
    parts = []
    for start in range(0, count, batch_size):
        result = function(*(array[start : start + batch_size] for array in arrays))
        parts.append(keras.tree.map_structure(keras.ops.convert_to_numpy, result))
        progress.add(min(batch_size, count - start))
    return keras.tree.map_structure(lambda *pieces: np.concatenate(pieces), *parts)
