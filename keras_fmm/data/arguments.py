"""Checks of the arguments that only this part takes."""

import numbers

import numpy as np

from keras_fmm import checks


def seed(value):
    """Returns `value` as an int if it can seed both NumPy and tf.data."""
    return checks.integer("seed", value, "an integer from 0 to 4294967295", below=2**32)


def fraction(name, value):
    """Returns `value` as a float if it is a number of at least 0 and less than 1."""
    message = f"`{name}` must be a number from 0 to less than 1. Received: {name}={value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message)
    if not 0 <= value < 1:
        raise ValueError(message)
    return float(value)


def fit(crop_to_aspect_ratio, pad_to_aspect_ratio):
    """Returns "crop", "pad", or None for neither; raises ValueError for both."""
    crop = checks.flag("crop_to_aspect_ratio", crop_to_aspect_ratio)
    pad = checks.flag("pad_to_aspect_ratio", pad_to_aspect_ratio)
    if crop and pad:
        raise ValueError(
            "An image can be cropped or padded, not both. Received: crop_to_aspect_ratio=True, "
            "pad_to_aspect_ratio=True. Leave one of them out."
        )
    return "crop" if crop else "pad" if pad else None


def image_size(value, dataset):
    """Returns `value`, None or a pair of sizes, as None or a tuple of two ints.

    Raises:
        ValueError: it is None, and the images of `dataset` differ in size.
    """
    if value is None:
        if None in dataset.input_shape:
            raise ValueError(
                f"The images of {dataset.name!r} differ in size and cannot be put in one array. "
                f"Received: image_size=None, input_shape={dataset.input_shape}. "
                "Give a size to resize them to, e.g. image_size=(160, 160)."
            )
        return None
    return checks.pair("image_size", value, checks.IMAGE_SIDES)


def positions(name, value, size):
    """Returns `value`, which names some of `size` things by number, as an int64 array `(n,)`.

    Raises:
        TypeError: it is no list or array of one axis of integers.
        ValueError: a number is not from 0 to below `size`, or is there twice.
    """
    rule = f"an integer from 0 to {size - 1}"
    found = [checks.integer(name, item, rule, below=size) for item in checks.listed(name, value)]
    if len(set(found)) < len(found):
        raise ValueError(f"`{name}` must hold each number once. Received: {name}={value!r}")
    return np.array(found, "int64")


def share(value, even):
    """Returns `value` as a pair (index, count) of ints, the count dividing `even`.

    Raises:
        TypeError: it is no pair of integers.
        ValueError: the index is not below the count, or the count does not divide.
    """
    rule = "a pair (index, count) of integers, the index from 0 to less than the count"
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"`share` must be {rule}. Received: share={value!r}")
    if len(value) != 2:
        raise ValueError(f"`share` must be {rule}. Received: share={value!r}")
    count = checks.integer("share", value[1], rule, minimum=1, below=checks.SIZES)
    checks.divides("share", count, even, "what every batch is a multiple of")
    return checks.integer("share", value[0], rule, below=count), count
