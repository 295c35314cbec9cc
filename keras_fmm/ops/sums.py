"""The dtypes that sums are taken in."""

import keras
from keras import ops

from keras_fmm import checks


def float_tensor(name, x, rank=4):
    """Returns an array or tensor as a tensor of floats: integers and bools in Keras' float type.

    As integers they would round what is multiplied with them, or fail inside the backend.

    Args:
        name: str. The argument's name, quoted in errors.
        x: anything.
        rank: int or None, default 4. How many axes it must have; None: any number.

    Raises:
        TypeError: it does not hold real numbers.
        ValueError: it has another rank, or an axis behind the first of size 0: of no entries there
            is neither a mean nor a maximum. The batch may be empty.
    """
    try:
        x = ops.convert_to_tensor(x)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must be an array or tensor of numbers. Received: {name}={x!r}"
        ) from error
    checks.real_numbers(f"`{name}`", x)
    if rank is not None and len(x.shape) != rank:
        raise ValueError(f"`{name}` must have rank {rank}. Received: shape {tuple(x.shape)}")
    if any(isinstance(size, int) and size == 0 for size in x.shape[1:]):
        raise ValueError(
            f"`{name}` must have at least one row, column and channel. "
            f"Received: shape {tuple(x.shape)}"
        )
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


def softmax(logits):
    """Returns the softmax over the last axis, taken and given in float32 at least."""
    logits = at_least_float32(logits)
    # Of one entry it is 1, of which Keras warns.
    return ops.ones_like(logits) + 0 * logits if logits.shape[-1] == 1 else ops.softmax(logits)


def summed(x, axis, keepdims=False):
    """Returns the sum over an axis, for files of integers: LiteRT's own is wrong in int16."""
    return ops.mean(x, axis=axis, keepdims=keepdims) * x.shape[axis]


def divided(x, divisor):
    """Returns a tensor divided by one of positive numbers, for files of integers.

    LiteRT's division in int8 is wrong: -1 by more than 64, both as the integers that stand for
    values, gives the lowest number that there is.
    """
    root = ops.rsqrt(divisor)
    return x * root * root
