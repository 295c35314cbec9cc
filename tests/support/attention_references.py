"""The equations of self-attention in images as NumPy loops in float64, position by position.

Maps are `(batch, height, width, channels)`; weights are dicts by name, of `weights.randomise`.
"""

import math

import numpy as np

from tests.support import references


def softmax(logits):
    powers = np.exp(logits - np.max(logits))
    return powers / powers.sum()


def pointwise(x, kernel, bias=0.0, stride=(1, 1)):
    return x[:, :: stride[0], :: stride[1]] @ np.reshape(kernel, kernel.shape[-2:]) + bias


def parts(qkv, num_heads, key_dim, value_dim):
    """Returns queries, keys and values, `(batch, height, width, heads, channels of a head)`."""
    *size, _ = qkv.shape
    keys = num_heads * key_dim
    q, k, v = np.split(qkv, [keys, 2 * keys], axis=3)
    return (
        q.reshape(*size, num_heads, key_dim),
        k.reshape(*size, num_heads, key_dim),
        v.reshape(*size, num_heads, value_dim),
    )


def looks_everywhere(q, k, rows=None, columns=None):
    """Bello et al., equations 1 to 5: weights `(batch, height, width, heads, height, width)`."""
    batch, height, width, heads, depth = q.shape
    found = np.zeros((batch, height, width, heads, height, width))
    for n, i, j, h in np.ndindex(batch, height, width, heads):
        logits = np.zeros((height, width))
        for a, b in np.ndindex(height, width):
            seen = k[n, a, b, h].copy()
            if rows is not None:
                seen += rows[a - i + height - 1] + columns[b - j + width - 1]
            logits[a, b] = q[n, i, j, h] @ seen / math.sqrt(depth)
        found[n, i, j, h] = softmax(logits)
    return found


def attend_everywhere(q, k, v, rows=None, columns=None):
    weights = looks_everywhere(q, k, rows, columns)
    outputs = np.zeros((*q.shape[:4], v.shape[4]))
    for n, i, j, h in np.ndindex(q.shape[:4]):
        for a, b in np.ndindex(q.shape[1:3]):
            outputs[n, i, j, h] += weights[n, i, j, h, a, b] * v[n, a, b, h]
    return outputs.reshape(*q.shape[:3], -1)


def relative_self_attention(x, weights, num_heads, key_dim, value_dim):
    """`RelativeSelfAttention2D` with relative positions or none, on the tables' size."""
    x = pointwise(x, weights["qkv/kernel"], weights.get("qkv/bias", 0.0))
    tables = weights.get("row_embeddings"), weights.get("column_embeddings")
    x = attend_everywhere(*parts(x, num_heads, key_dim, value_dim), *tables)
    return pointwise(x, weights["projection/kernel"], weights.get("projection/bias", 0.0))


def augmented_conv2d(x, weights, num_heads, key_dim, value_dim, strides, pool=None):
    """Bello et al., section 3.2: a convolution beside attention; `pool` as in section 4.3."""
    beside = references.conv2d(x, weights["conv/kernel"], strides, "same", (1, 1))
    seen = x if pool is None else average_pool(x, (pool, pool), 2 * pool - 1)
    qkv = pointwise(seen, weights["qkv/kernel"], stride=strides)
    tables = weights.get("row_embeddings"), weights.get("column_embeddings")
    attended = attend_everywhere(*parts(qkv, num_heads, key_dim, value_dim), *tables)
    attended = pointwise(attended, weights["projection/kernel"])
    if pool is not None:
        attended = bilinear(attended, beside.shape[1:3])
    return np.concatenate([beside, attended], axis=3) + weights.get("bias", 0.0)


def windows(size, stride, window):
    """Yields, for each output along an axis, the entries of its window that lie on the map."""
    count = -(-size // stride)
    before = max((count - 1) * stride + window - size, 0) // 2
    for output in range(count):
        start = output * stride - before
        yield [place for place in range(start, start + window) if 0 <= place < size]


def pool(x, strides, window, function):
    sides = window if isinstance(window, tuple) else (window, window)
    rows, columns = (
        list(windows(*axis)) for axis in zip(x.shape[1:3], strides, sides, strict=True)
    )
    found = np.zeros((x.shape[0], len(rows), len(columns), x.shape[3]))
    for n, i, j, c in np.ndindex(found.shape):
        found[n, i, j, c] = function([x[n, a, b, c] for a in rows[i] for b in columns[j]])
    return found


def average_pool(x, strides, window):
    return pool(x, strides, window, np.mean)


def bilinear(x, size):
    """Bilinear resizing, a pixel's centre at half of its side."""
    for axis, count in zip((1, 2), size, strict=True):
        old, found = x.shape[axis], []
        for i in range(count):
            place = min(max((i + 0.5) * old / count - 0.5, 0), old - 1)
            low = math.floor(place)
            high, share = min(low + 1, old - 1), place - low
            found.append((1 - share) * x.take(low, axis) + share * x.take(high, axis))
        x = np.stack(found, axis=axis)
    return x


def looks_in_window(q, k, bias, masked):
    """Ramachandran et al., equations 2 and 3: `(batch, height, width, heads, k, k)`.

    `bias` is `(k, k, heads, channels of a head)`, what positions add to the keys.
    """
    batch, height, width, heads, _ = q.shape
    size = bias.shape[0]
    before = (size - 1) // 2
    found = np.zeros((batch, height, width, heads, size, size))
    for n, i, j, h in np.ndindex(batch, height, width, heads):
        logits = np.full((size, size), -np.inf)
        for a, b in np.ndindex(size, size):
            row, column = i + a - before, j + b - before
            is_inside = 0 <= row < height and 0 <= column < width
            if is_inside or not masked:
                seen = k[n, row, column, h] if is_inside else 0.0
                logits[a, b] = q[n, i, j, h] @ (seen + bias[a, b, h])
        found[n, i, j, h] = softmax(logits)
    return found


def attend_in_window(q, k, value, bias, masked):
    """`value(n, row, column, a, b)` gives the values `(heads, channels of a head)` there."""
    weights = looks_in_window(q, k, bias, masked)
    batch, height, width, _, size, _ = weights.shape
    before = (size - 1) // 2
    outputs = []
    for n, i, j in np.ndindex(batch, height, width):
        total = 0.0
        for a, b in np.ndindex(size, size):
            row, column = i + a - before, j + b - before
            if 0 <= row < height and 0 <= column < width:
                total = total + weights[n, i, j, :, a, b, None] * value(n, row, column, a, b)
        outputs.append(np.ravel(total))
    return np.reshape(outputs, (batch, height, width, -1))


def by_head(x, num_heads):
    return x.reshape(*x.shape[:3], num_heads, -1)


def local_self_attention(x, weights, kernel_size, num_heads, strides, masked=True):
    """`LocalSelfAttention2D`, without an activation."""
    q, k, v = (
        by_head(pointwise(x, weights[f"{name}/kernel"]), num_heads)
        for name in ("query", "key", "value")
    )
    bias = np.zeros((kernel_size, kernel_size, *q.shape[3:]))
    if "row_embeddings" in weights:
        for a, b in np.ndindex(kernel_size, kernel_size):
            row, column = weights["row_embeddings"][a], weights["column_embeddings"][b]
            bias[a, b] = np.concatenate([row, column], axis=1)
    outputs = attend_in_window(q, k, lambda n, row, column, *_: v[n, row, column], bias, masked)
    return average_pool(outputs, strides, strides) + weights.get("bias", 0.0)


def attention_stem(x, weights, kernel_size, num_heads, pool_size, masked=True):
    """`AttentionStem`, without an activation."""
    q, k = (
        by_head(pointwise(x, weights[f"{name}/kernel"]), num_heads) for name in ("query", "key")
    )

    def value(n, row, column, a, b):
        place = weights["row_embeddings"][a] + weights["column_embeddings"][b]
        shares = softmax(np.array([place @ mixture for mixture in weights["mixture_embeddings"]]))
        matrices = weights["value_kernel"]
        mixed = sum(share * matrix for share, matrix in zip(shares, matrices, strict=True))
        return (x[n, row, column] @ mixed).reshape(num_heads, -1)

    none = np.zeros((kernel_size, kernel_size, *q.shape[3:]))
    outputs = attend_in_window(q, k, value, none, masked)
    return pool(outputs, (pool_size, pool_size), pool_size, np.max) + weights.get("bias", 0.0)


def interpolated(table, count):
    """Returns a table of `count` rows: its ends where they were, the others evenly between."""
    found = []
    for i in range(count):
        place = i * (len(table) - 1) / max(1, count - 1)
        low = min(math.floor(place), len(table) - 1)
        high = min(low + 1, len(table) - 1)
        found.append((1 - (place - low)) * table[low] + (place - low) * table[high])
    return np.array(found)
