"""RetinaNet on any backbone, with attention in its feature pyramid."""

import math

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.detection.anchors import Anchors
from keras_fmm.detection.feature_pyramid import FeaturePyramid
from keras_fmm.models import backbone as backbones


def RetinaNet(
    backbone,
    classes,
    attention=None,
    convolution=None,
    levels=None,
    filters=256,
    extra_levels=2,
    head_depth=4,
    anchor_scale=4.0,
    anchors_per_octave=3,
    ratios=(0.5, 1.0, 2.0),
    prior=0.01,
    name="retinanet",
):
    """Returns a RetinaNet for training: what it says of each anchor, in one tensor.

    Compile it with `RetinaNetLoss` and fit it to `targets`; `Detections` makes boxes of what it
    says.

    Args:
        backbone: functional `keras.Model` without a top, of this package or another. What it does
            to images, such as a `Rescaling`, is part of the detector.
        classes: int, at least 1.
        attention: None, str or callable, default None. The gate before each lateral and output
            convolution of the pyramid, as of `layers.get_gate`.
        convolution: None, str or callable, default None (Conv2D). What makes these convolutions,
            as of `layers.get_convolution`.
        levels: list of str or None, default None: the backbone's maps, see `FeaturePyramid`.
        filters: int, default 256. The channels of the pyramid and the heads.
        extra_levels: int from 0, default 2. The maps behind the backbone's coarsest.
        head_depth: int from 0 to 16, default 4. The 3x3 convolutions with ReLU in each head,
            before its last.
        anchor_scale: number above 0, default 4. The smallest anchors' side, in strides.
        anchors_per_octave: int, default 3. The sizes of anchors at each position.
        ratios: sequence of numbers above 0, default (0.5, 1, 2). Of the anchors' height to width.
        prior: number between 0 and 1, default 0.01. The score that each class starts with.
        name: str, default "retinanet". The model's name.

    Returns:
        A functional `keras.Model` from the backbone's input to float32
        `(batch, anchors, 8 + classes)`: the anchor (x1, y1, x2, y2 in pixels), its box's four
        deltas, and the logits of the classes. Layers of the heads, shared by all maps, are called
        `class_head_conv1`, ..., `class_head_logits`, `box_head_conv1`, ..., `box_head_deltas`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an argument is out of range or a name is not known.

    Example:

    >>> from keras_fmm import models
    >>> resnet = models.ResNet18(include_top=False, input_shape=(64, 64, 3), stem="imagenet")
    >>> model = RetinaNet(resnet, classes=10, filters=32, head_depth=1, convolution="aw")
    >>> model.output.shape
    (None, 774, 18)

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection". Convolutions of the heads have normal
        kernels of deviation 0.01; P6 is made of P5, as in torchvision (there of C5). An anchor is
        centred in its position's square, where torchvision's is at the corner.
    """
    classes = checks.positive_integer("classes", classes, 2**16)
    head_depth = checks.integer("head_depth", head_depth, "from 0 to 16", below=17)
    per_octave = checks.positive_integer("anchors_per_octave", anchors_per_octave, 17)
    if not 0 < checks.number("prior", prior) < 1:
        raise ValueError(f"`prior` must be between 0 and 1. Received: prior={prior!r}")
    anchor_scale = checks.positive_number("anchor_scale", anchor_scale)
    pyramid = FeaturePyramid(
        backbone, levels, filters, attention, convolution, extra_levels=extra_levels
    )
    strides = [2 ** int(level[1:]) for level in pyramid.output]
    sizes = [
        [anchor_scale * stride * 2 ** (n / per_octave) for n in range(per_octave)]
        for stride in strides
    ]
    anchors = Anchors(strides, sizes, ratios, name="anchors")
    maps = list(pyramid.output.values())
    bias = keras.initializers.Constant(-math.log((1 - prior) / prior))
    logits = _head("class_head", "logits", filters, head_depth, anchors.per_position, classes, bias)
    deltas = _head("box_head", "deltas", filters, head_depth, anchors.per_position, 4, "zeros")
    outputs = Raw(name="raw")([anchors(maps), deltas(maps), logits(maps)])
    return keras.Model(pyramid.input, outputs, name=name)


def _head(name, end, filters, depth, anchors, numbers, bias):
    """Returns what says `numbers` of each anchor of all maps, by the same layers for each map."""

    def convolution(filters, place, activation, bias="zeros"):
        return keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            activation=activation,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            bias_initializer=bias,
            name=f"{name}_{place}",
        )

    inner = [convolution(filters, f"conv{n}", "relu") for n in range(1, depth + 1)]
    inner.append(convolution(anchors * numbers, end, None, bias))

    def head(maps):
        found = []
        for x in maps:
            for layer in inner:
                x = layer(x)
            found.append(as_rows(x, numbers))
        if len(found) == 1:
            return found[0]
        return keras.layers.Concatenate(axis=1, name=f"{name}_all")(found)

    return head


def as_rows(x, numbers):
    """Returns what a head says of a map, `(batch, anchors, numbers)`."""
    if backbones.channel_axis() == 1:
        x = keras.layers.Permute((2, 3, 1))(x)
    return keras.layers.Reshape((-1, numbers))(x)


@keras.saving.register_keras_serializable(package="keras_fmm")
class Raw(keras.layers.Layer):
    """Puts the anchors, deltas and logits of a detector into one float32 tensor.

    One, as losses of Keras see one output each.

    Args:
        variance: sequence of 4 numbers, default (1, 1, 1, 1). What deltas are multiplied with.
        activation: "sigmoid" or "softmax", default "sigmoid". What `Detections` is to make scores
            with.

    Input shape:
        A list of `(anchors, 4)` or `(batch, anchors, 4)`, `(batch, anchors, 4)` and
        `(batch, anchors, classes)`. Deltas `(batch, anchors, classes, 4)` are of each class.

    Output shape:
        `(batch, anchors, 8 + classes)`; of deltas of each class `(batch, anchors, classes, 9)`,
        where logits of anchors of no area are -10,000.

    Example:

    >>> import numpy as np
    >>> Raw()([np.zeros((6, 4)), np.zeros((2, 6, 4)), np.zeros((2, 6, 3))]).shape[-1]
    11
    """

    def __init__(self, variance=(1.0, 1.0, 1.0, 1.0), activation="sigmoid", **kwargs):
        # Half precision has no boxes of hundreds of pixels.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.variance = checked_variance(variance)
        self.activation = checks.one_of("activation", activation, ("sigmoid", "softmax"))

    def call(self, inputs):
        anchors, deltas, logits = (ops.cast(x, "float32") for x in inputs)
        deltas = deltas * ops.convert_to_tensor(self.variance, "float32")
        if len(anchors.shape) == 2:
            anchors = ops.expand_dims(anchors, 0)
        if len(deltas.shape) == 4:
            is_there = ops.all(anchors[..., 2:] > anchors[..., :2], axis=2, keepdims=True)
            logits = ops.expand_dims(ops.where(is_there, logits, -10_000.0), 3)
            anchors = ops.expand_dims(anchors, 2)
        anchors = ops.broadcast_to(anchors, ops.shape(deltas))
        return ops.concatenate([anchors, deltas, logits], axis=-1)

    def compute_output_shape(self, input_shape):
        _, deltas, logits = input_shape
        return (*deltas[:-1], 9 if len(deltas) == 4 else 8 + logits[2])

    def get_config(self):
        names = ("variance", "activation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def checked_variance(variance):
    """Returns the numbers that deltas are multiplied with, four above 0."""
    found = [checks.number("variance", value) for value in checks.listed("variance", variance)]
    if len(found) != 4 or min(found) <= 0:
        raise ValueError(f"`variance` must be 4 numbers above 0. Received: variance={variance!r}")
    return found
