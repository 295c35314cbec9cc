"""The blocks that the backbones share; each layer's name begins with its block's."""

import collections.abc
import dataclasses
import fnmatch
import typing

import keras
import numpy as np

from keras_fmm import layers
from keras_fmm.models.backbone import channel_axis, sides


def gates_by_place(attention, places, default):
    """Returns a dict from a family's places to what `layers.get_gate` takes.

    Args:
        attention: what a user gives: a gate for the default places, as of `layers.get_gate`, or a
            dict from places to gates.
        places: sequence of str, all places of the family.
        default: sequence of str, those of a gate that is given without a place.

    Raises:
        ValueError: a place or a name is not known.
        TypeError: a gate is neither None, a name nor a callable.
    """
    if not isinstance(attention, collections.abc.Mapping):
        # Says what is wrong before anything is built.
        layers.get_gate(attention)
        return dict.fromkeys(default, attention)
    for place, gate in attention.items():
        if place not in places:
            known = ", ".join(repr(known) for known in places)
            raise ValueError(
                f"`attention` as a dict may name these places of this backbone: {known}. "
                f"Received: the place {place!r} in attention={attention!r}"
            )
        try:
            layers.get_gate(gate)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"At the place {place!r}: {error}") from error
    return dict(attention)


def convolutions_by_place(convolution, augmented="*"):
    """Returns a dict from patterns of layers' names to what `layers.get_convolution` takes.

    Args:
        convolution: what a user gives: a convolution for all places, as of
            `layers.get_convolution`, or a dict from patterns to convolutions.
        augmented: str, the pattern of the places where the family's paper has attention-augmented
            convolutions, which stand there when they are asked for by their name.

    Raises:
        ValueError: a name is not known.
        TypeError: a pattern is no str, or a convolution neither None, a name nor a callable.
    """
    if not isinstance(convolution, collections.abc.Mapping):
        # Says what is wrong before anything is built.
        layers.get_convolution(convolution)
        is_name = isinstance(convolution, str) and convolution == "attention_augmented"
        return {augmented if is_name else "*": convolution}
    for pattern, choice in convolution.items():
        if not isinstance(pattern, str):
            raise TypeError(
                "`convolution` as a dict must have patterns of layers' names, each a str. "
                f"Received: the pattern {pattern!r} in convolution={convolution!r}"
            )
        try:
            layers.get_convolution(choice)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"At the places {pattern!r}: {error}") from error
    return dict(convolution)


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a user chooses of a backbone, and what its family fixes.

    Args:
        gates: dict from places to gates, as `gates_by_place` gives. "branch" is the end of each
            residual branch, "stage" that of each stage; "depthwise" and "pointwise" are the ends
            of a separable block's halves.
        convolutions: dict from patterns of layers' names to convolutions, as
            `convolutions_by_place` gives. The first that fits a name says what stands there.
        residual: as of `layers.get_residual`.
        epsilon: float, of the batch norms.
        activation: a layer's class, or a callable with `name`, that follows a batch norm.
        symmetric_padding: bool. Whether a strided 3x3 convolution is padded by 1 on all sides, as
            PyTorch does it; else where its family pads it.
        stride_in_3x3: bool. Where a bottleneck has its stride; else in its first convolution.
        average_shortcut: bool. Whether a strided shortcut averages 2x2; else it takes every second
            row and column.
        shortcut_first: bool. Whether sums name the shortcut before the branch. Keras follows the
            first inputs of a model's layers back by recursion, which Python ends at a thousand.
    """

    gates: dict = dataclasses.field(default_factory=dict)
    convolutions: dict = dataclasses.field(default_factory=dict)
    residual: typing.Any = "add"
    epsilon: float = 1e-5
    activation: typing.Callable = keras.layers.ReLU
    symmetric_padding: bool = False
    stride_in_3x3: bool = False
    average_shortcut: bool = False
    shortcut_first: bool = False
    # The names of the chosen convolutions, as they are built.
    places: list = dataclasses.field(default_factory=list, init=False)

    def __post_init__(self):
        # Says what is wrong before anything is built.
        layers.get_residual(self.residual, "trial")

    def batch_norm(self, x, name):
        # PyTorch's momentum, and that of AWConv2D; Keras' 0.99 lags behind a short training.
        layer = keras.layers.BatchNormalization(
            axis=channel_axis(), momentum=0.9, epsilon=self.epsilon, name=name
        )
        return layer(x)

    def chosen_convolution(self, x, filters, kernel_size, name, strides=1, use_bias=False):
        """Convolves, "same" or padded by 1 on all sides, with what the user chose."""
        shape = [None if size is None else -(-size // strides) for size in x.shape]
        shape[0], shape[channel_axis()] = x.shape[0], filters
        fitting = [key for key in self.convolutions if fnmatch.fnmatchcase(name, key)]
        choice = self.convolutions[fitting[0]] if fitting else None
        self.places.append(name)
        arguments = {
            "filters": filters,
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": "same",
            "use_bias": use_bias,
            "name": name,
        }
        if strides != 1 and self.symmetric_padding and _takes_valid(choice, arguments):
            arguments["padding"] = "valid"
            x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        layer = layers.get_convolution(choice)(**arguments)
        layer.name = name
        return called(layer, x, shape, "convolution", choice)

    def check_patterns(self):
        """Raises ValueError where a pattern of `convolutions` fits no place; call it at the end."""
        for pattern in self.convolutions:
            if not fnmatch.filter(self.places, pattern):
                raise ValueError(
                    "`convolution` as a dict must have patterns that fit names of this backbone's "
                    f"convolutions: {', '.join(self.places[:3])}, ..., {self.places[-1]}. "
                    f"Received: the pattern {pattern!r} in convolution={self.convolutions!r}"
                )

    def gate(self, x, place, name):
        choice = self.gates.get(place)
        gate = layers.get_gate(choice, name=name)
        return x if gate is None else called(gate, x, x.shape, "attention", choice)

    def merge(self, branch, shortcut, name):
        """Returns branch and shortcut as one; `name_add`, `name_residual` is what gives it."""
        kind = self.residual if isinstance(self.residual, str) else "residual"
        layer = layers.get_residual(self.residual, f"{name}_{kind}")
        layer.name = f"{name}_{kind}"
        pair = [branch, shortcut]
        if self.shortcut_first and kind == "add":
            pair.reverse()
        return called(layer, pair, branch.shape, "residual", self.residual)


def _takes_valid(choice, arguments):
    """Says whether a convolution takes other padding than "same", which attention does not."""
    try:
        layers.get_convolution(choice)(**{**arguments, "padding": "valid"})
    except ValueError:
        return False
    return True


def called(layer, inputs, shape, argument, choice):
    """Returns the outputs of a fresh layer that a user chose, which must have a shape.

    Args:
        layer: `keras.layers.Layer`.
        inputs: a tensor, or a list of them.
        shape: sequence of ints and None, where a size is not known.
        argument: str, the name of the argument that `choice` was given as.
        choice: what the layer was made of, for the error.

    Raises:
        TypeError, ValueError: it cannot be called so, or its outputs are others.
    """
    received = f"Received: {argument}={choice!r}, whose layer {layer.name!r}"
    form = "[branch, shortcut]" if argument == "residual" else "feature maps"
    try:
        outputs = layer(inputs)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"`{argument}` must give a layer that is called on {form}. {received}, called so, "
            f"says: {error}{_or_sizes(argument, inputs)}"
        ) from error
    given = tuple(getattr(outputs, "shape", ()))
    fits = hasattr(outputs, "shape") and len(given) == len(shape)
    for size, other in zip(given, shape, strict=False):
        fits = fits and (size == other or size is None or other is None)
    if not fits:
        raise ValueError(
            f"`{argument}` must give a layer whose outputs here have the shape {tuple(shape)}. "
            f"{received} gives {given if hasattr(outputs, 'shape') else outputs!r}."
        )
    return outputs


def _or_sizes(argument, x):
    if argument != "convolution" or None not in sides(x):
        return ""
    return " Or build the model for images of a known height and width."


def refuse_kept_zeros(residual, channels):
    """Raises ValueError where a residual gives zeros wherever the shortcut is zero.

    Tried by calling a layer of its own, whatever the weights that it starts with.
    """
    layer = layers.get_residual(residual, "trial")
    rng = np.random.default_rng(0)
    shape = (1, 8, 8, channels) if channel_axis() == -1 else (1, channels, 8, 8)
    branch = keras.ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))
    pair = [branch, keras.ops.zeros_like(branch)]
    called(layer, pair, shape, "residual", residual)
    for variable in layer.trainable_variables:
        variable.assign(rng.uniform(0.5, 1.5, size=variable.shape))
    if not keras.ops.convert_to_numpy(layer(pair)).any():
        raise ValueError(
            "`residual` of a ResNet must not give zeros wherever the shortcut is zero, as "
            f'"add" does not. Received: residual={residual!r}. Each block of a '
            "ResNet ends in a ReLU, whose zeros a product never leaves: after ten blocks nothing "
            "is left. Use `WideResNet`, whose blocks end in the product."
        )


def convolution(x, filters, kernel_size, name, strides=1, padding="same"):
    """Convolves plainly, without bias."""
    layer = keras.layers.Conv2D(
        filters, kernel_size, strides=strides, padding=padding, use_bias=False, name=name
    )
    return layer(x)


def bottleneck_block(x, filters, strides, name, parts, width=None):
    """ResNet's block of 1x1, 3x3 and 1x1 convolutions, version 1: `width` is the 3x3's, `filters`.

    The stride is in the first, or in the 3x3.
    """
    width = width or filters
    if parts.stride_in_3x3:
        y, shortcut, inner = x, _shortcut(x, strides, name, parts), strides
    else:
        y, inner = _subsampled(x, strides, name), 1
        # Branch and shortcut share this one small map, if the shortcut has it too.
        shortcut = _shortcut(x, strides, name, parts) if parts.average_shortcut else y
    y = convolution(y, width, 1, f"{name}_conv1")
    y = parts.activation(name=f"{name}_relu1")(parts.batch_norm(y, f"{name}_bn1"))
    y = parts.chosen_convolution(y, width, 3, f"{name}_conv2", inner)
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
    return _end_of_block(y, _shortcut(x, strides, name, parts), name, parts)


def _shortcut(x, strides, name, parts):
    """Returns what of a block's input its shortcut sees."""
    if strides == 1 or not parts.average_shortcut:
        return _subsampled(x, strides, name)
    # The mean of what is there: at an odd end, of one row or column.
    pool = keras.layers.AveragePooling2D(2, strides, padding="same", name=f"{name}_shortcut_pool")
    return pool(x)


def _subsampled(x, strides, name):
    """Returns every `strides`-th row and column, all that a strided 1x1 convolution sees.

    The numbers are those of a strided convolution.
    """
    if strides == 1:
        return x
    return keras.layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(x)


def _end_of_block(y, shortcut, name, parts):
    y = parts.gate(y, "branch", f"{name}_attention")
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
    y = parts.gate(y, "branch", f"{name}_attention")
    return parts.merge(y, shortcut, name)


def separable_block(x, filters, strides, name, parts, depth_multiplier=1, choose=True):
    """MobileNet's block: a 3x3 depthwise and a pointwise convolution, a gate after each.

    `choose` says whether the pointwise convolution is the one that the user chose.
    """
    padding = "same"
    if strides != 1:
        # Where the weights of keras.applications expect the rows and columns that are left over.
        padding = "valid"
        sides = 1 if parts.symmetric_padding else ((0, 1), (0, 1))
        x = keras.layers.ZeroPadding2D(sides, name=f"{name}_depthwise_pad")(x)
    depthwise = keras.layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding=padding,
        depth_multiplier=depth_multiplier,
        use_bias=False,
        name=f"{name}_depthwise_conv",
    )
    x = _end_of_half(depthwise(x), "depthwise", name, parts)
    if choose:
        x = parts.chosen_convolution(x, filters, 1, f"{name}_pointwise_conv")
    else:
        x = convolution(x, filters, 1, f"{name}_pointwise_conv")
    return _end_of_half(x, "pointwise", name, parts)


def _end_of_half(x, half, block, parts):
    name = f"{block}_{half}"
    x = parts.activation(name=f"{name}_relu")(parts.batch_norm(x, f"{name}_bn"))
    return parts.gate(x, half, f"{name}_attention")
