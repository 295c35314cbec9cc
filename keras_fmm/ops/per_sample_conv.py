"""Convolutions whose kernel differs from sample to sample by a gain: `K[n] = gain[n] * K`.

Each function takes the same arguments and returns the same numbers, up to rounding:

    inputs: tensor `(batch, height, width, in_channels)`; batch, height and width may be unknown
        when traced.
    kernel: tensor `(kernel_height, kernel_width, in_channels, filters)`, shared by all samples.
    gain: tensor `(batch, kernel_height, kernel_width, groups, filters)`, where `groups` divides
        `in_channels`: entry g holds for the in_channels / groups consecutive channels from
        g * in_channels / groups on.
    strides, dilation_rate: pairs of int.
    padding: "valid" or "same", as in `keras.layers.Conv2D`; with "valid" the dilated kernel must
        not be larger than the inputs.

    Returns: tensor `(batch, out_height, out_width, filters)`.
"""

import keras
from keras import ops

from keras_fmm import checks

_PADDINGS = ("valid", "same")


def vectorized_map_conv(inputs, kernel, gain, strides, padding, dilation_rate):
    """Makes each sample's kernel and convolves it alone: the formula said plainly.

    Holds one kernel for each sample, `batch * size of kernel`. On TensorFlow the map becomes a
    while loop over the batch, since a convolution whose filter differs from sample to sample is
    not vectorised there, and its gradient cannot be compiled by XLA.

    Example:

    >>> import numpy as np
    >>> image, kernel = np.ones((2, 3, 3, 1), "float32"), np.ones((3, 3, 1, 1), "float32")
    >>> gain = np.ones((2, 3, 3, 1, 1), "float32")
    >>> gain[1] = 2.0
    >>> outputs = vectorized_map_conv(image, kernel, gain, (1, 1), "valid", (1, 1))
    >>> np.asarray(outputs).ravel().tolist()
    [9.0, 18.0]
    """
    checks.one_of("padding", padding, _PADDINGS)
    repeats = kernel.shape[2] // gain.shape[3]

    def convolve(sample):
        image, gain_of_sample = sample
        return ops.conv(
            ops.expand_dims(image, 0),
            kernel * ops.repeat(gain_of_sample, repeats, axis=2),
            strides=strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=dilation_rate,
        )[0]

    inputs, gain = ops.convert_to_tensor(inputs), ops.convert_to_tensor(gain)
    return ops.vectorized_map(convolve, (inputs, gain))


def factored_conv(inputs, kernel, gain, strides, padding, dilation_rate):
    """Takes the gain out of the sum over input channels; for `groups == 1` only.

    A gain that does not depend on the input channel commutes with the sum over them:
    `output[n] = sum over taps t of gain[n, t] * (inputs[n] shifted by t) . K[t]`. That is as many
    multiplications as a plain convolution and no kernel for each sample. Holds, beside inputs
    and outputs, one tap's window of the inputs and its product at a time; for the gradient, the
    products of all taps.

    Example:

    >>> import numpy as np
    >>> image, kernel = np.ones((1, 2, 2, 3), "float32"), np.ones((1, 1, 3, 2), "float32")
    >>> gain = np.array([1.0, 0.5], "float32").reshape(1, 1, 1, 1, 2)
    >>> outputs = factored_conv(image, kernel, gain, (2, 2), "valid", (1, 1))
    >>> np.asarray(outputs).tolist()
    [[[[3.0, 1.5]]]]
    """
    if gain.shape[3] != 1:
        raise ValueError(
            "`gain` must have one group of input channels, so that it can leave the sum over "
            f"them. Received: gain.shape={tuple(gain.shape)}. Use batched_matmul_conv."
        )
    outputs = 0
    for row, column, window in _taps(inputs, kernel.shape[:2], strides, padding, dilation_rate):
        product = ops.conv(
            window,
            kernel[row : row + 1, column : column + 1],
            padding="valid",
            data_format="channels_last",
        )
        outputs = outputs + _summand(ops.expand_dims(gain[:, row, column], 1) * product)
    return ops.cast(outputs, window.dtype)


def batched_matmul_conv(inputs, kernel, gain, strides, padding, dilation_rate):
    """Multiplies, tap by tap, each sample's window with each sample's slice of the kernel.

    Right for every `groups`, compiled by XLA and made of operators that TFLite has. Holds one
    tap's kernels, `batch * in_channels * filters`, at a time; for the gradient, those of all taps.

    Example:

    >>> import numpy as np
    >>> image = np.arange(2, dtype="float32").reshape(1, 1, 1, 2)
    >>> kernel = np.ones((1, 1, 2, 1), "float32")
    >>> gain = np.array([5.0, 7.0], "float32").reshape(1, 1, 1, 2, 1)
    >>> outputs = batched_matmul_conv(image, kernel, gain, (1, 1), "same", (1, 1))
    >>> np.asarray(outputs).ravel().tolist()
    [7.0]
    """
    gain = ops.convert_to_tensor(gain)
    repeats = kernel.shape[2] // gain.shape[3]
    outputs = 0
    for row, column, window in _taps(inputs, kernel.shape[:2], strides, padding, dilation_rate):
        kernels = kernel[row, column] * ops.repeat(gain[:, row, column], repeats, axis=1)
        batch, height, width, channels = ops.shape(window)
        window = ops.reshape(window, (batch, height * width, channels))
        product = ops.matmul(window, kernels)
        product = ops.reshape(product, (batch, height, width, kernel.shape[3]))
        outputs = outputs + _summand(product)
    return ops.cast(outputs, window.dtype)


def _summand(product):
    # The sum over taps is taken in float32 at least, as inside a convolution.
    is_half = keras.backend.standardize_dtype(product.dtype) in ("float16", "bfloat16")
    return ops.cast(product, "float32") if is_half else product


def _taps(inputs, kernel_size, strides, padding, dilation_rate):
    """Yields `(row, column, window)`: what each entry of the kernel sees, output by output.

    A window has shape `(batch, out_height, out_width, in_channels)`.
    """
    checks.one_of("padding", padding, _PADDINGS)
    inputs = ops.convert_to_tensor(inputs)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation_rate, strict=True)]
    if padding == "same":
        inputs = _pad_same(inputs, spans, strides)
    for size, span in zip(ops.shape(inputs)[1:3], spans, strict=True):
        if isinstance(size, int) and size < span:
            raise ValueError(
                "The dilated kernel must not be larger than the inputs. Received: "
                f"inputs.shape={tuple(inputs.shape)}, kernel_size={tuple(kernel_size)}, "
                f'dilation_rate={tuple(dilation_rate)}. Take `padding="same"`.'
            )
    out_height, out_width = (
        _positive_part((size - span) // stride + 1)
        for size, span, stride in zip(ops.shape(inputs)[1:3], spans, strides, strict=True)
    )
    for row in range(kernel_size[0]):
        top = row * dilation_rate[0]
        bottom = top + out_height * strides[0]
        for column in range(kernel_size[1]):
            left = column * dilation_rate[1]
            right = left + out_width * strides[1]
            yield row, column, inputs[:, top : bottom : strides[0], left : right : strides[1]]


def _pad_same(inputs, spans, strides):
    """Pads with zeros as `padding="same"` does: the odd one goes below and to the right."""
    batch, *sizes, channels = ops.shape(inputs)
    widths, padded_sizes = [(0, 0)], []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        outputs = (size + stride - 1) // stride
        total = _positive_part((outputs - 1) * stride + span - size)
        widths.append((total // 2, total - total // 2))
        padded_sizes.append(size + total)
    padded = ops.pad(inputs, [*widths, (0, 0)])
    # TFLite's converter forgets the channels where the widths of the padding are not constant.
    return ops.reshape(padded, (batch, *padded_sizes, channels))


def _positive_part(number):
    # max(number, 0) in operators that an int and a scalar tensor (an unknown size) both have.
    return (number + abs(number)) // 2
