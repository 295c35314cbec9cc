"""The feature pyramid, with attention where the AW paper puts it."""

import itertools
import math

import keras
from keras import ops

from keras_fmm import checks, graph, layers, models
from keras_fmm.models import backbone as backbones
from keras_fmm.models.blocks import called


def FeaturePyramid(
    backbone,
    levels=None,
    filters=256,
    attention=None,
    convolution=None,
    extra="convolutions",
    extra_levels=2,
    name="feature_pyramid",
):
    """Returns a model of feature maps of one width, each of which has seen all coarser ones.

    Each chosen map of the backbone goes through a 1x1 convolution (lateral) and is added to the
    next coarser result, twice as large by repetition; then it goes through a 3x3 convolution
    (output). Behind the coarsest come maps that are each half as large again.

    Args:
        backbone: functional `keras.Model` without a top, of this package or another.
        levels: list of str or None, default None: the maps, the finest first, as of
            `models.feature_model`. None takes the last three stages of a backbone of this package.
        filters: int, default 256. The channels of all maps.
        attention: None, str or callable, default None. The gate right before each lateral and
            output convolution, as of `layers.get_gate`.
        convolution: None, str or callable, default None (Conv2D). What makes the lateral and output
            convolutions, as of `layers.get_convolution`: "aw" for AW-convolutions.
        extra: "convolutions" or "pool", default "convolutions". What the maps behind the coarsest
            are: 3x3 convolutions of stride 2, a ReLU before each but the first; or every second
            row and column of the one before.
        extra_levels: int from 0, default 2. How many of them.
        name: str, default "feature_pyramid". The model's name.

    Returns:
        A functional `keras.Model` from the backbone's input to a dict from "P3" and the like to
        maps, the finest first: the map Pn has the stride 2**n. Layers are called
        `pyramid_p3_lateral_attention`, `pyramid_p3_lateral`, `pyramid_p3_output_attention`,
        `pyramid_p3_output`, `pyramid_p6`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an argument is out of range, a name is not known, or maps are not each half as
            large as the one before.

    Example:

    >>> from keras_fmm import models
    >>> resnet = models.ResNet18(include_top=False, input_shape=(64, 64, 3), stem="imagenet")
    >>> pyramid = FeaturePyramid(resnet, filters=32, attention="squeeze_excite")
    >>> {name: tuple(map.shape[1:]) for name, map in pyramid.output.items()}["P7"]
    (1, 1, 32)

    Reference:
        Lin et al., "Feature Pyramid Networks for Object Detection"; convolutions have a bias and
        no activation, as there. P6 is made of P5, as in torchvision. "An Attention Module for
        Convolutional Neural Networks", section 4.3: attention in the pyramid.
    """
    filters = checks.positive_integer("filters", filters, checks.CHANNELS)
    extra = checks.one_of("extra", extra, ("convolutions", "pool"))
    extra_levels = checks.integer("extra_levels", extra_levels, "from 0 to 8", below=9)
    layers.get_gate(attention)
    make = layers.get_convolution(convolution)
    features = maps_of(backbone, levels)
    maps = features.outputs if levels is not None else features.outputs[-3:]
    names = [f"p{level}" for level in levels_of(features.inputs[0], maps)]

    def convolved(x, size, place):
        gate = layers.get_gate(attention, name=f"pyramid_{place}_attention")
        if gate is not None:
            x = called(gate, x, x.shape, "attention", attention)
        layer = make(filters=filters, kernel_size=size, padding="same", name=f"pyramid_{place}")
        shape = list(x.shape)
        shape[backbones.channel_axis()] = filters
        return called(layer, x, shape, "convolution", convolution)

    x, found = None, {}
    for level, finer in zip(reversed(names), reversed(maps), strict=True):
        lateral = convolved(finer, 1, f"{level}_lateral")
        if x is not None:
            x = UpsampleLike(name=f"pyramid_{level}_upsample")([x, lateral])
            lateral = keras.layers.Add(name=f"pyramid_{level}_add")([lateral, x])
        x = lateral
        found[level.upper()] = convolved(x, 3, f"{level}_output")
    found = dict(reversed(found.items()))
    coarsest = int(names[-1][1:])
    x = found[f"P{coarsest}"]
    for index in range(extra_levels):
        place = f"pyramid_p{coarsest + 1 + index}"
        if extra == "pool":
            x = keras.layers.MaxPooling2D(1, 2, padding="same", name=place)(x)
        else:
            y = x if index == 0 else keras.layers.ReLU(name=f"{place}_relu")(x)
            x = keras.layers.Conv2D(filters, 3, 2, padding="same", name=place)(y)
        found[f"P{coarsest + 1 + index}"] = x
    return keras.Model(features.inputs[0], found, name=name)


def maps_of(backbone, levels, argument="backbone"):
    """Returns `models.feature_model`, whose errors name the arguments as they are named here."""
    try:
        features = models.feature_model(backbone, levels)
    except (TypeError, ValueError) as error:
        told = str(error).replace("`names`", "`levels`").replace(" names=", " levels=")
        kind = TypeError if isinstance(error, TypeError) else ValueError
        told = told.replace("`model`", f"`{argument}`").replace(" model=", f" {argument}=")
        raise kind(told) from error
    read, wanted = graph.read(features), keras.config.image_data_format()
    ends = set(map(id, read.outputs))
    for call in read.calls:
        # What is put behind them takes Keras' setting.
        if call.data_format != wanted and ends & set(map(id, call.outputs)):
            raise ValueError(
                f"`{argument}` must have maps of Keras' data format, {wanted!r}. Received: "
                f"{call.path!r} of {call.data_format!r}. Set it as it was when the model was made: "
                f"`keras.config.set_image_data_format({call.data_format!r})`."
            )
    return features


def levels_of(images, maps):
    """Returns the exponents of maps' strides; raises ValueError where these are no powers of 2."""
    if not maps:
        raise ValueError("`levels` must name at least one map. Received: levels=[]")
    for x in maps:
        if len(x.shape) != 4:
            raise ValueError(
                f"`levels` must name feature maps. Received: one of the shape {tuple(x.shape)}"
            )
    strides = _strides(keras.Model(images, list(maps)), images)
    shown = [x if x == y else (x, y) for x, y in strides]
    found = [math.log2(x) for x, y in strides if x == y and x >= 1]
    if len(found) < len(strides) or not all(level.is_integer() for level in found):
        raise ValueError(
            "`levels` must name maps whose strides are powers of 2, as many rows as columns. "
            f"Received: maps of the strides {shown}. Name others, or another backbone."
        )
    if any(coarse - fine != 1 for fine, coarse in itertools.pairwise(found)):
        raise ValueError(
            "`levels` must name maps that are each half as large as the one before. "
            f"Received: maps of the strides {shown}"
        )
    return [int(level) for level in found]


def _strides(model, images):
    """Returns how many rows and columns of images there are for one of each map, pairs."""
    try:
        # By how much more a larger image has: edges and odd sides make no difference to that.
        small, large = (_sides_of(model, images, (side, side)) for side in (512, 1024))
        more = [
            [b - a for a, b in zip(*pair, strict=True)] for pair in zip(small, large, strict=True)
        ]
        # One that resizes images of one size has strides; of any size they are the image's.
        resizes = not any(map(any, more)) and None not in backbones.sides(images)
    # A backbone of one size; what its layers raise of another is of any class.
    except Exception:
        more, resizes = [], True
    if not resizes:
        return [tuple(_quotient(512, part) for part in each) for each in more]
    sides = tuple(side or 512 for side in backbones.sides(images))
    found = _sides_of(model, images, sides)
    return [tuple(map(_likely_stride, sides, each)) for each in found]


def _likely_stride(whole, part):
    """Returns a power of 2 that gives a map of this side, rounded up or down; or the quotient."""
    if not part:
        return math.inf
    stride = 2 ** round(math.log2(whole / part))
    return stride if part in (whole // stride, -(-whole // stride)) else _quotient(whole, part)


def _quotient(whole, part):
    quotient = whole / part if part else math.inf
    return int(quotient) if quotient.is_integer() else round(quotient, 1)


def _sides_of(model, images, sides):
    """Returns the height and width of each map of images of these sides."""
    axis = backbones.channel_axis()
    shape = [1, *sides]
    shape.insert(axis % 4, images.shape[axis])
    # A model says nothing of other sizes than its own; its layers do.
    image = keras.KerasTensor(shape, dtype=images.dtype)
    replayed = graph.read(model).replay(
        [image], lambda call: call.operation.compute_output_spec(*call.args, **call.kwargs)
    )
    return [backbones.sides(x) for x in keras.tree.flatten(replayed.outputs)]


@keras.saving.register_keras_serializable(package="keras_fmm")
class UpsampleLike(keras.layers.Layer):
    """Makes a map twice as large, each position four, and cuts it to the size of another.

    A map of an odd side is half as large as one of a side more, or less. Where it is that of a side
    more, the last row or column is cut off, as torchvision's interpolation to the nearest does;
    where it is that of a side less, as of convolutions without padding, it is repeated.

    Args:
        data_format: None, "channels_last" or "channels_first", default None (Keras' setting).

    Input shape:
        A list of two: `(batch, height, width, channels)`, or as `data_format` says, and another of
        the height and width that are wanted.

    Output shape:
        The channels of the first, the height and width of the second.

    Example:

    >>> import numpy as np
    >>> small = np.array([1.0, 2.0]).reshape(1, 1, 2, 1)
    >>> large = UpsampleLike()([small, np.zeros((1, 1, 3, 8))])
    >>> keras.ops.convert_to_numpy(large).ravel().tolist()
    [1.0, 1.0, 2.0]
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = checks.data_format(data_format)

    def call(self, maps):
        x, like = maps
        axes = (1, 2) if self.data_format == "channels_last" else (2, 3)
        # Not Keras' resizing, which wants known sizes and whose gradient XLA lacks on TensorFlow.
        for axis in axes:
            x = _as_many(ops.repeat(x, 2, axis=axis), like, axis)
        height, width = (ops.shape(like)[axis] for axis in axes)
        if self.data_format == "channels_last":
            return x[:, :height, :width]
        return x[:, :, :height, :width]

    def compute_output_shape(self, input_shape):
        x, like = (tuple(shape) for shape in input_shape)
        if self.data_format == "channels_last":
            return (*x[:1], *like[1:3], x[3])
        return (*x[:2], *like[2:4])

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}


def _as_many(x, like, axis):
    """Returns a map with the last row or column again, where it lacks some or may lack some."""
    last = x[tuple(slice(-1, None) if each == axis else slice(None) for each in range(4))]
    if None in (like.shape[axis], x.shape[axis]):
        # One where none is missing: what is too much is cut off, and no tensor is empty.
        missing = ops.maximum(ops.shape(like)[axis] - ops.shape(x)[axis], 1)
        shape = [missing if each == axis else size for each, size in enumerate(ops.shape(x))]
        return ops.concatenate([x, ops.broadcast_to(last, shape)], axis=axis)
    missing = like.shape[axis] - x.shape[axis]
    if missing <= 0:
        return x
    return ops.concatenate([x, ops.repeat(last, missing, axis=axis)], axis=axis)
