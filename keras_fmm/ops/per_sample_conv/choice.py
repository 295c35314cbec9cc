"""Which of the implementations of a per-sample convolution is the fastest for given sizes."""

import types

import keras

from keras_fmm import checks
from keras_fmm.ops.devices import on_accelerator
from keras_fmm.ops.per_sample_conv import windows
from keras_fmm.ops.per_sample_conv.factored import factored_conv
from keras_fmm.ops.per_sample_conv.loop import loop_conv, takes_several
from keras_fmm.ops.per_sample_conv.reference import vectorized_map_conv


def fastest(
    inputs_shape,
    kernel_shape,
    gain_shape,
    strides,
    padding,
    dilation_rate,
    accelerator=None,
    dtype="float32",
):
    """Chooses the implementation by what is known when a step is traced.

    The factored form multiplies the gain with the outputs, once a tap and a group (once a group
    where all taps have one gain); the loop with the kernel, once a sample. So large maps of few
    channels are for the loop, small maps of many for the factored form. Measured with one group by
    `recipes.benchmarks.aw_conv`: training step, 3x3 kernel, batch 16, as a ratio to a plain
    convolution, loop / factored (TensorFlow 2.21 on 2 cores of an AMD EPYC, 2026-11-20, and of an
    Intel Xeon, 2026-11-28)::

        56x56x64 1.0 / 2.1    28x28x128 1.2 / 1.7    14x14x256 1.5 / 1.3    7x7x512 3.5 / 1.0
                 1.2 / 2.3              1.3 / 1.9              1.6 / 1.5            2.7 / 0.9

    The bounds lie where the two cross; `--stages` measures other sizes.

    Narrow layers are for the loop earlier, on TensorFlow in float32, where it takes several samples
    at a time: loop / factored with `--batch-size 128 --clock cpu` (the same, 2026-11-27)::

        training step    32x32x16 1.9 / 4.4    16x16x32 1.8 / 2.5    14x14x64 2.0 / 2.3
                         11x11x32 2.9 / 3.2    8x8x64 3.2 / 2.1
        inference        32x32x16 2.0 / 4.9    16x16x32 1.8 / 2.7    14x14x64 1.9 / 2.4
                         11x11x32 2.7 / 2.7    8x8x64 2.5 / 2.1

    A batch of one known when traced is how TFLite files are made. The factored form's kernel is a
    constant there, which can be quantised, the loop's product has fewer numbers to move. Loop /
    factored in LiteRT, one thread, with `--clock cpu` (the same, 2026-11-27)::

        32x32x16 2.4 / 2.8    16x16x32 1.8 / 2.2    14x14x64 1.35 / 1.35    8x8x64 2.3 / 1.2
        56x56x64 1.3 / 1.7    40x40x128 1.2 / 1.6   25x25x64 1.3 / 1.3      22x22x64 1.5 / 1.3

    A loop over samples leaves an accelerator idle. In its place goes the convolution of all samples
    at once, "vectorized_map", which holds their kernels, but on TensorFlow, where that is a loop as
    well. Measured by `recipes.benchmarks.accelerator`, the same four with batch 128, vectorized_map
    / factored (JAX 0.11 on an NVIDIA H200, 2026-11-27): 1.6 / 4.8, 2.0 / 4.3, 6.7 / 2.9 and
    22 / 2.4, which cross where those of the CPU do.

    So it is on PyTorch on a CPU, where it is one convolution of many groups.

    Where the sizes are not known the factored form is taken.

    Args:
        inputs_shape: tuple `(batch, height, width, channels)`, None where unknown when traced.
        kernel_shape: tuple `(kernel_height, kernel_width, in_channels, filters)`.
        gain_shape: tuple `(batch, kernel_height or 1, kernel_width or 1, groups, filters)`.
        strides: pair of int, as for the convolutions.
        padding: str, as for the convolutions.
        dilation_rate: pair of int, as for the convolutions.
        accelerator: bool or None, default None (asks Keras). Whether it runs on a GPU or TPU.
        dtype: str, default "float32". Of inputs and kernel.

    Returns:
        str, a key of `IMPLEMENTATIONS`.

    Example:

    >>> gain_shape = (None, 3, 3, 1, 64)
    >>> shape, on_cpu = (None, 56, 56, 64), {"accelerator": False}
    >>> fastest(shape, (3, 3, 64, 64), gain_shape, (1, 1), "same", (1, 1), **on_cpu) == "factored"
    False
    >>> fastest((None, 7, 7, 512), (3, 3, 512, 64), gain_shape, (1, 1), "same", (1, 1))
    'factored'
    """
    if accelerator is not None:
        accelerator = checks.flag("accelerator", accelerator)
    batch, *sizes, channels = inputs_shape
    _, *gains, groups, _ = gain_shape
    if groups == 1 and gains == [1, 1]:
        # A plain convolution, whose outputs are multiplied.
        return "factored"
    if accelerator is None:
        accelerator = on_accelerator()
    backend = keras.backend.backend()
    # What makes each sample's kernel.
    by_sample = "loop"
    if backend == "torch" or (accelerator and backend != "tensorflow"):
        by_sample = "vectorized_map"
    if (accelerator and backend == "tensorflow") or None in sizes:
        return "factored" if groups < 8 else by_sample
    height, width = windows.axes(inputs_shape, kernel_shape[:2], strides, padding, dilation_rate)
    met_by_factored = height.outputs * width.outputs * groups
    if gains == [1, 1]:
        # Once a group, not once a tap.
        met_by_factored /= height.kernel * width.kernel
    if batch == 1 and groups == 1:
        bound = max(80, min(channels**2 / 7, 8 * channels))
        return by_sample if met_by_factored > bound else "factored"
    bound = max(500, channels)
    if takes_several(inputs_shape, kernel_shape, strides, padding, dilation_rate, dtype):
        bound = max(120, 3 * channels)
    return by_sample if met_by_factored > bound else "factored"


# For `AWConv2D`, by name.
IMPLEMENTATIONS = types.MappingProxyType(
    {"factored": factored_conv, "loop": loop_conv, "vectorized_map": vectorized_map_conv}
)
