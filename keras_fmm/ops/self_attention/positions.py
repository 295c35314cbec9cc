"""What tells positions of a map apart: tables at any size, and what is added to the inputs."""

import numpy as np
from keras import ops

from keras_fmm.ops import tensorflow_gradients
from keras_fmm.ops.sums import at_least_float32


def table_at(table, size, interpolate, relative=True):
    """Returns a table as it is for an axis of another size.

    For a shorter axis its centre: the same offset has the same weight. For a longer one all of it,
    interpolated, so that its ends stay the ends.

    Args:
        table: tensor or array `(2 * built - 1, channels)`, a row for each offset from
            `1 - built` on; with `relative=False` `(built, channels)`, a row for each position.
        size: int or scalar tensor, of the axis.
        interpolate: bool. False refuses a longer axis.
        relative: bool, default True. What the rows are of.

    Raises:
        ValueError: the axis is longer than the table is for, and `interpolate` is False.
    """
    rows = table.shape[0]
    built = (rows + 1) // 2 if relative else rows
    if isinstance(size, int):
        if size == built:
            return table
        if size < built:
            start = built - size if relative else (built - size) // 2
            return table[start : start + (2 * size - 1 if relative else size)]
        if not interpolate:
            raise ValueError(
                "A map must not be larger than the layer's `position_size` with "
                f"`interpolate_positions=False`. Received: a map of {size} positions along an axis "
                f"of {built}. Give a larger `position_size`, or `interpolate_positions=True`."
            )
    elif not interpolate:
        # A size that is known only when the graph runs; TensorFlow alone has such.
        size = tensorflow_gradients.at_most(size, built)
        start = built - size if relative else (built - size) // 2
        return ops.slice(table, (start, 0), (2 * size - 1 if relative else size, table.shape[1]))
    places = _places(size, built, relative)
    weights = _hats(places, rows)
    if isinstance(table, np.ndarray):
        return weights.astype(table.dtype) @ table
    found = ops.matmul(ops.cast(weights, at_least_float32(table).dtype), at_least_float32(table))
    return ops.cast(found, table.dtype)


def _places(size, built, relative):
    """Returns where in the table each row of the one for `size` lies: floats, one a row."""
    if isinstance(size, int):
        # Only longer ones come here.
        count = 2 * size - 1 if relative else size
        return np.linspace(0, 2 * built - 2 if relative else built - 1, count)
    span = ops.cast(size - 1, "float32")
    step = ops.minimum(1.0, (built - 1) / ops.maximum(span, 1.0))
    if relative:
        return (ops.cast(ops.arange(2 * size - 1), "float32") - span) * step + (built - 1)
    start = ops.cast(ops.maximum(built - size, 0) // 2, "float32")
    return ops.cast(ops.arange(size), "float32") * step + start


def _hats(places, rows):
    """Returns the matrix `(len(places), rows)` of linear interpolation between whole places."""
    if isinstance(places, np.ndarray):
        return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(rows)))
    distance = ops.abs(ops.expand_dims(places, 1) - ops.arange(rows, dtype="float32"))
    return ops.maximum(0.0, 1.0 - distance)


def by_query(table, size):
    """Returns, for each position of an axis, the rows of its offsets to all: `(size, size, d)`.

    Entry (i, j) is row `j - i + size - 1`. Read row by row with a step of one row less than the
    table has, the table's start moves back by one for each i: no lookup, whose gradient is sparse.

    Args:
        table: tensor `(2 * size - 1, d)`.
        size: int or scalar tensor.
    """
    channels = table.shape[1]
    # One row that is never read: without it a table of one row had a step of 0.
    table = ops.pad(table, ((0, 1), (0, 0)))
    table = ops.tile(table, (size, 1))
    table = ops.slice(table, (size - 1, 0), (size * (2 * size - 1), channels))
    table = ops.reshape(table, (size, 2 * size - 1, channels))
    return ops.slice(table, (0, 0, 0), (size, size, channels))


def sinusoidal(height, width, channels):
    """Returns sines and cosines of rows and columns, `(1, height, width, channels)`, in float32.

    The first half of the channels tells the rows apart, the others the columns: channel c of n is
    the sine, or for odd c the cosine, of `position / 10000 ** (2 * (c // 2) / n)`.
    """

    def along(size, count):
        c = np.arange(count)
        rates = 10000.0 ** (-2.0 * (c // 2) / max(1, count))
        angles = ops.expand_dims(ops.cast(ops.arange(size), "float32"), 1)
        angles = angles * ops.convert_to_tensor(rates.astype("float32"))
        # A cosine is the sine of an angle a quarter further.
        return ops.sin(angles + ops.convert_to_tensor((c % 2 * np.pi / 2).astype("float32")))

    of_rows, of_columns = channels // 2, channels - channels // 2
    rows = ops.pad(along(height, of_rows), ((0, 0), (0, of_columns)))
    columns = ops.pad(along(width, of_columns), ((0, 0), (of_rows, 0)))
    return over_the_map(rows, columns)


def over_the_map(rows, columns):
    """Returns the sum of `(height, c)` and `(width, c)` at each position, `(1, h, w, c)`."""
    return ops.expand_dims(rows, (0, 2)) + ops.expand_dims(columns, (0, 1))


def with_coordinates(inputs):
    """Returns a map with three channels more: row and column from -1 to 1, and their distance.

    The distance is that from the centre. An axis of one position is at 0.
    """
    batch, height, width, _ = ops.shape(inputs)

    def along(size):
        place = ops.cast(ops.arange(size), "float32")
        last = ops.cast(size - 1, "float32")
        return (2 * place - last) / ops.maximum(last, 1.0)

    rows = ops.expand_dims(along(height), (0, 2, 3))
    columns = ops.expand_dims(along(width), (0, 1, 3))
    square = rows * rows + columns * columns
    ones = ops.ones_like(square)
    found = ops.concatenate([rows * ones, columns * ones, ops.sqrt(square)], axis=3)
    found = ops.broadcast_to(ops.cast(found, inputs.dtype), (batch, height, width, 3))
    return ops.concatenate([inputs, found], axis=3)
