"""Convolution of one filter, whose only output channel leaves a processor's vectors empty."""

from keras import ops


def one_filter_conv(inputs, kernel, bias=None):
    """Convolves a map with one square filter, stride 1, "same" padding.

    Where height and width are known, neighbouring columns are taken as channels: `g` positions of
    `c` channels are one of `g * c`, a reshape that moves nothing, and the filter becomes `g`
    filters over three such positions, each the same numbers one column further on. The result is
    the same; zeros are multiplied too, but there are `g` filters to fill the processor's vectors.
    `g` is from once to twice the filter's side, so that it divides the width, or else the width is
    filled up with zeros.

    Args:
        inputs: float tensor `(batch, height, width, channels)`.
        kernel: float tensor `(size, size, channels, 1)`; it is cast to the inputs' dtype.
        bias: float tensor `(1,)`, or None for zero; it is cast too.

    Returns:
        Tensor `(batch, height, width, 1)`.

    Example:

    >>> import numpy as np
    >>> row = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
    >>> np.asarray(one_filter_conv(row, np.ones((3, 3, 1, 1)))).ravel().tolist()
    [1.0, 3.0, 6.0, 5.0]
    """
    inputs = ops.convert_to_tensor(inputs)
    kernel = ops.cast(kernel, inputs.dtype)
    bias = 0.0 if bias is None else ops.cast(bias, inputs.dtype)
    _, height, width, channels = inputs.shape
    size = kernel.shape[0]
    # An unknown size is None, or an expression where JAX traces one.
    if size == 1 or not (isinstance(height, int) and isinstance(width, int)):
        return ops.conv(inputs, kernel, padding="same", data_format="channels_last") + bias
    group = next((g for g in range(size, 2 * size) if width % g == 0), size)
    missing = -width % group
    if missing:
        inputs = ops.pad(inputs, ((0, 0), (0, 0), (0, missing), (0, 0)))
    x = ops.reshape(inputs, (-1, height, (width + missing) // group, group * channels))
    x = ops.conv(x, _banded(kernel, group), padding="same", data_format="channels_last")
    # One for each filter: a single number would be an operator of its own in TFLite.
    x = x + bias * ops.ones(group, x.dtype)
    x = ops.reshape(x, (-1, height, width + missing, 1))
    return x[:, :, :width] if missing else x


def _banded(kernel, group):
    """Returns the `group` filters over three positions, `(size, 3, group * channels, group)`."""
    size, _, channels, _ = kernel.shape
    kernel = kernel[..., 0]
    # Zeros before and after the filter of the first column among the columns of three groups.
    before = group - (size - 1) // 2
    after = 3 * group - size - before
    filters = [
        ops.pad(kernel, ((0, 0), (before + column, after - column), (0, 0)))
        for column in range(group)
    ]
    x = ops.stack(filters, axis=-1)
    return ops.reshape(x, (size, 3, group * channels, group))
