"""Convolutions whose kernel differs from sample to sample by a gain: `K[n] = gain[n] * K`.

Each function takes the same arguments and returns the same numbers, up to rounding:

    inputs: tensor `(batch, height, width, in_channels)`; batch, height and width may be unknown
        when traced.
    kernel: tensor `(kernel_height, kernel_width, in_channels, filters)`, shared by all samples.
    gain: tensor `(batch, kernel_height, kernel_width, groups, filters)`, where `groups` divides
        `in_channels`: entry g holds for the in_channels / groups consecutive channels from
        g * in_channels / groups on. Both sides of the kernel may be 1 instead: the same gain for
        all entries of the kernel.
    strides, dilation_rate: pairs of int.
    padding: "valid" or "same", as in `keras.layers.Conv2D`; with "valid" the dilated kernel must
        not be larger than the inputs.
    bias: tensor `(filters,)` that is added, or None.

    Returns: tensor `(batch, out_height, out_width, filters)`.
"""

import types

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.ops import windows
from keras_fmm.ops.factored_conv import factored_conv
from keras_fmm.ops.loop_conv import loop_conv


def vectorized_map_conv(inputs, kernel, gain, strides, padding, dilation_rate, bias=None):
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
    checks.one_of("padding", padding, windows.PADDINGS)
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
    outputs = ops.vectorized_map(convolve, (inputs, gain))
    return outputs if bias is None else ops.add(outputs, bias)


def fastest(
    inputs_shape, kernel_shape, gain_shape, strides, padding, dilation_rate, accelerator=None
):
    """Chooses the implementation by what is known when a step is traced.

    The factored form multiplies the gain with the outputs, once a tap and a group (once a group
    where all taps have one gain); the loop with the kernel, once a sample. So large maps of few
    channels are for the loop, small maps of many for the factored form. Measured with one group by
    the recipe `benchmark_aw_conv`: training step, 3x3 kernel, batch 16, as a ratio to a plain
    convolution, loop / factored (TensorFlow 2.21 on 2 cores of an AMD EPYC, 2026-11-20):

        56x56x64 1.0 / 2.1    28x28x128 1.2 / 1.7    14x14x256 1.5 / 1.3    7x7x512 3.5 / 1.0

    The bounds lie where the two cross; `--stages` measures other sizes.

    A batch of one known when traced is how TFLite files are made. There the factored form, whose
    kernel is a constant that can be quantised, is taken unless it is much slower: in LiteRT, one
    thread, the same four give 1.4 / 1.6, 1.2 / 1.3, 1.4 / 1.1 and 2.5 / 1.0.

    Accelerators were not measured: a loop over samples leaves them idle, so that the factored form
    is taken there, and where the sizes are not known.

    Args:
        inputs_shape: tuple `(batch, height, width, channels)`, None where unknown when traced.
        kernel_shape: tuple `(kernel_height, kernel_width, in_channels, filters)`.
        gain_shape: tuple `(batch, kernel_height or 1, kernel_width or 1, groups, filters)`.
        strides, padding, dilation_rate: as for the convolutions.
        accelerator: bool, whether it runs on a GPU or TPU, or None to ask Keras.

    Returns:
        str, a key of `IMPLEMENTATIONS`.

    Example:

    >>> gain_shape = (None, 3, 3, 1, 64)
    >>> fastest((None, 56, 56, 64), (3, 3, 64, 64), gain_shape, (1, 1), "same", (1, 1))
    'loop'
    >>> fastest((None, 7, 7, 512), (3, 3, 512, 64), gain_shape, (1, 1), "same", (1, 1))
    'factored'
    """
    batch, *sizes, channels = inputs_shape
    _, *gains, groups, _ = gain_shape
    if groups == 1 and gains == [1, 1]:
        # A plain convolution, whose outputs are multiplied.
        return "factored"
    if accelerator is None:
        accelerator = not keras.distribution.list_devices()[0].startswith("cpu")
    if accelerator or None in sizes:
        return "factored" if groups < 8 else "loop"
    height, width = windows.axes(inputs_shape, kernel_shape[:2], strides, padding, dilation_rate)
    met_by_factored = height.outputs * width.outputs * groups
    if gains == [1, 1]:
        # Once a group, not once a tap.
        met_by_factored /= height.kernel * width.kernel
    if batch == 1 and groups == 1:
        return "loop" if met_by_factored > max(2000, 16 * channels) else "factored"
    return "loop" if met_by_factored > max(500, channels) else "factored"


# For `AWConv2D`, by name.
IMPLEMENTATIONS = types.MappingProxyType(
    {"factored": factored_conv, "loop": loop_conv, "vectorized_map": vectorized_map_conv}
)
