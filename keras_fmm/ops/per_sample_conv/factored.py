"""The per-sample convolution with the gain taken out of the sum over input channels."""

import functools
import itertools

from keras import ops

from keras_fmm import checks
from keras_fmm.ops import tensorflow_gradients
from keras_fmm.ops.layout import conv
from keras_fmm.ops.per_sample_conv import windows
from keras_fmm.ops.sums import at_least_float32, float_tensor, is_half, total

# A sample's outputs of more numbers than this are worth some time not to be held once a tap.
_LARGE = 40_000


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
    time; for the gradient, those of all taps and groups. Of large maps of known size, in float32 or
    float64, TensorFlow holds neither where XLA does not compile it: of twice as many positions as a
    group has channels, or of half as many where a sample has more than 40,000 outputs.

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
    phases, taps = windows.taps(inputs, height, width)
    # One tensor a tap, without a copy on TensorFlow.
    kernels = ops.unstack(ops.reshape(kernel, (rows * columns, channels, filters)), rows * columns)
    gains = ops.unstack(ops.reshape(gain, (-1, rows * columns, 1, filters)), axis=1)
    # What of these a tap takes.
    count = len(phases)
    places = [(tap.phase, count + tap.index, count + len(kernels) + tap.index) for tap in taps]

    def summed(*tensors):
        found = []
        pairs = zip(taps, places, strict=True)
        for _, of_row in itertools.groupby(pairs, lambda pair: pair[0].index // columns):
            products = []
            for tap, taken in of_row:
                product = _product(tap, *(tensors[place] for place in taken))
                products.append(_padded(product, (0, 0), tap.columns))
            # The taps of a row of the kernel are for the same rows of the outputs.
            found.append(_padded(total(products), tap.rows, (0, 0)))
        return total(found)

    tensors = [*phases, *kernels, *gains]
    if not _gradient_by_samples(inputs, kernel, gain, height.outputs, width.outputs):
        return summed(*tensors)
    gradients = [functools.partial(_of_product, tap) for tap in taps]
    return tensorflow_gradients.sum_of_parts(summed, gradients, places, tensors)


def _gradient_by_samples(inputs, kernel, gain, rows, columns):
    """Whether the gradient is taken by those of the samples' kernels, see `_of_product`.

    It is faster where a map is at least twice as large as a tap of the kernel. Down to half as
    large it is a little slower, and worth that where the maps that it does not hold take much
    memory. On TensorFlow alone, where nothing else says what is held. Not in half precision: in
    float16 the kernels' gradients may overflow before they meet gain and kernel.
    """
    if not tensorflow_gradients.is_native_tensorflow():
        return False
    if is_half(kernel) or not inputs.dtype == kernel.dtype == gain.dtype:
        return False
    if not isinstance(rows, int) or not isinstance(columns, int):
        return False
    *_, channels, filters = kernel.shape
    positions = rows * columns
    if positions >= 2 * channels:
        return True
    return 2 * positions >= channels and positions * filters > _LARGE


def _product(tap, phase, kernel, gain):
    """Returns what a tap adds to those outputs that it is for."""
    channels, filters = kernel.shape
    window = windows.part(phase, tap.start, tap.size)
    batch, *sizes, _ = ops.shape(window)
    product = ops.matmul(ops.reshape(window, (-1, channels)), kernel)
    product = ops.reshape(product, (batch, sizes[0] * sizes[1], filters)) * gain
    return at_least_float32(ops.reshape(product, (batch, *sizes, filters)))


def _of_product(tap, phase, kernel, gain, upstream):
    """Returns the gradients of what `_product` takes, by those of the kernels `gain * kernel`.

    A product of a window and the outputs' gradient for each sample gives both kernel's and gain's,
    without the tap's product.
    """
    channels, filters = kernel.shape
    batch, rows, columns, _ = tap.size
    positions = rows * columns
    upstream = windows.part(
        upstream, (0, tap.rows[0], tap.columns[0], 0), (batch, rows, columns, filters)
    )
    upstream = ops.reshape(upstream, (-1, positions, filters))
    window = windows.part(phase, tap.start, tap.size)
    window = ops.reshape(window, (-1, positions, channels))
    of_kernels = ops.matmul(ops.transpose(window, (0, 2, 1)), upstream)
    of_gain = ops.sum(of_kernels * kernel, axis=1, keepdims=True)
    of_kernel = ops.sum(of_kernels * gain, axis=0)
    upstream = ops.reshape(upstream * gain, (-1, filters))
    of_window = ops.matmul(upstream, ops.transpose(kernel))
    of_window = ops.reshape(of_window, (-1, rows, columns, channels))
    _, top, left, _ = tap.start
    below, right = phase.shape[1] - top - rows, phase.shape[2] - left - columns
    of_phase = _padded(of_window, (top, below), (left, right))
    return of_phase, of_kernel, of_gain


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
    phases, taps = windows.taps(inputs, *axes)
    for tap in taps:
        if tap.index in met:
            window = windows.part(phases[tap.phase], tap.start, tap.size)
            product = ops.matmul(ops.reshape(window, (-1, channels)), kernels[tap.index])
            product = ops.reshape(product, (-1, 1, sizes[0] * sizes[1], filters))
            products.append(product * gain[:, tap.index : tap.index + 1])
    products = at_least_float32(ops.concatenate(products, axis=1))
    ones = ops.ones((products.shape[1], 1, filters, 1), products.dtype)
    summed = ops.depthwise_conv(products, ones, padding="valid", data_format="channels_last")
    return ops.reshape(summed, (-1, *sizes, filters))


def _padded(product, rows, columns):
    return ops.pad(product, ((0, 0), rows, columns, (0, 0))) if any(rows + columns) else product
