"""Attention of every position of a map to every position, with relative positions."""

from keras import ops

from keras_fmm.ops.self_attention.positions import by_query
from keras_fmm.ops.sums import at_least_float32, divided, softmax, summed


def plain_attention(query, key, value, num_heads, rows=None, columns=None):
    """Returns the mean of the values, weighted by how well their keys fit each query.

    The weights of query (i, j) are the softmax, over all positions (a, b), of
    `q . (k[a, b] + rows[a - i] + columns[b - j]) / sqrt(d)`: the formula said plainly.

    Args:
        query: tensor `(batch, height, width, num_heads * d)`.
        key: tensor of the same shape.
        value: tensor `(batch, height, width, num_heads * dv)`.
        num_heads: int.
        rows: tensor `(2 * height - 1, d)` or None. For each offset, from `1 - height` on.
        columns: tensor `(2 * width - 1, d)` or None. As `rows`, of the columns.

    Returns:
        Tensor of the values' shape and dtype.
    """
    weights = attention_weights(query, key, num_heads, rows, columns)
    value = by_head(value, num_heads)
    # PyTorch's product of float64 is float32 (Keras 3.15.1).
    found = ops.cast(ops.matmul(ops.cast(weights, value.dtype), value), value.dtype)
    return as_map(found, ops.shape(query))


def late_attention(query, key, value, num_heads, rows=None, columns=None):
    """Returns what `plain_attention` does, divided by the weights' sum at the end.

    For files of integers, in which a softmax has steps of 1/256: of some hundred positions that
    weigh alike all would be 0 or 1. Exponentials are from 0 to 1 whatever their number.

    Args: as of `plain_attention`.
    """
    logits = attention_logits(query, key, num_heads, rows, columns)
    powers = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    found = ops.matmul(powers, ops.cast(by_head(value, num_heads), powers.dtype))
    found = divided(found, summed(powers, axis=-1, keepdims=True))
    return ops.cast(as_map(found, ops.shape(query)), value.dtype)


def attention_weights(query, key, num_heads, rows=None, columns=None):
    """Returns the weights of `plain_attention`, `(batch, num_heads, positions, positions)`."""
    return softmax(attention_logits(query, key, num_heads, rows, columns))


def attention_logits(query, key, num_heads, rows=None, columns=None):
    """Returns what `attention_weights` takes the softmax of, in float32 at least."""
    _, height, width, channels = ops.shape(query)
    depth, places = channels // num_heads, height * width
    query = scaled(by_head(query, num_heads))
    key = by_head(key, num_heads)
    logits = at_least_float32(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))))
    if rows is not None:
        query = ops.reshape(query, (-1, height, width, depth))
        of_rows = _fits(ops.transpose(query, (1, 0, 2, 3)), rows, height)
        of_rows = ops.transpose(of_rows, (1, 0, 2, 3))
        of_columns = _fits(ops.transpose(query, (2, 0, 1, 3)), columns, width)
        of_columns = ops.transpose(of_columns, (1, 2, 0, 3))
        logits = ops.reshape(logits, (-1, height, width, height, width))
        logits = logits + ops.expand_dims(at_least_float32(of_rows), 4)
        logits = logits + ops.expand_dims(at_least_float32(of_columns), 3)
        logits = ops.reshape(logits, (-1, num_heads, places, places))
    return logits


def weights_of_queries(query, key, num_heads, rows, columns, queries):
    """Returns the weights of some queries alone, `(batch, num_heads, len(queries), positions)`.

    Args:
        queries: list of pairs of int, row and column of each.
    """
    _, height, width, channels = ops.shape(query)
    chosen = ops.stack([query[:, row, column] for row, column in queries], axis=1)
    chosen = ops.reshape(chosen, (-1, len(queries), num_heads, channels // num_heads))
    chosen = scaled(ops.transpose(chosen, (0, 2, 1, 3)))
    key = by_head(key, num_heads)
    logits = at_least_float32(ops.matmul(chosen, ops.transpose(key, (0, 1, 3, 2))))
    if rows is not None:
        found = []
        for n, (row, column) in enumerate(queries):
            one = chosen[:, :, n]
            seen = rows[height - 1 - row : 2 * height - 1 - row]
            of_rows = ops.matmul(one, ops.transpose(seen))
            seen = columns[width - 1 - column : 2 * width - 1 - column]
            of_columns = ops.matmul(one, ops.transpose(seen))
            both = ops.expand_dims(of_rows, 3) + ops.expand_dims(of_columns, 2)
            found.append(ops.reshape(both, (-1, num_heads, height * width)))
        logits = logits + at_least_float32(ops.stack(found, axis=2))
    return softmax(logits)


def by_head(x, num_heads):
    """Returns a map as `(batch, num_heads, positions, channels of a head)`."""
    _, height, width, channels = ops.shape(x)
    x = ops.reshape(x, (-1, height * width, num_heads, channels // num_heads))
    return ops.transpose(x, (0, 2, 1, 3))


def as_map(x, shape):
    """Returns what `by_head` gives as a map again, of the height and width of `shape`."""
    _, height, width, _ = shape
    num_heads, channels = x.shape[1], x.shape[3]
    x = ops.transpose(x, (0, 2, 1, 3))
    return ops.reshape(x, (-1, height, width, num_heads * channels))


def scaled(query):
    """Returns queries whose products with keys vary as little as those of one channel."""
    return query * query.shape[-1] ** -0.5


def _fits(query, table, size):
    """Returns the products of queries `(size, m, n, d)` with their offsets': `(size, m, n, size)`.

    Args:
        query: tensor, the axis that the table is of first.
        table: tensor `(2 * size - 1, d)`.
        size: int or scalar tensor.
    """
    _, first, second, depth = ops.shape(query)
    table = ops.transpose(by_query(table, size), (0, 2, 1))
    found = ops.matmul(ops.reshape(query, (size, first * second, depth)), table)
    return ops.reshape(found, (size, first, second, size))
