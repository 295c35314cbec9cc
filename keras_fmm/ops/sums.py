"""The dtypes that sums are taken in."""

import keras
from keras import ops

from keras_fmm import checks


def float_tensor(x):
    """Returns an array or tensor as a tensor of floats: integers and bools in Keras' float type.

    As integers they would round what is multiplied with them, or fail inside the backend.

    Raises:
        TypeError: it does not hold real numbers.
    """
    x = ops.convert_to_tensor(x)
    checks.real_numbers("What is computed with", x)
    is_float = keras.backend.is_float_dtype(x.dtype)
    return x if is_float else ops.cast(x, keras.config.floatx())


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
