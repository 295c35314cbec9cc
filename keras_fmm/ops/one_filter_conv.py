"""Convolution of one filter, whose only output channel leaves a processor's vectors empty."""

import keras
import numpy as np
from keras import ops

from keras_fmm.ops.devices import on_accelerator
from keras_fmm.ops.layout import conv
from keras_fmm.ops.sums import at_least_float32, float_tensor, is_half

# In training, columns are grouped in wider maps than this.
_NARROW = 16


def one_filter_conv(inputs, kernel, bias=None):
    """Convolves a map with one square filter, stride 1, "same" padding.

    Where height and width are known, neighbouring columns are taken as channels: `g` positions of
    `c` channels are one of `g * c`, a reshape that moves nothing, and the filter becomes `g`
    filters over three such positions, each the same numbers one column further on. The result is
    the same for finite inputs; zeros are multiplied too, but there are `g` filters to fill the
    processor's vectors. `g` is half the filter's side, rounded up, to which the width is filled up
    with zeros; a map as wide as the filter or narrower is one position.

    Args:
        inputs: float tensor `(batch, height, width, channels)`.
        kernel: float tensor `(size, size, channels, 1)`; it is cast to the inputs' dtype.
        bias: float tensor `(1,)` or None, default None (zero). What is added; it is cast too.

    Returns:
        Tensor `(batch, height, width, 1)`.

    Example:

    >>> import keras, numpy as np
    >>> row = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
    >>> keras.ops.convert_to_numpy(one_filter_conv(row, np.ones((3, 3, 1, 1)))).ravel().tolist()
    [1.0, 3.0, 6.0, 5.0]
    """
    inputs = float_tensor("inputs", inputs)
    if keras.backend.backend() == "torch" and is_half(inputs) and not on_accelerator():
        # In float16 PyTorch has no gradient of one filter there.
        outputs = one_filter_conv(at_least_float32(inputs), kernel, bias)
        return ops.cast(outputs, inputs.dtype)
    kernel = ops.cast(kernel, inputs.dtype)
    bias = None if bias is None else ops.cast(bias, inputs.dtype)
    batch, height, width, channels = inputs.shape
    if batch == 0:
        # TensorFlow's convolution on a CPU gives no image the inputs' shape.
        x = ops.sum(inputs, axis=-1, keepdims=True) * ops.sum(kernel)
        return x if bias is None else x + bias
    size = kernel.shape[0]
    # An unknown size is None, or an expression where JAX traces one.
    is_known = isinstance(height, int) and isinstance(width, int)
    # A narrow map takes no longer without, and fewer operators; but in LiteRT, whose files are made
    # for a batch of one, it does.
    if size == 1 or not is_known or (width <= _NARROW and inputs.shape[0] != 1):
        x = conv(inputs, kernel, padding="same")
        return x if bias is None else x + bias
    # The fewest that reach no further than the next position. More would be no faster in float32,
    # and TFLite's "dynamic" files round kernels of more than 1024 numbers, as from size 9 on.
    group = width if width <= size else size // 2 + 1
    missing = -width % group
    groups = (width + missing) // group
    banded = _banded(kernel, group, positions=1 if groups == 1 else 3)
    if missing:
        inputs = ops.pad(inputs, ((0, 0), (0, 0), (0, missing), (0, 0)))
    x = ops.reshape(inputs, (-1, height, groups, group * channels))
    x = conv(x, banded, padding="same")
    if bias is not None:
        # One for each filter: a single number would be an operator of its own in TFLite.
        x = x + bias * ops.ones(group, x.dtype)
    x = ops.reshape(x, (-1, height, width + missing, 1))
    return x[:, :, :width] if missing else x


def _banded(kernel, group, positions):
    """Returns a filter for each column of a group, over an odd number of positions around it.

    `(size, positions, group * channels, group)`
    """
    size, _, channels, _ = kernel.shape
    # Where each tap of a row of the filter goes. As a product, it is one operator in its gradient
    # too.
    places = np.zeros((size, channels, positions * group, channels, group))
    first = positions // 2 * group - (size - 1) // 2
    for tap in range(size):
        for column in range(group):
            position = first + column + tap
            if 0 <= position < positions * group:
                places[tap, range(channels), position, range(channels), column] = 1
    places = ops.convert_to_tensor(places.reshape(size * channels, -1), kernel.dtype)
    filters = ops.matmul(ops.reshape(kernel, (size, size * channels)), places)
    # PyTorch's product of float64 is float32 (Keras 3.15.1).
    filters = ops.cast(filters, kernel.dtype)
    return ops.reshape(filters, (size, positions, group * channels, group))
