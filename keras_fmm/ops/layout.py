"""The order of a feature map's axes."""

from keras import ops


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
