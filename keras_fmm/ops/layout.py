"""The order of a feature map's axes."""

import keras
from keras import ops

from keras_fmm.ops import tensorflow_gradients


def to_channels_last(inputs, data_format):
    """Returns `inputs`, laid out as `data_format` says, as `(batch, height, width, channels)`.

    Args:
        inputs: tensor of rank 4.
        data_format: "channels_last" or "channels_first", the layout of `inputs`.
    """
    return inputs if data_format == "channels_last" else ops.transpose(inputs, (0, 2, 3, 1))


def from_channels_last(inputs, data_format):
    """Returns `inputs`, `(batch, height, width, channels)`, laid out as `data_format` says.

    Args:
        inputs: tensor of rank 4.
        data_format: "channels_last" or "channels_first", the layout of the result.
    """
    return inputs if data_format == "channels_last" else ops.transpose(inputs, (0, 3, 1, 2))


def conv(inputs, kernel, **arguments):
    """Returns `ops.conv` of a channels-last map.

    PyTorch gets it channels first, since channels last it cannot be mapped over samples; the
    entries stay where they are in memory.

    Args:
        inputs: tensor `(batch, height, width, channels)`.
        kernel: tensor `(kernel_height, kernel_width, channels, filters)`.
        **arguments: those of `ops.conv`.
    """
    layout = "channels_first" if keras.backend.backend() == "torch" else "channels_last"
    inputs = from_channels_last(inputs, layout)
    return to_channels_last(ops.conv(inputs, kernel, data_format=layout, **arguments), layout)


def convolved(layer, inputs, strides=(1, 1)):
    """Returns what a convolution gives that has no bias, of a channels-last map, padded as "same".

    Of a batch without an image TensorFlow's own has the channels of the inputs, on a CPU; its
    gradients are right.

    Args:
        layer: a built layer.
        inputs: tensor `(batch, height, width, channels)`.
        strides: pair of int, default (1, 1). Those of the layer.
    """
    outputs = layer(inputs)
    if inputs.shape[0] or not tensorflow_gradients.is_native_tensorflow():
        return outputs
    batch, height, width, _ = ops.shape(inputs)
    sizes = [(side + step - 1) // step for side, step in zip((height, width), strides, strict=True)]
    shape = (batch, *sizes, layer.filters)
    return tensorflow_gradients.reshape_at_run_time(outputs, shape)
