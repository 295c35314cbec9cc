"""Attention of every position to every position, some heads of a sample at a time."""

import keras
from keras import ops

from keras_fmm.ops import tensorflow_gradients
from keras_fmm.ops.self_attention.everywhere import as_map, by_head, plain_attention, scaled
from keras_fmm.ops.self_attention.positions import by_query
from keras_fmm.ops.sums import at_least_float32, softmax

# So many weights are computed at once, if one head has no more: they stay in the caches.
_AT_ONCE = 700_000


def attention_in_parts(query, key, value, num_heads, rows=None, columns=None):
    """Returns what `plain_attention` does, and holds the weights of few heads at a time.

    The gradient computes them again. It is written by hand; therefore forward-mode differentiation
    fails (`tf.autodiff.ForwardAccumulator`, `jax.jvp`), and on TensorFlow second derivatives under
    XLA. PyTorch differentiates by itself.

    Args: as of `plain_attention`.

    Returns:
        Tensor of the values' shape and dtype.
    """
    if query.shape[0] == 1:
        # TFLite files are made of one sample, and have no loop.
        return plain_attention(query, key, value, num_heads, rows, columns)
    _, height, width, _ = shape = ops.shape(query)
    known = isinstance(height, int) and isinstance(width, int)
    together = _heads_together(num_heads, height * width) if known else 1
    parts = [_parts(x, num_heads, together) for x in (query, key, value)]
    parts[0] = scaled(parts[0])
    shared = []
    if rows is not None:
        shared = [
            ops.transpose(by_query(table, size), (0, 2, 1))
            for table, size in ((rows, height), (columns, width))
        ]
    if keras.backend.backend() == "tensorflow":
        found = tensorflow_gradients.map_samples(
            _attend, parts, shared, ops.shape(parts[2])[1:], _gradients
        )
    else:
        # Written by hand it is a third faster on JAX.
        by_hand = keras.backend.backend() == "jax"
        attend = ops.custom_gradient(_with_gradients) if by_hand else keras.remat(_attend)

        def of_part(part):
            return attend(*(ops.expand_dims(x, 0) for x in part), *shared)[0]

        found = ops.map(of_part, tuple(parts))
    found = ops.reshape(found, (-1, num_heads, height * width, value.shape[3] // num_heads))
    return as_map(found, shape)


def _heads_together(num_heads, places):
    """Returns how many heads are computed at once, a divisor of `num_heads`."""
    most = max(1, _AT_ONCE // places**2)
    return max(n for n in range(1, num_heads + 1) if num_heads % n == 0 and n <= most)


def _parts(x, num_heads, together):
    """Returns a map as `(parts, heads together, positions, channels of a head)`."""
    x = by_head(x, num_heads)
    return ops.reshape(x, (-1, together, *ops.shape(x)[2:]))


def _with_gradients(*tensors):
    """Returns `_attend` and its gradient written by hand, as Keras has it."""
    outputs = _attend(*tensors)
    return outputs, lambda upstream: tuple(_gradients(*tensors, outputs, upstream))


def _weights(query, key, tables):
    """Returns the weights of one part, `(1, heads, positions, positions)`, in float32 at least.

    On JAX they are in proportion to them, and what to divide by comes second; else None does.
    """
    _, heads, places, depth = ops.shape(query)
    logits = at_least_float32(ops.matmul(query, _turned(key)))
    if tables:
        rows, columns = tables
        height, width = _size(tables)
        query = ops.reshape(query, (heads, height, width, depth))
        of_rows = ops.matmul(query, rows)
        of_columns = ops.matmul(ops.transpose(query, (0, 2, 1, 3)), columns)
        of_columns = ops.transpose(of_columns, (0, 2, 1, 3))
        logits = ops.reshape(logits, (heads, height, width, height, width))
        logits = logits + at_least_float32(ops.expand_dims(of_rows, 4))
        logits = logits + at_least_float32(ops.expand_dims(of_columns, 3))
        logits = ops.reshape(logits, (1, heads, places, places))
    if keras.backend.backend() != "jax":
        return softmax(logits), None
    # One pass less over the weights; TensorFlow's own softmax is faster than its parts.
    powers = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    return powers, ops.sum(powers, axis=-1, keepdims=True)


def _size(tables):
    """Returns height and width of the map that two tables are for.

    Of a size that is not known when traced, a loop's step has nothing else.
    """
    rows, columns = tables
    return ops.shape(rows)[0], ops.shape(columns)[0]


def _attend(query, key, value, *tables):
    """Returns the outputs of one part, `(1, heads, positions, channels of a head)`."""
    weights, total = _weights(query, key, tables)
    # The long side of the weights last: few channels as rows are faster than as columns.
    found = _turned(ops.matmul(_turned(value), _turned(ops.cast(weights, value.dtype))))
    return found if total is None else found / ops.cast(total, found.dtype)


def _gradients(query, key, value, *tables_and_more):
    """Returns the gradients of `_attend`, one for each of its tensors.

    Last come the outputs and their gradient. What is as large as the weights is not transposed.
    """
    *tables, outputs, upstream = tables_and_more
    weights, total = _weights(query, key, tables)
    if total is not None:
        upstream = upstream / ops.cast(total, upstream.dtype)
    of_value = _turned(ops.matmul(_turned(upstream), ops.cast(weights, value.dtype)))
    # The gradient of the weights, less its mean: one product, with one channel more.
    mean = ops.sum(upstream * outputs, axis=-1, keepdims=True)
    left = ops.concatenate([upstream, -mean], axis=-1)
    right = ops.concatenate([value, ops.ones_like(value[..., :1])], axis=-1)
    of_logits = weights * at_least_float32(ops.matmul(left, _turned(right)))
    in_dtype = ops.cast(of_logits, query.dtype)
    of_query = ops.matmul(in_dtype, key)
    of_key = _turned(ops.matmul(_turned(query), in_dtype))
    if not tables:
        return [of_query, of_key, of_value]
    rows, columns = tables
    height, width = _size(tables)
    _, heads, _, depth = shape = ops.shape(query)
    in_map = (heads, height, width, depth)
    by_row = ops.reshape(query, in_map)
    by_column = ops.transpose(by_row, (0, 2, 1, 3))
    of_logits = ops.reshape(of_logits, (heads, height, width, height, width))
    of_rows = ops.cast(ops.sum(of_logits, axis=4), query.dtype)
    of_columns = ops.cast(ops.sum(of_logits, axis=3), query.dtype)
    of_columns = ops.transpose(of_columns, (0, 2, 1, 3))
    more = ops.matmul(of_rows, ops.transpose(rows, (0, 2, 1)))
    more_by_column = ops.matmul(of_columns, ops.transpose(columns, (0, 2, 1)))
    more = more + ops.transpose(more_by_column, (0, 2, 1, 3))
    of_query = of_query + ops.reshape(more, shape)
    of_rows = ops.sum(ops.matmul(_turned(by_row), of_rows), axis=0)
    of_columns = ops.matmul(_turned(by_column), of_columns)
    return [of_query, of_key, of_value, of_rows, ops.sum(of_columns, axis=0)]


def _turned(x):
    """Returns a tensor of rank 4 with its last two axes exchanged."""
    return ops.transpose(x, (0, 1, 3, 2))
