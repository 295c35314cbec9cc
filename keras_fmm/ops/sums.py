"""How sums are taken."""

import keras
from keras import ops


def at_least_float32(x):
    """Returns a tensor as it goes into a sum: one of half precision in float32.

    A sum over thousands of float16 entries loses digits and may overflow.
    """
    return ops.cast(x, "float32") if is_half(x) else x


def is_half(x):
    """Returns whether a tensor is of half precision."""
    return keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")


def total(tensors):
    """Returns the sum of a list of tensors of one shape, which TensorFlow takes in one pass."""
    found = tensors[0]
    for tensor in tensors[1:]:
        found = found + tensor
    return found
