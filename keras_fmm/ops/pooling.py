"""Pooling that Keras has not in the form the layers need."""

import functools

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.ops.statistics import spatial_mean
from keras_fmm.ops.sums import at_least_float32, float_tensor


def adaptive_average_pool(inputs, output_size):
    """Averages a feature map over a grid of bins, whatever the map's size.

    Bin `i` of `n` along an axis of size `s` covers `floor(i * s / n)` to `ceil((i + 1) * s / n)`
    exclusive (PyTorch's rule): bins overlap where `n` does not divide `s`, and repeat entries
    where `n` exceeds `s`.

    It is one product with a small matrix of averaging weights; for one bin the mean, and for a
    batch that is known to be one, as it is where TFLite files are made, a mean for each bin. Keras'
    own `AdaptiveAveragePooling2D` gives the same numbers, but needs a known height and width and
    reads the map several times. In the product weights of 0 are multiplied too: there an entry that
    is not finite is seen in all bins.

    Args:
        inputs: float tensor `(batch, height, width, channels)`; all but the channels may be
            unknown when traced.
        output_size: pair of int, each from 1 to 255, the rows and columns of the result.

    Returns:
        Tensor `(batch, rows, columns, channels)` of the inputs' dtype; the sums are taken in
        float32 at least.

    Raises:
        TypeError: `output_size` holds something else than integers.
        ValueError: a size is out of range, or the map is empty.

    Example:

    >>> import keras, numpy as np
    >>> image = np.arange(6, dtype="float32").reshape(1, 2, 3, 1)
    >>> keras.ops.convert_to_numpy(adaptive_average_pool(image, (1, 2))).ravel().tolist()
    [2.0, 3.0]
    """
    rows, columns = output_size = checks.pair("output_size", output_size, checks.SIDES)
    inputs = float_tensor("inputs", inputs)
    checks.channels_of("adaptive_average_pool", inputs.shape, "channels_last")
    dtype = inputs.dtype
    x = at_least_float32(inputs)
    if (rows, columns) == (1, 1):
        return ops.cast(spatial_mean(x, keepdims=True), dtype)
    batch, height, width, channels = ops.shape(inputs)
    if inputs.shape[0] == 1 and None not in inputs.shape:
        # LiteRT's fast operators take it in int8 too, where they leave the product; its gradient
        # would be slower.
        return ops.cast(_means_of_bins(x, output_size), dtype)
    x = ops.reshape(x, (batch, height * width, channels))
    weights = ops.expand_dims(_averaging_weights(height, rows, x.dtype), (1, 3)) * ops.expand_dims(
        _averaging_weights(width, columns, x.dtype), (0, 2)
    )
    x = ops.matmul(ops.reshape(weights, (rows * columns, height * width)), x)
    return ops.cast(ops.reshape(x, (batch, rows, columns, channels)), dtype)


def average_pool(inputs, stride, window=None):
    """Averages what lies on the map of each window, as with `padding="same"`.

    Keras' own repeats the edge of a map on PyTorch where the padding is uneven.

    Args:
        inputs: float tensor `(batch, height, width, channels)`.
        stride: int or pair of int.
        window: int, pair of int or None, default None. Its sides; None: `2 * stride - 1`.
    """
    window = 2 * stride - 1 if window is None else window
    how = {"strides": stride, "padding": "same", "data_format": "channels_last"}
    if keras.backend.backend() != "torch":
        return ops.average_pool(inputs, window, **how)
    padding = [(0, 0)]
    for size, step, side in zip(inputs.shape[1:3], _pair(stride), _pair(window), strict=True):
        over = max(0, (-(-size // step) - 1) * step + side - size)
        padding.append((over // 2, over - over // 2))
    padding.append((0, 0))
    how["padding"] = "valid"
    shares = ops.average_pool(ops.pad(ops.ones_like(inputs[:1]), padding), window, **how)
    return ops.average_pool(ops.pad(inputs, padding), window, **how) / shares


def max_pool(inputs, size):
    """Returns the maxima of windows side by side, as with `padding="same"`.

    Args:
        inputs: float tensor `(batch, height, width, channels)`.
        size: int, of the windows.
    """
    if inputs.shape[0]:
        return ops.max_pool(inputs, size, size, padding="same", data_format="channels_last")
    # TensorFlow's gradient of max-pooling ends the process on a CPU where the batch is empty.
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    least = -6e4 if dtype == "float16" else -3e38
    _, height, width, channels = ops.shape(inputs)
    counts = [(side + size - 1) // size for side in (height, width)]
    over = [count * size - side for count, side in zip(counts, (height, width), strict=True)]
    beside = [(side // 2, side - side // 2) for side in over]
    x = ops.pad(inputs, [(0, 0), *beside, (0, 0)], constant_values=least)
    x = ops.reshape(x, (-1, counts[0], size, counts[1] * size, channels))
    x = _largest([x[:, :, place] for place in range(size)])
    x = ops.reshape(x, (-1, *counts, size, channels))
    return _largest([x[:, :, :, place] for place in range(size)])


def _largest(tensors):
    # Not `ops.max`, which refuses to take it of nothing.
    return functools.reduce(ops.maximum, tensors)


def _pair(side):
    return (side, side) if isinstance(side, int) else side


def resize(inputs, size):
    """Resizes a map bilinearly, the corners of its outermost positions where they were.

    Args:
        inputs: float tensor `(batch, height, width, channels)`.
        size: height and width, each an int or a scalar tensor.
    """
    how = {"interpolation": "bilinear", "data_format": "channels_last"}
    return ops.cast(ops.image.resize(inputs, size, **how), inputs.dtype)


def _means_of_bins(x, output_size):
    bins = [
        [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in zip(x.shape[1:3], output_size, strict=True)
    ]
    rows = [
        [
            ops.mean(x[:, top:bottom, left:right], axis=(1, 2), keepdims=True)
            for left, right in bins[1]
        ]
        for top, bottom in bins[0]
    ]
    return ops.concatenate([ops.concatenate(row, axis=2) for row in rows], axis=1)


def _averaging_weights(size, bins, dtype):
    """Returns the matrix `(bins, size)` that averages each bin of an axis."""
    i = ops.expand_dims(ops.arange(bins, dtype="int32"), 1)
    start = (i * size) // bins
    stop = ((i + 1) * size + bins - 1) // bins
    position = ops.expand_dims(ops.arange(size, dtype="int32"), 0)
    inside = ops.logical_and(position >= start, position < stop)
    return ops.cast(inside, dtype) / ops.cast(stop - start, dtype)
