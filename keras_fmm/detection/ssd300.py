"""SSD300 on VGG16 or any backbone, with attention before its predictors."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_fmm import checks, layers
from keras_fmm.detection.anchors import DefaultBoxes
from keras_fmm.detection.feature_pyramid import levels_of, maps_of
from keras_fmm.detection.retinanet import Raw, as_rows
from keras_fmm.models import backbone as backbones
from keras_fmm.models.blocks import called

# Of the six maps of SSD300, and of one more: the sides of boxes, by the image's, as in torchvision.
_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
VARIANCE = (0.1, 0.1, 0.2, 0.2)


def SSD300(
    backbone=None,
    classes=20,
    attention=None,
    convolution=None,
    levels=None,
    extra_filters=(512, 256, 256, 256),
    scales=None,
    name="ssd300",
    weights=None,
):
    """Returns an SSD for training: what it says of each default box, in one tensor.

    Behind the backbone's maps come smaller ones, and two 3x3 convolutions on each map say where
    objects are and of which class. Compile it with `SSDLoss` and fit it to `targets`; `detector`
    makes the model that gives boxes.

    Args:
        backbone: functional `keras.Model` without a top, of square images of a known side, or None,
            default None: VGG16 as the paper changes it, on images of 300x300 and three channels.
        classes: int, at least 1, default 20.
        attention: None, str or callable, default None. The gate on each map right before its two
            predictors, as of `layers.get_gate`.
        convolution: None, str or callable, default None (Conv2D). What makes the predictors, as of
            `layers.get_convolution`.
        levels: list of str or None, default None: the backbone's maps, as of `FeaturePyramid`. None
            takes the second and third stage of a backbone of this package.
        extra_filters: sequence of ints, default (512, 256, 256, 256). The channels of the smaller
            maps, each a 1x1 convolution to half as many and a 3x3 one: of stride 2 while the map is
            larger than 5x5, then without padding.
        scales: sequence of numbers above 0 or None. The sides of each map's boxes, by the image's
            side, and one more. None, the default, is torchvision's for six maps; else they rise
            evenly from 0.15 to 0.9, and the last is 1.
        name: str, default "ssd300". The model's name.
        weights: None, "imagenet" or a `keras.applications.VGG16`, default None (random). Whose
            weights the VGG16 that stands without `backbone` begins with; "imagenet" are downloaded.
            Images must then be as `keras.applications.vgg16.preprocess_input` makes them. The
            convolutions with holes, which VGG16 has as dense layers, stay random.

    Returns:
        A functional `keras.Model` from images to float32 `(batch, boxes, 8 + classes)`: the default
        box (x1, y1, x2, y2 in pixels), its four deltas, and the logits of the classes; that of
        nothing is 0. Layers are called `ssd_map1_norm`, `ssd_map3_reduce`, `ssd_map3`,
        `ssd_map1_attention`, `ssd_map1_logits`, `ssd_map1_deltas`. VGG16's are called as in
        keras.applications.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an argument is out of range, a name is not known, or the maps are too small.

    Example:

    >>> from keras_fmm import models
    >>> resnet = models.ResNet18(include_top=False, input_shape=(96, 96, 3), stem="imagenet")
    >>> SSD300(resnet, classes=10, extra_filters=(64, 64)).output.shape
    (None, 832, 18)

    Reference:
        Liu et al., "SSD: Single Shot MultiBox Detector"; boxes, losses and number of weights are
        torchvision's, where the classes count nothing as one. That attention stands right before
        the predictors is where CBAM's paper has it in a one-stage detector; it is a choice here for
        the other layers.
    """
    classes = checks.positive_integer("classes", classes, 2**16)
    extra_filters = [
        checks.positive_integer("extra_filters", value, checks.CHANNELS)
        for value in checks.listed("extra_filters", extra_filters)
    ]
    is_vgg = backbone is None
    if weights is not None and not is_vgg:
        raise ValueError(
            "`weights` must be None with a `backbone`, which has its own. "
            f"Received: {weights=} and {backbone=}"
        )
    if is_vgg:
        backbone, levels = _vgg16(weights), ["block4_conv3", "fc7"]
    elif levels is None:
        levels = ["stage2", "stage3"]
    features = maps_of(backbone, levels)
    images, maps = features.inputs[0], list(features.outputs)
    side = _side(images)
    strides = [2**level for level in levels_of(images, maps)]
    if is_vgg:
        maps[0] = L2Normalization(name="ssd_map1_norm")(maps[0])
    # The norm is of what is predicted from; the next maps are made of the last one.
    for filters in extra_filters:
        maps.append(_smaller(maps[-1], filters, f"ssd_map{len(maps) + 1}"))
        is_strided = backbones.sides(maps[-2])[0] > 5
        strides.append(2 * strides[-1] if is_strided else side / backbones.sides(maps[-1])[0])
    shapes = _shapes(side, len(maps), scales)
    boxes = DefaultBoxes(strides, shapes, name="default_boxes")(maps)
    logits, deltas = [], []
    for number, (x, of_map) in enumerate(zip(maps, shapes, strict=True), start=1):
        gate = layers.get_gate(attention, name=f"ssd_map{number}_attention")
        if gate is not None:
            x = called(gate, x, x.shape, "attention", attention)
        for found, numbers, kind in ((deltas, 4, "deltas"), (logits, classes, "logits")):
            layer = layers.get_convolution(convolution)(
                filters=numbers * len(of_map),
                kernel_size=3,
                padding="same",
                name=f"ssd_map{number}_{kind}",
            )
            shape = list(x.shape)
            shape[backbones.channel_axis()] = numbers * len(of_map)
            found.append(as_rows(called(layer, x, shape, "convolution", convolution), numbers))
    deltas, logits = (
        keras.layers.Concatenate(axis=1)(x) if len(x) > 1 else x[0] for x in (deltas, logits)
    )
    outputs = Raw(VARIANCE, "softmax", name="raw")([boxes, deltas, logits])
    return keras.Model(images, outputs, name=name)


def _side(images):
    height, width = backbones.sides(images)
    if height is None or height != width:
        raise ValueError(
            "`backbone` must take square images of a known side, by which the default boxes are "
            f"measured. Received: images of the shape {tuple(images.shape)}. Build it with "
            "`input_shape=(300, 300, 3)`."
        )
    return height


def _smaller(x, filters, name):
    """Returns the next map."""
    if min(backbones.sides(x)) < 3:
        raise ValueError(
            "`extra_filters` must not have more maps than there is room for. Received: a map of "
            f"{backbones.sides(x)} before {name}. Leave some out, or give larger images."
        )
    x = keras.layers.Conv2D(max(1, filters // 2), 1, activation="relu", name=f"{name}_reduce")(x)
    stride = 2 if min(backbones.sides(x)) > 5 else 1
    if stride == 2:
        x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return keras.layers.Conv2D(filters, 3, stride, activation="relu", name=name)(x)


def _shapes(side, maps, scales):
    """Returns of each map the widths and heights of its boxes, in pixels."""
    if scales is None:
        scales = _SCALES if maps == 6 else (*np.linspace(0.15, 0.9, maps), 1.0)
    scales = [checks.number("scales", value) for value in checks.listed("scales", scales)]
    if len(scales) != maps + 1 or min(scales) <= 0:
        raise ValueError(
            f"`scales` must be numbers above 0, one more than the {maps} maps. "
            f"Received: scales={scales}"
        )
    shapes = []
    for index, (scale, larger) in enumerate(itertools.pairwise(scales)):
        both = (scale * larger) ** 0.5
        of_map = [(scale, scale), (both, both)]
        for ratio in (2, 3) if 0 < index < maps - 2 else (2,):
            width, height = scale * ratio**0.5, scale / ratio**0.5
            of_map += [(width, height), (height, width)]
        # None is larger than the image.
        shapes.append(
            [[side * min(1.0, width), side * min(1.0, height)] for width, height in of_map]
        )
    return shapes


def _vgg16(weights):
    """Returns VGG16 to its fifth block, and its first dense layers as convolutions with holes."""
    if isinstance(weights, str) and weights == "imagenet":
        weights = keras.applications.VGG16(include_top=False)
    if weights is not None and not isinstance(weights, keras.Model):
        raise (ValueError if isinstance(weights, str) else TypeError)(
            '`weights` must be None, "imagenet" or a model. '
            f"Received: {weights=}. Load a file into `keras.applications.VGG16(include_top=False)`."
        )
    x = inputs = keras.Input(backbones.default_shape(True, 300))

    def convolution(filters, size, name, holes=1):
        return keras.layers.Conv2D(
            filters, size, padding="same", dilation_rate=holes, activation="relu", name=name
        )

    for block, (filters, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for index in range(1, count + 1):
            x = convolution(filters, 3, f"block{block}_conv{index}")(x)
        size, stride = (2, 2) if block < 5 else (3, 1)
        pool = keras.layers.MaxPooling2D(size, stride, padding="same", name=f"block{block}_pool")
        x = pool(x)
    x = convolution(1024, 3, "fc6", holes=6)(x)
    model = keras.Model(inputs, convolution(1024, 1, "fc7")(x), name="vgg16")
    if weights is not None:
        _take(model, weights)
    return model


def _take(model, source):
    """Gives the five blocks the weights of a VGG16's layers of the same names."""
    wanted = [x for x in model.layers if x.weights and x.name.startswith("block")]
    there = {layer.name: layer for layer in source.layers}
    if "block3_conv4" in there:
        raise ValueError(
            f"`weights` must be a VGG16. Received: a model {source.name!r} with a layer "
            "'block3_conv4', as VGG19 has it"
        )
    for layer in wanted:
        shapes = [tuple(x.shape) for x in getattr(there.get(layer.name), "weights", [])]
        if shapes != [tuple(x.shape) for x in layer.weights]:
            raise ValueError(
                "`weights` must be a VGG16, for images of as many channels. Received: a model "
                f"{source.name!r} whose layer {layer.name!r} has weights of the shapes {shapes}"
            )
    for layer in wanted:
        layer.set_weights(there[layer.name].get_weights())


@keras.saving.register_keras_serializable(package="keras_fmm")
class L2Normalization(keras.layers.Layer):
    """Divides each position of a map by its length, and multiplies each channel by a weight.

    Args:
        scale: number, default 20. What the weights start with.
        data_format: None, "channels_last" or "channels_first", default None (Keras' setting).

    Input shape:
        `(batch, height, width, channels)`, or as `data_format` says.

    Output shape:
        That of the input.

    Raises:
        TypeError, ValueError: an argument is out of range, or the input is no map.

    Example:

    >>> x = np.array([3.0, 4.0]).reshape(1, 1, 1, 2)
    >>> keras.ops.convert_to_numpy(L2Normalization(10, "channels_last")(x)).ravel().tolist()
    [6.0, 8.0]

    Reference:
        Liu, Rabinovich, Berg, "ParseNet"; in SSD before the predictors of conv4_3.
    """

    def __init__(self, scale=20.0, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.scale = checks.number("scale", scale)
        self.data_format = checks.data_format(data_format)

    def build(self, input_shape):
        channels = checks.channels_of("L2Normalization", input_shape, self.data_format)
        self.weight = self.add_weight(
            shape=(channels,), initializer=keras.initializers.Constant(self.scale), name="weight"
        )

    def call(self, inputs):
        axis = -1 if self.data_format == "channels_last" else 1
        x = ops.cast(inputs, "float32")
        # As torchvision: a position of zeros stays.
        squares = ops.maximum(ops.sum(x * x, axis=axis, keepdims=True), 1e-24)
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        weight = ops.cast(ops.reshape(self.weight, shape), "float32")
        # No division: LiteRT's is wrong in int8.
        return ops.cast(x * ops.rsqrt(squares) * weight, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        names = ("scale", "data_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
