"""Argument checks with one error wording: the rule, then what was received, then the cure."""

import collections.abc
import importlib
import inspect
import math
import numbers
import operator
import os
import pathlib

import keras
import numpy as np

# Bounds far above any use, against what would hang or end the process: sizes that 32 bits index,
# the channels of a map, the sides of a kernel, those of an image, and how often something is done
# again.
SIZES = 2**31
CHANNELS = 2**16
SIDES = 2**8
IMAGE_SIDES = 2**14 + 1
REPEATS = 10_001


def flag(name, value):
    """Returns `value`, True or False of Python or NumPy, as a bool; raises TypeError for others.

    A word such as "False" counts as true in Python, and so would be the opposite of what it says.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def integer(name, value, rule, minimum=0, below=math.inf):
    """Returns `value` as an int.

    Args:
        name: str. The argument's name, quoted in the error.
        value: any. A Python or NumPy integer from `minimum` to less than `below` passes.
        rule: str. Says in the error what it must be, e.g. "an even number".
        minimum: int, default 0. The least that passes.
        below: int, default infinity. The least that is too large.

    Raises:
        TypeError: `value` is not an integer (a bool is not one either).
        ValueError: `value` is out of range.
    """
    message = f"`{name}` must be {rule}. Received: {name}={value!r}"
    if isinstance(value, bool):
        raise TypeError(message)
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(message) from None
    if not minimum <= number < below:
        raise ValueError(message)
    return number


def positive_integer(name, value, below=SIZES):
    """Returns `value`, an integer from 1 to less than `below`, as an int; raises as `integer`."""
    found = integer(name, value, "a positive integer", minimum=1)
    return integer(name, found, f"below {below:,}", below=below)


def number(name, value):
    """Returns `value`, a real number from -1e30 to 1e30, as a float; raises TypeError, ValueError.

    A larger one is finite, but what it is multiplied with would not be, in float32.
    """
    message = f"`{name}` must be a finite number. Received: {name}={value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message)
    try:
        found = float(value)
    except OverflowError:  # An int of more than 308 digits.
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(message)
    if abs(found) > 1e30:
        raise ValueError(f"`{name}` must be from -1e30 to 1e30. Received: {name}={value!r}")
    return found


def positive_number(name, value):
    """Returns `value`, a number above 0, as a float; raises TypeError, ValueError."""
    found = number(name, value)
    if found <= 0:
        raise ValueError(f"`{name}` must be above 0. Received: {name}={value!r}")
    return found


def share(name, value):
    """Returns `value`, a number from 0 to 1, as a float; raises TypeError, ValueError."""
    found = number(name, value)
    if not 0 <= found <= 1:
        raise ValueError(f"`{name}` must be from 0 to 1. Received: {name}={value!r}")
    return found


def positive_odd_integer(name, value, below=SIZES):
    """Returns `value` as an int; raises as `positive_integer`, and ValueError where it is even."""
    number = positive_integer(name, value, below)
    if number % 2 == 0:
        raise ValueError(f"`{name}` must be odd. Received: {name}={value!r}")
    return number


def listed(name, value, kind=object, ordered=True):
    """Returns a list, tuple or array of one axis as a list.

    A str, of which a loop would take the letters, is none. A set has another order in each process,
    a dict that of its keys, and a generator is empty when it is read again.

    Args:
        name: str. The argument's name, quoted in the error.
        value: any.
        kind: class, default object. Of the items.
        ordered: bool, default True. False where a set will do.

    Raises:
        TypeError: `value` is none of these, or an item is of another class.
    """
    kinds = collections.abc.Sequence if ordered else (collections.abc.Sequence, collections.abc.Set)
    is_listed = isinstance(value, kinds) or getattr(value, "ndim", 0) == 1
    if isinstance(value, (str, bytes)) or not is_listed:
        found = None
    else:
        # Strings of NumPy are of a class of its own.
        found = [str(item) if isinstance(item, np.str_) else item for item in value]
    if found is None or not all(isinstance(item, kind) for item in found):
        of = "" if kind is object else f" of {kind.__name__}"
        raise TypeError(
            f"`{name}` must be a list or tuple{of}. Received: {name}={value!r}. For one give a "
            "list of one; of a set give the items in their order, such as `sorted(items)`."
        )
    return found


def shape(name, value):
    """Returns `value`, a sequence of sizes, as a tuple of ints of at least 1 and None.

    Raises:
        TypeError: it is no sequence, or a size is neither None nor an integer.
        ValueError: a size is below 1.
    """
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise TypeError(
            f"`{name}` must be a tuple of integers and None, the batch left out. "
            f"Received: {name}={value!r}"
        )
    return tuple(
        None if size is None else positive_integer(f"{name}[{axis}]", size)
        for axis, size in enumerate(value)
    )


def one_of(name, value, allowed):
    """Returns `value` if it is among `allowed`, a sequence of hashable values.

    Raises:
        ValueError: it is not; the message lists what is allowed.
    """
    if not isinstance(value, collections.abc.Hashable) or value not in allowed:
        known = ", ".join(repr(item) for item in allowed)
        raise ValueError(f"`{name}` must be one of {known}. Received: {name}={value!r}")
    return value


def pair(name, value, below=SIZES):
    """Returns `value`, integers from 1 to below `below`, as a pair; raises as `integer` does."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise TypeError(f"`{name}` must be a pair of positive integers. Received: {name}={value!r}")
    return tuple(positive_integer(f"{name}[{i}]", side, below) for i, side in enumerate(value))


def instance(name, value, kind):
    """Returns `value` if it is of a class; raises TypeError."""
    if not isinstance(value, kind):
        where = ".".join([kind.__module__.partition(".")[0], kind.__name__])
        raise TypeError(f"`{name}` must be a {where}. Received: {name}={value!r}")
    return value


def mapping(name, value):
    """Returns `value`, a dict or another mapping; raises TypeError."""
    if not isinstance(value, collections.abc.Mapping):
        raise TypeError(f"`{name}` must be a dict. Received: {name}={value!r}")
    return value


def divides(name, value, size, of):
    """Returns `value` if it divides `size`.

    Args:
        name: str. The argument's name.
        value: int, at least 1. What must divide.
        size: int. What is to be divided.
        of: str. Says in the error what `size` counts, e.g. "the input channels".

    Raises:
        ValueError: `size` is not a multiple of `value`; the message lists the divisors.
    """
    if size % value:
        divisors = [d for d in range(1, size + 1) if size % d == 0]
        raise ValueError(
            f"`{name}` must divide {of} ({size}). Received: {name}={value}. "
            f"Choose one of {divisors}."
        )
    return value


def channels_of(layer, shape, data_format):
    """Returns the number of channels of a batch of feature maps.

    Args:
        layer: str. The name of who asks, quoted in the error.
        shape: tuple of 4. Of ints and None, the batch first.
        data_format: str. "channels_last" or "channels_first".

    Raises:
        ValueError: the rank is not 4, the channels are not known, or the height, the width or the
            channels are 0. The batch may be: a replica's share of a last, small batch is.
    """
    order = "(batch, height, width, channels)"
    if data_format == "channels_first":
        order = "(batch, channels, height, width)"
    # Of several tensors it is a structure of shapes.
    sizes = () if shape is None or isinstance(shape, dict) else tuple(shape)
    if len(sizes) != 4 or any(isinstance(size, (list, tuple, dict)) for size in sizes):
        raise ValueError(
            f"The input of {layer} must have rank 4, {order}. Received: input_shape={shape}. "
            "Give a batch of feature maps; `keras.layers.Reshape` adds an axis."
        )
    channels = sizes[-1] if data_format == "channels_last" else sizes[1]
    if channels is None:
        raise ValueError(
            f"The channels of the input of {layer} must be known, {order}. "
            f"Received: input_shape={sizes}. Give `keras.Input` a shape that names them; "
            "batch, height and width may be None."
        )
    if any(size == 0 for size in sizes[1:]):
        raise ValueError(
            f"The input of {layer} must have at least one row, one column and one channel, "
            f"{order}. Received: input_shape={sizes}. "
            + (
                "Give larger images, or fewer layers that make them smaller."
                if channels
                else "Give feature maps that have a channel."
            )
        )
    return channels


def sizes_of(layer, shape, data_format):
    """Returns `(height, width, channels)` of a batch of feature maps, all of them known.

    The arguments are those of `channels_of`.

    Raises:
        ValueError: as of `channels_of`, or the height or width is not known.
    """
    channels = channels_of(layer, shape, data_format)
    height, width = shape[1:3] if data_format == "channels_last" else shape[2:4]
    if height is None or width is None:
        raise ValueError(
            f"The cost of {layer} depends on the input's height and width, which must be known. "
            f"Received: input_shape={tuple(shape)}. Give the shape of one image that you mean."
        )
    return height, width, channels


def real_numbers(of, x):
    """Raises TypeError where a tensor or array holds other than real numbers.

    Args:
        of: str. Says in the error what it is, e.g. "The inputs of CBAM".
        x: anything; what has no `dtype` passes.
    """
    dtype = keras.backend.standardize_dtype(getattr(x, "dtype", "float32"))
    if dtype.startswith(("complex", "string")):
        raise TypeError(
            f"{of} must hold real numbers. Received: dtype {dtype}. "
            "Of complex numbers give e.g. `keras.ops.real(x)`."
        )


def as_numpy(value):
    """Returns a tensor or variable, on whatever device, as a NumPy array; others as they are."""
    is_of_backend = keras.ops.is_tensor(value) or isinstance(value, keras.Variable)
    return keras.ops.convert_to_numpy(value) if is_of_backend else value


def real_array(name, value):
    """Returns `value` as a NumPy array of real numbers: bools, integers or floats.

    Raises:
        TypeError: it holds other than those: complex numbers, text, objects.
        ValueError: its rows are not of one length.
    """
    try:
        array = np.asarray(as_numpy(value))
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be one array of numbers. Received: {error}. Give rows of one length."
        ) from error
    # Of bfloat16 NumPy says no more than that it is none of its own.
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(
            f"`{name}` must be an array of real numbers. Received: {name} of dtype {array.dtype}. "
            "Of complex numbers give e.g. `numpy.real(x)`, of others the numbers they stand for."
        )
    return array


def data_format(value):
    """Returns `value`, or Keras' own setting for None.

    Raises:
        ValueError: `value` is none of None, "channels_last" and "channels_first".
    """
    if value is None:
        return keras.config.image_data_format()
    return one_of("data_format", value, ("channels_last", "channels_first"))


def of_keras(**argument):
    """Returns what Keras makes of an argument: of `kernel_initializer="zeros"` the initializer.

    Args:
        **argument: one, whose name ends in what it is: activation, initializer, regularizer or
            constraint.

    Raises:
        ValueError: Keras makes nothing of it.
    """
    ((name, value),) = argument.items()
    kind = name.rpartition("_")[2] + "s"
    try:
        return getattr(keras, kind).get(value)
    # What a callable or a config of the user raises is of any class.
    except Exception as error:
        raise ValueError(
            f"`{name}` must be one of `keras.{kind}`, by name or itself. "
            f"Received: {name}={value!r} ({str(error).splitlines()[0]})"
        ) from error


def takes(function, *args, **kwargs):
    """Says whether a callable can be called with these, as far as its signature tells."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True  # Of some that are written in C there is none.
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def path(name, value):
    """Returns `value` as a `pathlib.Path`.

    Raises:
        TypeError: it is no str and no `os.PathLike` of one.
        ValueError: it is empty, which would be the folder that the process is in.
    """
    message = (
        f"`{name}` must be a str or `os.PathLike` that is not empty. Received: {name}={value!r}"
    )
    try:
        text = os.fspath(value)
    except TypeError:
        raise TypeError(message) from None
    if not isinstance(text, str):
        raise TypeError(message)
    if not text or "\0" in text:
        raise ValueError(message)
    return pathlib.Path(text)


def package(name, purpose, extra):
    """Returns an imported module.

    Args:
        name: str. The module's dotted name.
        purpose: str. What needs it, e.g. "Drawing".
        extra: str. The extra of setup.cfg that installs it.

    Raises:
        ImportError: it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        # Where keras-fmm is installed, pip takes that one and adds the extra; it asks no index.
        raise ImportError(
            f"{purpose} needs {name.partition('.')[0]}. Received: {type(error).__name__}: {error}. "
            f"Install it with `pip install 'keras-fmm[{extra}]'`."
        ) from error


def printable(text):
    """Returns `text` with what a terminal obeys, and does not show, written as `repr` has it.

    Names come from files of others: control characters in one could clear the screen, and marks of
    direction show another name. Ends of lines stay.

    >>> print(printable("cat\\x1b[2J, Ähre"))
    cat\\x1b[2J, Ähre
    """
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
