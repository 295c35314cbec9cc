"""The blocks that the backbones share; each layer's name begins with its block's."""

import dataclasses
import typing

import keras

from keras_fmm import checks
from keras_fmm.layers import MultiplicativeResidual, get_convolution, get_gate
from keras_fmm.models.backbone import channel_axis

RESIDUALS = ("add", "multiply")


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a user chooses of a backbone, and what its family fixes.

    Args:
        attention: as of `layers.get_gate`; stands at the end of each residual branch, or after
            each half of a separable block.
        convolution: as of `layers.get_convolution`.
        residual: "add" or "multiply".
        epsilon: float, of the batch norms.
        activation: a layer's class, or a callable with `name`, that follows a batch norm.
    """

    attention: typing.Any = None
    convolution: typing.Any = None
    residual: str = "add"
    epsilon: float = 1e-5
    activation: typing.Callable = keras.layers.ReLU

    def __post_init__(self):
        checks.one_of("residual", self.residual, RESIDUALS)
        # Says what is wrong before anything is built.
        get_gate(self.attention)
        get_convolution(self.convolution)

    def batch_norm(self, x, name):
        # PyTorch's momentum, and that of AWConv2D; Keras' 0.99 lags behind a short training.
        layer = keras.layers.BatchNormalization(
            axis=channel_axis(), momentum=0.9, epsilon=self.epsilon, name=name
        )
        return layer(x)

    def chosen_convolution(self, x, filters, kernel_size, name, strides=1):
        """Convolves without bias (a batch norm follows), "same", with what the user chose."""
        return get_convolution(self.convolution)(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding="same",
            use_bias=False,
            name=name,
        )(x)

    def gate(self, x, name):
        gate = get_gate(self.attention, name=name)
        return x if gate is None else gate(x)

    def merge(self, branch, shortcut, name):
        """Returns branch and shortcut as one, by a layer `name_add` or `name_multiply`."""
        kind = keras.layers.Add if self.residual == "add" else MultiplicativeResidual
        return kind(name=f"{name}_{self.residual}")([branch, shortcut])


def convolution(x, filters, kernel_size, name, strides=1, padding="same"):
    """Convolves plainly, without bias."""
    layer = keras.layers.Conv2D(
        filters, kernel_size, strides=strides, padding=padding, use_bias=False, name=name
    )
    return layer(x)


def bottleneck_block(x, filters, strides, name, parts):
    """ResNet's block of 1x1, 3x3 and 1x1 convolutions, version 1: the stride is in the first."""
    shortcut = _subsampled(x, strides, name)
    y = convolution(shortcut, filters, 1, f"{name}_conv1")
    y = parts.activation(name=f"{name}_relu1")(parts.batch_norm(y, f"{name}_bn1"))
    y = parts.chosen_convolution(y, filters, 3, f"{name}_conv2")
    y = parts.activation(name=f"{name}_relu2")(parts.batch_norm(y, f"{name}_bn2"))
    y = convolution(y, 4 * filters, 1, f"{name}_conv3")
    y = parts.batch_norm(y, f"{name}_bn3")
    return _end_of_block(y, shortcut, name, parts)


def basic_block(x, filters, strides, name, parts):
    """ResNet's block of two 3x3 convolutions; the stride is in the first."""
    y = parts.chosen_convolution(x, filters, 3, f"{name}_conv1", strides)
    y = parts.activation(name=f"{name}_relu1")(parts.batch_norm(y, f"{name}_bn1"))
    y = parts.chosen_convolution(y, filters, 3, f"{name}_conv2")
    y = parts.batch_norm(y, f"{name}_bn2")
    return _end_of_block(y, _subsampled(x, strides, name), name, parts)


def _subsampled(x, strides, name):
    """Returns every `strides`-th row and column, all that a strided 1x1 convolution sees.

    Branch and shortcut share this one small map; the numbers are those of strided convolutions.
    """
    if strides == 1:
        return x
    return keras.layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(x)


def _end_of_block(y, shortcut, name, parts):
    y = parts.gate(y, f"{name}_attention")
    if shortcut.shape[channel_axis()] != y.shape[channel_axis()]:
        shortcut = convolution(shortcut, y.shape[channel_axis()], 1, f"{name}_shortcut_conv")
        shortcut = parts.batch_norm(shortcut, f"{name}_shortcut_bn")
    y = parts.merge(y, shortcut, name)
    return parts.activation(name=f"{name}_relu")(y)


def preactivation_block(x, filters, strides, name, parts):
    """Wide ResNet's block: batch norm, ReLU and 3x3 convolution, twice; the stride in the first.

    A shortcut of another size is a 1x1 convolution of what the first ReLU gives.
    """
    y = parts.activation(name=f"{name}_relu1")(parts.batch_norm(x, f"{name}_bn1"))
    shortcut = x
    if strides != 1 or x.shape[channel_axis()] != filters:
        shortcut = _subsampled(y, strides, name)
        shortcut = convolution(shortcut, filters, 1, f"{name}_shortcut_conv")
    y = parts.chosen_convolution(y, filters, 3, f"{name}_conv1", strides)
    y = parts.activation(name=f"{name}_relu2")(parts.batch_norm(y, f"{name}_bn2"))
    y = parts.chosen_convolution(y, filters, 3, f"{name}_conv2")
    y = parts.gate(y, f"{name}_attention")
    return parts.merge(y, shortcut, name)


def separable_block(x, filters, strides, name, parts, depth_multiplier=1, choose=True):
    """MobileNet's block: a 3x3 depthwise and a pointwise convolution, a gate after each.

    `choose` says whether the pointwise convolution is the one that the user chose.
    """
    padding = "same"
    if strides != 1:
        # Where the weights of keras.applications expect the rows and columns that are left over.
        padding = "valid"
        x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_depthwise_pad")(x)
    depthwise = keras.layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding=padding,
        depth_multiplier=depth_multiplier,
        use_bias=False,
        name=f"{name}_depthwise_conv",
    )
    x = _end_of_half(depthwise(x), f"{name}_depthwise", parts)
    if choose:
        x = parts.chosen_convolution(x, filters, 1, f"{name}_pointwise_conv")
    else:
        x = convolution(x, filters, 1, f"{name}_pointwise_conv")
    return _end_of_half(x, f"{name}_pointwise", parts)


def _end_of_half(x, name, parts):
    x = parts.activation(name=f"{name}_relu")(parts.batch_norm(x, f"{name}_bn"))
    return parts.gate(x, f"{name}_attention")
