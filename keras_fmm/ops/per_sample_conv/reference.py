"""Convolutions with a kernel for each sample, as the formula says it."""

from keras import ops

from keras_fmm import checks
from keras_fmm.ops.layout import conv
from keras_fmm.ops.per_sample_conv import windows
from keras_fmm.ops.sums import float_tensor


def vectorized_map_conv(inputs, kernel, gain, strides, padding, dilation_rate, bias=None):
    """Makes each sample's kernel and convolves it alone: the formula said plainly.

    Holds one kernel for each sample, `batch * size of kernel`. On TensorFlow the map becomes a
    while loop over the batch, since a convolution whose filter differs from sample to sample is
    not vectorised there, and its gradient cannot be compiled by XLA.

    Args: as of `factored_conv`, but for `one_sum`.

    Returns:
        Tensor `(batch, out_height, out_width, filters)`.

    Example:

    >>> import keras, numpy as np
    >>> image, kernel = np.ones((2, 3, 3, 1), "float32"), np.ones((3, 3, 1, 1), "float32")
    >>> gain = np.ones((2, 3, 3, 1, 1), "float32")
    >>> gain[1] = 2.0
    >>> outputs = vectorized_map_conv(image, kernel, gain, (1, 1), "valid", (1, 1))
    >>> keras.ops.convert_to_numpy(outputs).ravel().tolist()
    [9.0, 18.0]
    """
    checks.one_of("padding", padding, windows.PADDINGS)
    inputs, kernel = float_tensor("inputs", inputs), float_tensor("kernel", kernel)
    gain = float_tensor("gain", gain, rank=5)
    strides = checks.pair("strides", strides)
    dilation_rate = checks.pair("dilation_rate", dilation_rate)
    repeats = kernel.shape[2] // gain.shape[3]

    def convolve(sample):
        image, gain_of_sample = sample
        return conv(
            ops.expand_dims(image, 0),
            kernel * ops.repeat(gain_of_sample, repeats, axis=2),
            strides=strides,
            padding=padding,
            dilation_rate=dilation_rate,
        )[0]

    outputs = ops.vectorized_map(convolve, (inputs, gain))
    return outputs if bias is None else ops.add(outputs, bias)
