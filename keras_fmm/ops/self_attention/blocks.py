"""Attention of every position to those in a window around it, block by block of positions."""

import numpy as np
from keras import ops

from keras_fmm.ops.self_attention.window import OUTSIDE, powers, shifted_attention
from keras_fmm.ops.sums import at_least_float32, softmax

# The sides of blocks that are tried. In a larger one more products fall outside of the windows; of
# smaller ones there are more.
_SIDES = range(5, 9)


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
    arguments = (num_heads, kernel_size, rows, columns, mask_padding)
    if height is None or width is None:
        return shifted_attention(query, key, value, *arguments, divide_late=divide_late)
    grid = _grid(height), _grid(width)
    queries = _by_head(_blocks(query, grid), num_heads)
    keys, values = (_by_head(_seen(x, grid, kernel_size), num_heads) for x in (key, value))
    logits = at_least_float32(ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2))))
    if rows is not None:
        logits = logits + _of_positions(queries, rows, columns, grid)
    mask = _outside_of_windows(grid, kernel_size)[None]
    if mask_padding:
        mask = mask | _outside_of_map((height, width), grid, kernel_size)[:, None]
        # Of what padding added, which sees nothing: LiteRT refuses a division by 0.
        mask[mask.all(axis=-1)] = False
    _, _, places, seen = logits.shape
    # A number for each pair of a block's and what it sees, the same for all samples and heads.
    logits = ops.reshape(logits, (-1, len(mask), num_heads, places, seen))
    mask = ops.expand_dims(ops.convert_to_tensor(mask), 1)
    if divide_late:
        weights = powers(logits, ops.cast(mask, logits.dtype))
    else:
        weights = softmax(logits + ops.cast(mask, logits.dtype) * OUTSIDE)
    weights = ops.reshape(weights, (-1, num_heads, places, seen))
    found = ops.matmul(ops.cast(weights, values.dtype), values)
    if divide_late:
        found = found / ops.cast(ops.sum(weights, axis=-1, keepdims=True), found.dtype)
    return _as_map(found, (height, width), grid)


def _grid(size):
    """Returns how many blocks there are along an axis, and their side: the least padding."""
    side = min(_SIDES, key=lambda side: (-(-size // side) * side, side))
    side = min(side, size)
    return -(-size // side), side


def _blocks(x, grid):
    """Returns a map as `(batch * blocks, height of a block, width, channels)`."""
    (down, height), (across, width) = grid
    channels = x.shape[3]
    x = _padded(x, ((0, down * height), (0, across * width)))
    x = ops.reshape(x, (-1, height, across, width, channels))
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3, 4)), (-1, height, width, channels))


def _seen(x, grid, kernel_size):
    """Returns what the windows of each block see, `(batch * blocks, height, width, channels)`."""
    (down, height), (across, width) = grid
    channels, more = x.shape[3], kernel_size - 1
    before = more // 2
    x = _padded(x, ((before, down * height + more), (before, across * width + more)))
    whole = across * width + more
    x = ops.stack([x[:, n * height : (n + 1) * height + more] for n in range(down)], axis=1)
    x = ops.reshape(x, (-1, height + more, whole, channels))
    x = ops.stack([x[:, :, n * width : (n + 1) * width + more] for n in range(across)], axis=1)
    return ops.reshape(x, (-1, height + more, width + more, channels))


def _padded(x, axes):
    """Returns a map with zeros around it: of each axis how many before, and the size in all."""
    beside = [
        (before, whole - before - size)
        for size, (before, whole) in zip(x.shape[1:3], axes, strict=True)
    ]
    return ops.pad(x, [(0, 0), *beside, (0, 0)]) if any(map(any, beside)) else x


def _by_head(x, num_heads):
    """Returns blocks as `(blocks, heads, positions, channels of a head)`."""
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height * width, num_heads, channels // num_heads))
    return ops.transpose(x, (0, 2, 1, 3))


def _of_positions(queries, rows, columns, grid):
    """Returns the products of queries with what they see, by their offset."""
    (_, height), (_, width) = grid
    _, heads, _, depth = queries.shape
    more = rows.shape[0] - 1
    queries = ops.reshape(queries, (-1, heads, height, width, depth))
    by_row, by_column = ops.split(queries, 2, axis=4)
    of_rows = ops.matmul(by_row, _by_place(rows, height))
    of_columns = ops.matmul(ops.transpose(by_column, (0, 1, 3, 2, 4)), _by_place(columns, width))
    of_columns = ops.transpose(of_columns, (0, 1, 3, 2, 4))
    places = height * width
    of_rows = ops.reshape(of_rows, (-1, heads, places, height + more, 1))
    of_columns = ops.reshape(of_columns, (-1, heads, places, 1, width + more))
    found = at_least_float32(of_rows) + at_least_float32(of_columns)
    return ops.reshape(found, (-1, heads, places, (height + more) * (width + more)))


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


def _outside_of_windows(grid, kernel_size):
    """Returns which of what a block sees lies outside of each position's window, as an array."""
    inside = []
    for _, side in grid:
        offset = np.arange(side + kernel_size - 1)[None] - np.arange(side)[:, None]
        inside.append((offset >= 0) & (offset < kernel_size))
    rows, columns = inside
    both = rows[:, None, :, None] & columns[None, :, None, :]
    return ~both.reshape(rows.shape[0] * columns.shape[0], -1)


def _outside_of_map(size, grid, kernel_size):
    """Returns which of what each block sees lies outside of the map, `(blocks, seen)`."""
    inside = []
    for whole, (count, side) in zip(size, grid, strict=True):
        first = np.arange(count)[:, None] * side - (kernel_size - 1) // 2
        place = first + np.arange(side + kernel_size - 1)[None]
        inside.append((place >= 0) & (place < whole))
    rows, columns = inside
    both = rows[:, None, :, None] & columns[None, :, None, :]
    return ~both.reshape(rows.shape[0] * columns.shape[0], -1)


def _as_map(found, size, grid):
    """Returns the outputs of blocks as a map, without what padding added."""
    (down, height), (across, width) = grid
    _, heads, _, depth = found.shape
    channels = heads * depth
    found = ops.transpose(found, (0, 2, 1, 3))
    found = ops.reshape(found, (-1, across, height, width, channels))
    found = ops.transpose(found, (0, 2, 1, 3, 4))
    found = ops.reshape(found, (-1, down * height, across * width, channels))
    return found[:, : size[0], : size[1]]
