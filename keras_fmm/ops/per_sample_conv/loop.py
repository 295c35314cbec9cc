"""The per-sample convolution as a loop over the samples."""

import functools
import math

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.ops import tensorflow_gradients
from keras_fmm.ops.devices import on_accelerator
from keras_fmm.ops.per_sample_conv import windows
from keras_fmm.ops.sums import at_least_float32, float_tensor, total

# Up to so many numbers in a sample's outputs, and in its kernel, so many samples go side by side.
_SMALL = 40_000
_TOGETHER = 16


def takes_several(inputs_shape, kernel_shape, strides, padding, dilation_rate, dtype):
    """Whether `loop_conv` convolves several small samples in one call, side by side in channels.

    A call takes time of its own, and a small sample does not keep two cores busy. On TensorFlow on
    a CPU alone, in float32: other floats are not with oneDNN, or not on every CPU.

    Args:
        inputs_shape: tuple `(batch, height, width, channels)`, None where unknown.
        kernel_shape: tuple `(kernel_height, kernel_width, in_channels, filters)`.
        strides, padding, dilation_rate: as for the convolutions.
        dtype: str. Of the inputs.
    """
    if dtype != "float32" or not tensorflow_gradients.is_native_tensorflow() or on_accelerator():
        return False
    if inputs_shape[0] == 1 or not all(isinstance(size, int) for size in inputs_shape[1:3]):
        return False
    axes = windows.axes(inputs_shape, kernel_shape[:2], strides, padding, dilation_rate)
    outputs = math.prod(axis.outputs for axis in axes) * kernel_shape[3]
    is_small = max(outputs, math.prod(kernel_shape)) <= _SMALL
    return is_small and tensorflow_gradients.differentiates_grouped_convs()


def loop_conv(inputs, kernel, gain, strides, padding, dilation_rate, bias=None):
    """Makes each sample's kernel, convolves with it, and forgets it, one sample after another.

    Holds two samples' kernels at a time, for the gradient too, which makes them again. The gain
    meets the kernel, so that its cost grows with the kernel's size and not with the inputs'.

    Each sample is a plain convolution on TensorFlow; of small ones, see `takes_several`, sixteen
    are one convolution of as many groups, and 32 kernels of at most 160 kB are held. Under XLA, in
    whose loops a convolution's gradient is very slow on a CPU, on JAX, and with a batch of one
    known when traced, which is how TFLite files are made (a filter that is not constant is slow
    there), it is a matrix product over the columns of the kernel.

    Its gradient is written by hand on TensorFlow. Therefore forward-mode differentiation
    (`tf.autodiff.ForwardAccumulator`) fails there, and so does a tape's `jacobian` without
    `experimental_use_pfor=False`; second derivatives are right but under XLA, which refuses to
    compile them.

    Args: as of `factored_conv`, but for `one_sum`.

    Returns:
        Tensor `(batch, out_height, out_width, filters)`.

    Example:

    >>> import keras, numpy as np
    >>> image = np.arange(2, dtype="float32").reshape(1, 1, 1, 2)
    >>> kernel = np.ones((1, 1, 2, 1), "float32")
    >>> gain = np.array([5.0, 7.0], "float32").reshape(1, 1, 1, 2, 1)
    >>> outputs = loop_conv(image, kernel, gain, (1, 1), "same", (1, 1))
    >>> keras.ops.convert_to_numpy(outputs).ravel().tolist()
    [7.0]
    """
    inputs, kernel = float_tensor("inputs", inputs), float_tensor("kernel", kernel)
    gain = float_tensor("gain", gain, rank=5)
    strides = checks.pair("strides", strides)
    dilation_rate = checks.pair("dilation_rate", dilation_rate)
    height, width = windows.axes(
        ops.shape(inputs), kernel.shape[:2], strides, padding, dilation_rate
    )
    how = {
        "strides": tuple(strides),
        "padding": padding,
        "dilation_rate": tuple(dilation_rate),
    }
    shared = [kernel] if bias is None else [kernel, ops.convert_to_tensor(bias)]
    if inputs.shape[0] == 1:
        return _convolve_by_columns(inputs, gain, *shared, **how)
    if keras.backend.backend() != "tensorflow":
        by_columns = functools.partial(_convolve_by_columns, **how)

        def convolve(sample):
            alone = (ops.expand_dims(x, 0) for x in sample)
            return keras.remat(by_columns)(*alone, *shared)[0]

        return ops.map(convolve, (inputs, gain))
    output_shape = (height.outputs, width.outputs, kernel.shape[3])
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    function, together = _convolve, 1
    if tensorflow_gradients.compiled_by_xla():
        function = _convolve_by_columns
    elif takes_several(inputs.shape, kernel.shape, strides, padding, dilation_rate, dtype):
        together = _TOGETHER
    return tensorflow_gradients.map_samples(
        functools.partial(function, **how),
        [inputs, gain],
        shared,
        output_shape,
        together=together,
    )


def _convolve(images, gain, kernel, bias=None, *, strides, padding, dilation_rate):
    """Convolves images with their kernels, each a group of the channels of one convolution.

    Args:
        images: tensor `(images, height, width, in_channels)`.
        gain: tensor `(images, kernel_height, kernel_width, groups, filters)`, or with 1 in the
            place of the kernel's sides.
        kernel: tensor `(kernel_height, kernel_width, in_channels, filters)`.
        bias: tensor `(filters,)` or None.

    Returns:
        Tensor `(images, out_height, out_width, filters)`.
    """
    count, height, width, channels = ops.shape(images)
    *kernel_size, _, filters = kernel.shape
    _, *sides, groups, _ = gain.shape
    kernels = ops.reshape(kernel, (*kernel_size, groups, channels // groups, filters))
    gain = ops.reshape(ops.transpose(gain, (1, 2, 3, 0, 4)), (*sides, groups, 1, count * filters))
    kernels = ops.tile(kernels, (1, 1, 1, 1, count)) * gain
    outputs = tensorflow_gradients.grouped_conv(
        ops.reshape(ops.transpose(images, (1, 2, 0, 3)), (1, height, width, count * channels)),
        ops.reshape(kernels, (*kernel_size, channels, count * filters)),
        strides,
        padding,
        dilation_rate,
    )
    _, height, width, _ = ops.shape(outputs)
    outputs = ops.transpose(ops.reshape(outputs, (height, width, count, filters)), (2, 0, 1, 3))
    return outputs if bias is None else ops.add(outputs, bias)


def _convolve_by_columns(image, gain, kernel, bias=None, *, strides, padding, dilation_rate):
    """Does what `_convolve` does for one image, with matrix products.

    What the kernel's columns see goes side by side into the channels; a product with all rows of
    the kernel gives, at each row of the image, what it adds to several rows of the outputs. With
    a stride, the rows of the kernel that see the same rows of the image are taken together.

    The shapes are those that LiteRT's fast operators take: rank 4 at most, the batch kept, slices
    without strides where there are none.
    """
    axes = windows.axes(ops.shape(image), kernel.shape[:2], strides, padding, dilation_rate)
    image, height, width = windows.pad(image, *axes)
    rows, columns, channels, filters = kernel.shape
    seen = [_seen_by_column(image, width, column) for column in range(columns)]
    seen = ops.concatenate(seen, axis=-1)
    groups = columns * gain.shape[3]
    depth = columns * channels
    kernel = ops.transpose(ops.reshape(kernel, (rows, depth, filters)), (1, 0, 2))
    kernel = ops.reshape(kernel, (groups, depth // groups, rows, filters))
    gain = ops.broadcast_to(gain, (1, rows, columns, *gain.shape[3:]))
    gain = ops.transpose(ops.reshape(gain, (rows, groups, filters)), (1, 0, 2))
    kernel = kernel * ops.reshape(gain, (groups, 1, rows, filters))
    parts = []
    for phase in range(height.stride):
        taken = [row for row in range(rows) if row * height.dilation % height.stride == phase]
        if not taken:
            continue
        strip, weights = seen, kernel
        if height.stride > 1:
            # The rows taken are evenly spaced.
            step = taken[1] - taken[0] if len(taken) > 1 else 1
            strip = seen[:, phase :: height.stride]
            weights = kernel[:, :, taken[0] : taken[-1] + 1 : step]
        count = ops.shape(strip)[1]
        strip = ops.reshape(strip, (1, count * width.outputs, depth))
        found = ops.matmul(strip, ops.reshape(weights, (1, depth, len(taken) * filters)))
        found = ops.reshape(found, (1, count, width.outputs, len(taken) * filters))
        for place, row in enumerate(taken):
            top = row * height.dilation // height.stride
            size = (1, height.outputs, width.outputs, filters)
            part = windows.part(found, (0, top, 0, place * filters), size)
            parts.append(at_least_float32(part))
    outputs = total(parts)
    if bias is not None:
        outputs = outputs + ops.cast(bias, outputs.dtype)
    return ops.cast(outputs, kernel.dtype)


def _seen_by_column(image, width, column):
    """Returns what one column of the kernel sees, `(1, height, out_width, channels)`."""
    left = column * width.dilation
    if width.stride > 1:
        return image[:, :, left : left + width.outputs * width.stride : width.stride]
    _, height, _, channels = ops.shape(image)
    return windows.part(image, (0, 0, left, 0), (1, height, width.outputs, channels))
