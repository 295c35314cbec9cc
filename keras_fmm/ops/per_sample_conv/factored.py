"""The per-sample convolution with the gain taken out of the sum over input channels."""

from keras import ops

from keras_fmm import checks
from keras_fmm.ops.layout import conv
from keras_fmm.ops.per_sample_conv import windows
from keras_fmm.ops.sums import at_least_float32, float_tensor, total


def factored_conv(
    inputs, kernel, gain, strides, padding, dilation_rate, bias=None, *, one_sum=False
):
    """Takes the gain out of the sum over the input channels of a group.

    A gain that does not depend on the input channel commutes with the sum over them:
    `output[n] = sum over taps t of gain[n, t] * (inputs[n] shifted by t) . K[t]`, and so for each
    group of channels that the gain tells apart. That is as many multiplications as a plain
    convolution and no kernel for each sample. The gain meets each tap's product, so that its cost
    grows with the outputs' size and the number of groups and not with the kernel's size. Where a
    tap falls on the zeros of the padding nothing is multiplied, if that is worth it. A gain that
    is the same for all taps meets the outputs of a plain convolution.

    Holds, beside inputs and outputs, a row of taps' windows of the inputs and their products at a
    time; for the gradient, those of all taps and groups.

    Args:
        inputs: tensor `(batch, height, width, in_channels)`. All but the channels may be unknown
            when traced.
        kernel: tensor `(kernel_height, kernel_width, in_channels, filters)`. Shared by all samples.
        gain: tensor `(batch, kernel_height, kernel_width, groups, filters)`. What each sample's
            kernel is multiplied by. `groups` divides `in_channels`: entry g holds for
            `in_channels / groups` consecutive channels. Both sides of the kernel may be 1 instead:
            the same gain for all entries of the kernel.
        strides: pair of int. By how much the kernel moves.
        padding: "valid" or "same". With "valid" the dilated kernel must not be larger than the
            inputs.
        dilation_rate: pair of int. How far the kernel's entries are apart.
        bias: tensor `(filters,)` or None, default None. What is added.
        one_sum: bool, default False. Whether the taps of a group are summed in one operator, a
            depthwise convolution of ones, also if there is but one. In an int8 TFLite file that
            sum is taken in int32 and rounded once, and a bias, a batch norm and a ReLU that follow
            go into it, where sums of pairs would be rounded one by one; in floats it is slower,
            and it holds the products of all taps at a time.

    Returns:
        Tensor `(batch, out_height, out_width, filters)`.

    Example:

    >>> import keras, numpy as np
    >>> image, kernel = np.ones((1, 2, 2, 3), "float32"), np.ones((1, 1, 3, 2), "float32")
    >>> gain = np.array([1.0, 0.5], "float32").reshape(1, 1, 1, 1, 2)
    >>> outputs = factored_conv(image, kernel, gain, (2, 2), "valid", (1, 1))
    >>> keras.ops.convert_to_numpy(outputs).tolist()
    [[[[3.0, 1.5]]]]
    """
    one_sum = checks.flag("one_sum", one_sum)
    checks.one_of("padding", padding, windows.PADDINGS)
    inputs, kernel = float_tensor("inputs", inputs), float_tensor("kernel", kernel)
    gain = float_tensor("gain", gain, rank=5)
    strides = checks.pair("strides", strides)
    dilation_rate = checks.pair("dilation_rate", dilation_rate)
    is_empty = inputs.shape[0] == 0
    if is_empty:
        # Without the plain convolution: TensorFlow's on a CPU gives no image the inputs' shape.
        gain = ops.broadcast_to(gain, (0, *kernel.shape[:2], *gain.shape[3:]))
    if tuple(gain.shape[1:3]) == (1, 1) and not is_empty:
        # A gain for all taps of a group meets the group's outputs.
        convolve = _plain_and_summed if one_sum else _plain
    else:
        convolve = _by_taps_summed_once if one_sum else _by_taps
    groups = gain.shape[3]
    of_groups = [(inputs, kernel, gain)]
    if groups > 1:
        split = (ops.split(x, groups, axis) for x, axis in ((inputs, 3), (kernel, 2), (gain, 3)))
        of_groups = zip(*split, strict=True)
    outputs = total([convolve(*args, strides, padding, dilation_rate) for args in of_groups])
    if bias is not None:
        # Not "+", whose gradient has more operators on TensorFlow.
        outputs = ops.add(outputs, ops.cast(bias, outputs.dtype))
    return ops.cast(outputs, kernel.dtype)


def _plain(inputs, kernel, gain, strides, padding, dilation_rate):
    """Convolves, then multiplies with a gain `(batch, 1, 1, 1, filters)`."""
    outputs = conv(
        inputs,
        kernel,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
    )
    # Not an index, which LiteRT's fast operators do not take from a tensor of rank 5.
    gain = ops.reshape(gain, (-1 if gain.shape[0] is None else gain.shape[0], 1, 1, gain.shape[4]))
    return at_least_float32(outputs * gain)


def _plain_and_summed(*args):
    """Does what `_plain` does, with a depthwise convolution of one tap, see `one_sum`."""
    outputs = _plain(*args)
    ones = ops.ones((1, 1, outputs.shape[-1], 1), outputs.dtype)
    return ops.depthwise_conv(outputs, ones, padding="valid", data_format="channels_last")


def _by_taps(inputs, kernel, gain, strides, padding, dilation_rate):
    """Sums the taps' products with their gains `(batch, rows, columns, 1, filters)`."""
    rows, columns, channels, filters = kernel.shape
    height, width = windows.axes(
        ops.shape(inputs), (rows, columns), strides, padding, dilation_rate
    )
    # One tensor a tap, without a copy on TensorFlow.
    kernels = ops.unstack(ops.reshape(kernel, (rows * columns, channels, filters)), rows * columns)
    gains = ops.unstack(ops.reshape(gain, (-1, rows * columns, 1, filters)), axis=1)
    found = []
    for rows_beside, entries in windows.taps(inputs, height, width):
        products = []
        for tap, window, columns_beside in entries:
            batch, *sizes, _ = ops.shape(window)
            product = ops.matmul(ops.reshape(window, (-1, channels)), kernels[tap])
            product = ops.reshape(product, (batch, sizes[0] * sizes[1], filters)) * gains[tap]
            product = at_least_float32(ops.reshape(product, (batch, *sizes, filters)))
            products.append(_padded(product, (0, 0), columns_beside))
        found.append(_padded(total(products), rows_beside, (0, 0)))
    return total(found)


def _by_taps_summed_once(inputs, kernel, gain, strides, padding, dilation_rate):
    """Does what `_by_taps` does with one operator for all sums."""
    rows, columns, channels, filters = kernel.shape
    axes = windows.axes(ops.shape(inputs), (rows, columns), strides, padding, dilation_rate)
    # What meets only zeros would have no range, and integers that LiteRT refuses. A kernel with
    # gaps may meet nothing else.
    met = windows.met(*axes) or {0}
    # With its zeros, so that all windows have the outputs' size.
    inputs, *axes = windows.pad(inputs, *axes)
    sizes = [axis.outputs for axis in axes]
    kernels = ops.unstack(ops.reshape(kernel, (rows * columns, channels, filters)), rows * columns)
    gain = ops.reshape(gain, (-1, rows * columns, 1, filters))
    products = []
    for _, entries in windows.taps(inputs, *axes):
        for tap, window, _ in entries:
            if tap in met:
                product = ops.matmul(ops.reshape(window, (-1, channels)), kernels[tap])
                product = ops.reshape(product, (-1, 1, sizes[0] * sizes[1], filters))
                products.append(product * gain[:, tap : tap + 1])
    products = at_least_float32(ops.concatenate(products, axis=1))
    ones = ops.ones((products.shape[1], 1, filters, 1), products.dtype)
    summed = ops.depthwise_conv(products, ones, padding="valid", data_format="channels_last")
    return ops.reshape(summed, (-1, *sizes, filters))


def _padded(product, rows, columns):
    return ops.pad(product, ((0, 0), rows, columns, (0, 0))) if any(rows + columns) else product
