"""Attention of every position to those in a window around it, block by block of positions."""

import numpy as np
from keras import ops

from keras_fmm.ops.per_sample_conv import windows
from keras_fmm.ops.self_attention.window import OUTSIDE, powers, shifted_attention
from keras_fmm.ops.sums import at_least_float32, divided, softmax, summed

# The sides of blocks that are tried. In a larger one more products fall outside of the windows; of
# smaller ones there are more.
_SIDES = range(4, 9)


def block_attention(
    query,
    key,
    value,
    num_heads,
    kernel_size,
    rows=None,
    columns=None,
    mask_padding=True,
    divide_late=False,
):
    """Returns what `shifted_attention` does: matrix products of blocks with all that they see.

    A map of sizes unknown when traced is computed as `shifted_attention` does.

    Args: as of `shifted_attention`, without `kernels`.

    Returns:
        Tensor of the values' shape and dtype.
    """
    height, width = query.shape[1:3]
    if height is None or width is None:
        arguments = (num_heads, kernel_size, rows, columns, mask_padding)
        return shifted_attention(query, key, value, *arguments, divide_late=divide_late)
    tables = [] if rows is None else [rows, columns]
    size = height, width
    grid = tuple(map(_blocks_along, size))
    queries = _by_head(_blocks(query, grid), grid, num_heads)
    wide = tuple((count, side + kernel_size - 1) for count, side in grid)
    keys, values = (_by_head(_seen(x, grid, kernel_size), wide, num_heads) for x in (key, value))
    masks = [
        (
            _outside_of_windows(side, kernel_size),
            _outside_of_map(whole, count, side, kernel_size) if mask_padding else None,
        )
        for whole, (count, side) in zip(size, grid, strict=True)
    ]
    if divide_late:
        weights = _powers(_logits(queries, keys, tables, None, grid), masks)
    else:
        weights = softmax(_logits(queries, keys, tables, masks, grid))
    # PyTorch's product of float64 is float32 (Keras 3.15.1).
    found = ops.cast(ops.matmul(ops.cast(weights, values.dtype), values), values.dtype)
    if divide_late:
        found = divided(found, ops.cast(summed(weights, axis=-1, keepdims=True), found.dtype))
    return _as_map(found, size, grid)


def _blocks_along(size):
    """Returns how many blocks there are along an axis, and their side: the least padding."""
    side = min(_SIDES, key=lambda side: (-(-size // side) * side, side))
    side = min(side, size)
    return -(-size // side), side


def _blocks(x, grid):
    """Returns a map as `(batch, down, height of a block, across, width, channels)`, in one row."""
    return _padded(x, [(0, count * side) for count, side in grid])


def _seen(x, grid, kernel_size):
    """Returns what the windows of blocks see, as `_blocks` has it: neighbours see some alike."""
    more, channels = kernel_size - 1, x.shape[3]
    wholes = [(count + -(-more // side)) * side for count, side in grid]
    x = _padded(x, [(more // 2, whole) for whole in wholes])
    rows, columns = grid
    x = _overlapping(x, *rows, more, wholes[1] * channels)
    return _overlapping(x, *columns, more, channels)


def _overlapping(x, count, side, more, length):
    """Returns `(..., count, side + more, length)` of an axis of which each begins `side` further.

    Slices of blocks, as many as one sees: as slices of windows their gradient is much slower.
    """
    blocks = -(-more // side)
    x = ops.reshape(x, (-1, count + blocks, side, length))
    batch = -1 if x.shape[0] is None else x.shape[0]
    parts = []
    for n in range(blocks + 1):
        rest = min(side, side + more - n * side)
        parts.append(windows.part(x, (0, n, 0, 0), (batch, count, rest, length)))
    return ops.concatenate(parts, axis=2)


def _padded(x, axes):
    """Returns a map with zeros around it: of each axis how many before, and the size in all."""
    beside = [
        (before, whole - before - size)
        for size, (before, whole) in zip(x.shape[1:3], axes, strict=True)
    ]
    return ops.pad(x, [(0, 0), *beside, (0, 0)]) if any(map(any, beside)) else x


def _by_head(x, grid, num_heads):
    """Returns blocks as `(batch * blocks, heads, positions, channels of a head)`."""
    (_, height), (across, width) = grid
    channels = x.shape[3]
    x = ops.reshape(x, (-1, height, across, width * channels))
    x = ops.transpose(x, (0, 2, 1, 3))
    x = ops.reshape(x, (-1, height * width, num_heads, channels // num_heads))
    return ops.transpose(x, (0, 2, 1, 3))


def _logits(queries, keys, tables, masks, grid):
    """Returns logits `(batch * blocks, heads, positions, seen)`, in float32 at least.

    What is the same for a row or a column of what a block sees, and for what lies outside, comes
    from one product with ones, which is faster than to spread it twice over all that is seen.
    """
    queries, keys = at_least_float32(queries), at_least_float32(keys)
    found = _of_positions(queries, tables, masks, grid)
    logits = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))
    if not found:
        return logits
    seen_rows, seen_columns = (x.shape[3] for x in found)
    ones = np.concatenate(
        [
            np.repeat(np.eye(seen_rows), seen_columns, axis=1),
            np.tile(np.eye(seen_columns), (1, seen_rows)),
        ]
    )
    ones = ops.cast(ops.convert_to_tensor(ones), logits.dtype)
    found = ops.reshape(ops.concatenate(found, axis=3), (-1, seen_rows + seen_columns))
    return logits + ops.reshape(ops.matmul(found, ones), (-1, *logits.shape[1:]))


def _of_positions(queries, tables, masks, grid):
    """Returns what is added to a query's products with all in a row, and with all in a column.

    Two tensors `(batch * blocks, heads, positions, rows seen)`, or of columns; none where nothing
    is added.
    """
    (down, height), (across, width) = grid
    _, heads, places, depth = queries.shape
    queries = ops.reshape(queries, (-1, heads, height, width, depth))
    found = [ops.zeros_like(queries[..., :1])] * 2
    if tables:
        rows, columns = (at_least_float32(table) for table in tables)
        by_row, by_column = ops.split(queries, 2, axis=4)
        of_columns = ops.transpose(by_column, (0, 1, 3, 2, 4))
        of_columns = ops.matmul(of_columns, _by_place(columns, width))
        of_columns = ops.transpose(of_columns, (0, 1, 3, 2, 4))
        found = [ops.matmul(by_row, _by_place(rows, height)), of_columns]
    elif masks is None:
        return []
    if masks is not None:
        (row_window, row_map), (column_window, column_map) = masks
        rows = found[0] + _far(row_window[:, None], queries)
        columns = found[1] + _far(column_window, queries)
        if row_map is not None:
            rows = ops.reshape(rows, (-1, down, across * heads * places, rows.shape[4]))
            rows = rows + _far(row_map[:, None], queries)
            columns = ops.reshape(columns, (-1, across, heads * places, columns.shape[4]))
            columns = columns + _far(column_map[:, None], queries)
        found = [rows, columns]
    return [ops.reshape(x, (-1, heads, places, x.shape[-1])) for x in found]


def _far(outside, like):
    """Returns what is added to logits where an array is 1, as a tensor of another one's dtype."""
    return ops.cast(ops.convert_to_tensor(OUTSIDE * outside), like.dtype)


def _powers(logits, masks):
    """Returns what is in proportion to the softmax of logits, and 0 for what lies outside."""
    inside = []
    for of_window, of_map in masks:
        outside = of_window[None] if of_map is None else of_window[None] + of_map[:, None]
        inside.append(outside == 0)
    rows, columns = inside
    both = rows[:, None, :, None, :, None] & columns[None, :, None, :, None, :]
    blocks = rows.shape[0] * columns.shape[0]
    _, heads, places, seen = logits.shape
    outside = ~both.reshape(blocks, 1, places, seen)
    # Of what padding added, which sees nothing: LiteRT refuses the root of 0.
    outside[outside.all(axis=-1)] = False
    # A number for each pair of a block's and what it sees, the same for all samples and heads.
    logits = ops.reshape(logits, (-1, blocks, heads, places, seen))
    outside = ops.cast(ops.convert_to_tensor(outside), logits.dtype)
    return ops.reshape(powers(logits, outside), (-1, heads, places, seen))


def _by_place(table, size):
    """Returns the rows of a table by a block's place and by what is seen, 0 outside of windows.

    Args:
        table: tensor `(kernel_size, heads, depth)`.
        size: int, the block's side.

    Returns:
        Tensor `(heads, size, depth, size + kernel_size - 1)`.
    """
    kernel_size, heads, depth = table.shape
    seen = size + kernel_size - 1
    places = np.zeros((kernel_size, size, seen), "float32")
    for offset in range(kernel_size):
        places[offset, range(size), range(offset, offset + size)] = 1
    places = ops.cast(ops.convert_to_tensor(places), table.dtype)
    table = ops.reshape(ops.transpose(table, (1, 2, 0)), (heads * depth, kernel_size))
    found = ops.matmul(table, ops.reshape(places, (kernel_size, size * seen)))
    found = ops.reshape(found, (heads, depth, size, seen))
    return ops.transpose(found, (0, 2, 1, 3))


def _outside_of_windows(side, kernel_size):
    """Returns 1 for what a block sees outside of each position's window, `(side, seen)`."""
    offset = np.arange(side + kernel_size - 1)[None] - np.arange(side)[:, None]
    return ((offset < 0) | (offset >= kernel_size)).astype("float32")


def _outside_of_map(size, count, side, kernel_size):
    """Returns 1 for what each block along an axis sees outside of the map, `(count, seen)`."""
    first = np.arange(count)[:, None] * side - (kernel_size - 1) // 2
    place = first + np.arange(side + kernel_size - 1)[None]
    return ((place < 0) | (place >= size)).astype("float32")


def _as_map(found, size, grid):
    """Returns the outputs of blocks as a map, without what padding added."""
    (down, height), (across, width) = grid
    _, heads, _, depth = found.shape
    channels = heads * depth
    found = ops.transpose(found, (0, 2, 1, 3))
    found = ops.reshape(found, (-1, across, height, width * channels))
    found = ops.transpose(found, (0, 2, 1, 3))
    found = ops.reshape(found, (-1, down * height, across * width, channels))
    batch = -1 if found.shape[0] is None else found.shape[0]
    return windows.part(found, (0, 0, 0, 0), (batch, *size, channels))
