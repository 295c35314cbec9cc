"""Attention of every position of a map to those in a window around it."""

from keras import ops

from keras_fmm.ops.per_sample_conv import windows
from keras_fmm.ops.sums import at_least_float32, divided, softmax, summed, total

# What is added to the logits of what lies outside of the map; exp() of it is 0.
OUTSIDE = -1e9


def shifted_attention(
    query,
    key,
    value,
    num_heads,
    kernel_size,
    rows=None,
    columns=None,
    mask_padding=True,
    kernels=None,
    divide_late=False,
):
    """Returns the mean of the values in a window around each position, weighted by their keys.

    The weights of query (i, j) are the softmax, over the entries (a, b) of the window, of
    `q . (k[i + a - before, j + b - before] + [rows[a], columns[b]])`: the map is shifted by each
    entry of the window in turn. `before` is half of what the window is longer than 1, rounded down,
    as convolutions with `padding="same"` have it.

    Args:
        query: tensor `(batch, height, width, num_heads * d)`.
        key: tensor of the same shape.
        value: tensor `(batch, height, width, channels)`, one head after the other.
        num_heads: int.
        kernel_size: int, the window's height and width.
        rows: tensor `(kernel_size, num_heads, d / 2)` or None. What is added to the first half of
            the channels of a head's keys.
        columns: tensor of that shape, or None. What is added to the second half.
        mask_padding: bool, default True. Whether positions outside of the map have no weight.
            False: they have keys and values of 0.
        kernels: tensor `(kernel_size, kernel_size, channels, filters)` or None. What the values at
            each entry of the window are multiplied by first.
        divide_late: bool, default False. Whether exponentials are multiplied by the mask, and what
            they give is divided by their sum: for files of integers, in which the summand that
            stands for the mask would take the whole scale, and a softmax has steps of 1/256.

    Returns:
        Tensor `(batch, height, width, channels)`, or of `filters`, of the values' dtype.
    """
    arguments = (num_heads, kernel_size, rows, columns, mask_padding)
    logits, outside = _logits(query, key, *arguments, add=summed if divide_late else ops.sum)
    if divide_late:
        weights = powers(logits, 0 * logits if outside is None else outside)
    else:
        weights = _softmax(logits, outside)
    weights = ops.cast(weights, value.dtype)
    found = []
    for n, (row, column, seen) in enumerate(_entries(value, kernel_size)):
        if kernels is not None:
            seen = ops.matmul(seen, kernels[row, column])
        found.append(_by_head(seen, num_heads) * weights[..., n : n + 1])
    found = total(found)
    if divide_late:
        found = divided(found, summed(weights, axis=-1, keepdims=True))
    return ops.reshape(found, (*ops.shape(found)[:3], num_heads * found.shape[4]))


def window_weights(query, key, num_heads, kernel_size, rows=None, columns=None, mask_padding=True):
    """Returns the weights of `shifted_attention`, `(batch, height, width, heads, entries)`."""
    return _softmax(*_logits(query, key, num_heads, kernel_size, rows, columns, mask_padding))


def powers(logits, outside):
    """Returns what is in proportion to a softmax of logits where `outside` is 0, and 0 where 1."""
    # The largest inside: the least of all never is more, and keeps the scale of integers fine.
    least = ops.min(logits, axis=-1, keepdims=True)
    largest = ops.max(logits * (1 - outside) + least * outside, axis=-1, keepdims=True)
    return ops.exp(ops.minimum(logits - largest, 0.0)) * (1 - outside)


def _softmax(logits, outside):
    return softmax(logits if outside is None else logits + outside * OUTSIDE)


def _logits(query, key, num_heads, kernel_size, rows, columns, mask_padding, add=ops.sum):
    """Returns logits, in float32 at least, and 1 where they are of what lies outside, or None.

    `add` takes the sum over an axis.
    """
    bias = None if rows is None else _bias(rows, columns)
    logits = []
    for row, column, seen in _entries(key, kernel_size):
        if bias is not None:
            seen = seen + bias[row, column]
        products = _by_head(query * seen, num_heads)
        logits.append(add(at_least_float32(products), axis=-1))
    logits = ops.stack(logits, axis=-1)
    if not mask_padding:
        return logits, None
    ones = ops.ones_like(key[:1, :, :, :1])
    inside = [seen for *_, seen in _entries(ones, kernel_size)]
    outside = ops.expand_dims(1 - ops.concatenate(inside, axis=3), 3)
    return logits, ops.cast(outside, logits.dtype)


def _bias(rows, columns):
    """Returns what positions add to the keys, `(kernel_size, kernel_size, channels)`."""
    size, heads, half = rows.shape
    shape = (size, size, heads, half)
    rows = ops.broadcast_to(ops.expand_dims(rows, 1), shape)
    columns = ops.broadcast_to(ops.expand_dims(columns, 0), shape)
    return ops.reshape(ops.concatenate([rows, columns], axis=3), (size, size, 2 * heads * half))


def _by_head(x, num_heads):
    return ops.reshape(x, (*ops.shape(x)[:3], num_heads, x.shape[3] // num_heads))


def _entries(x, kernel_size):
    """Yields the row and column of each entry of the window, and the map that it sees."""
    _, height, width, channels = ops.shape(x)
    batch = -1 if x.shape[0] is None else x.shape[0]
    before = (kernel_size - 1) // 2
    beside = (before, kernel_size - 1 - before)
    padded = ops.pad(x, ((0, 0), beside, beside, (0, 0)))
    for row in range(kernel_size):
        for column in range(kernel_size):
            seen = windows.part(padded, (0, row, column, 0), (batch, height, width, channels))
            yield row, column, seen
