"""Faster R-CNN on any backbone, with attention in its feature pyramid."""

import math

import keras

from keras_fmm import checks
from keras_fmm.detection.anchors import Anchors
from keras_fmm.detection.feature_pyramid import FeaturePyramid, maps_of
from keras_fmm.detection.region_proposals import RegionProposals, Sampling
from keras_fmm.detection.retinanet import Raw, as_rows
from keras_fmm.detection.roi_align import RoIAlign
from keras_fmm.detection.sampled_loss import SampledLoss

# As in Fast R-CNN: so that deltas of boxes, which are small, count as much as the classes.
_VARIANCE = (0.1, 0.1, 0.2, 0.2)


def FasterRCNN(
    backbone,
    classes,
    attention=None,
    convolution=None,
    levels=None,
    filters=256,
    anchor_scale=8.0,
    ratios=(0.5, 1.0, 2.0),
    candidates=1000,
    proposals=1000,
    units=1024,
    seed=None,
    name="faster_rcnn",
):
    """Returns a Faster R-CNN for training: of images and their objects, with its losses inside.

    A first stage proposes regions that may hold an object; a second one cuts each out of the
    pyramid (`RoIAlign`), says which class it is of, and moves its borders. Which regions the second
    stage is trained on depends on the first, so that objects are an input, and the losses are the
    model's own: `compile` takes an optimizer alone, and `fit` takes `[images, targets]`.
    `detector` makes the model of images alone that gives boxes.

    Args:
        backbone: functional `keras.Model` without a top, as of `RetinaNet`.
        classes: int, at least 1.
        attention: None, str or callable, default None. The gate before each lateral and output
            convolution of the pyramid, as of `layers.get_gate`.
        convolution: None, str or callable, default None (Conv2D). What makes these convolutions,
            as of `layers.get_convolution`.
        levels: list of str or None, default None: the backbone's maps, the finest first. None takes
            the last four stages of a backbone of this package.
        filters: int, default 256. The channels of the pyramid.
        anchor_scale: number above 0, default 8. The side of anchors, in strides.
        ratios: sequence of numbers above 0, default (0.5, 1, 2). Of the anchors' height to width.
        candidates: int, default 1000. How many anchors of each map are looked at for proposals.
        proposals: int, default 1000. The most regions that are proposed.
        units: int, default 1024. The width of both dense layers of the second stage.
        seed: int from 0 to `2**32 - 1` or None, default None. Of the sampling of anchors and
            proposals.
        name: str, default "faster_rcnn". The model's name.

    Returns:
        A functional `keras.Model` of two inputs, images and objects `(batch, objects, 5)` (see
        `targets`), to float32 `(batch, proposals, classes, 9)`: the proposal (x1, y1, x2, y2 in
        pixels), its box's four deltas of the class, and the class's logit; that of nothing is 0. A
        label that is not below `classes` makes the loss NaN. Under a strategy each replica divides
        its losses by its own number of samples.
        Layers are called `proposal_conv`, `proposal_logits`, `proposal_deltas`, `proposals`,
        `box_dense1`, `box_dense2`, `box_logits`, `box_deltas`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an argument is out of range or a name is not known.

    Example:

    >>> from keras_fmm import models
    >>> resnet = models.ResNet18(include_top=False, input_shape=(64, 64, 3), stem="imagenet")
    >>> model = FasterRCNN(resnet, classes=10, filters=32, units=64, proposals=50)
    >>> model.output.shape
    (None, 50, 10, 9)

    Reference:
        Ren et al., "Faster R-CNN"; Lin et al., "Feature Pyramid Networks for Object Detection". As
        in torchvision are the sampling (256 anchors, half of them with objects; 512 proposals, a
        quarter, the objects' own boxes among them), the thresholds, the losses and the number of
        weights: there the classes count nothing as one, whose logit is 0 here, as only differences
        count. Otherwise: as many proposals in training as in use, where torchvision has 2000;
        anchors and bins are centred in their positions; layers start as in the papers, from normal
        kernels of deviation 0.01, and 0.001 for the second stage's deltas.
    """
    classes = checks.positive_integer("classes", classes, 2**16)
    units = checks.positive_integer("units", units, 2**16)
    anchor_scale = checks.positive_number("anchor_scale", anchor_scale)
    if levels is None:
        stages = len(maps_of(backbone, None).outputs)
        levels = [f"stage{number}" for number in range(max(1, stages - 3), stages + 1)]
    pyramid = FeaturePyramid(
        backbone, levels, filters, attention, convolution, extra="pool", extra_levels=1
    )
    images = pyramid.input
    objects = keras.Input((None, 5), name="objects")
    maps = list(pyramid.output.values())
    strides = [2 ** int(level[1:]) for level in pyramid.output]
    sizes = [[anchor_scale * stride] for stride in strides]
    deltas, logits = _region_heads(maps, filters, len(ratios))
    anchors = [
        Anchors([stride], [size], ratios, name=f"anchors{stride}")(x)
        for x, stride, size in zip(maps, strides, sizes, strict=True)
    ]
    regions = list(map(list, zip(anchors, deltas, logits, strict=True)))
    found = RegionProposals(proposals, candidates, name="proposals")(regions, images)
    # The last map is there for large anchors alone.
    align, maps = RoIAlign(7, strides[:-1], name="roi_align"), maps[:-1]
    head = _box_head(classes, units)
    raw = Raw(_VARIANCE, "softmax", name="raw")([found, *head(align([found, *maps]))])

    anchors = Anchors(strides, sizes, ratios, name="anchors")(list(pyramid.output.values()))
    deltas, logits = (keras.layers.Concatenate(axis=1)(x) for x in (deltas, logits))
    samples = Sampling(256, 0.5, 0.7, 0.3, seed=seed, name="proposal_sampling")(anchors, objects)
    outputs = SampledLoss(of_all=True, name="proposal_loss")(raw, samples, deltas, logits)
    samples = Sampling(512, 0.25, 0.5, 0.5, False, True, seed, name="box_sampling")(found, objects)
    outputs = SampledLoss(_VARIANCE, one_for_all=False, name="box_loss")(
        outputs, samples, *head(align([samples["boxes"], *maps]))
    )
    return keras.Model([images, objects], outputs, name=name)


def _region_heads(maps, filters, anchors):
    """Returns what the first stage says of the anchors of each map: lists of deltas and logits."""

    def convolution(filters, size, place, activation=None):
        initializer = keras.initializers.RandomNormal(stddev=0.01)
        return keras.layers.Conv2D(
            filters,
            size,
            padding="same",
            activation=activation,
            kernel_initializer=initializer,
            name=f"proposal_{place}",
        )

    inner = convolution(filters, 3, "conv", "relu")
    deltas, logits = convolution(4 * anchors, 1, "deltas"), convolution(anchors, 1, "logits")
    maps = [inner(x) for x in maps]
    return [
        [as_rows(layer(x), numbers) for x in maps] for layer, numbers in ((deltas, 4), (logits, 1))
    ]


def _box_head(classes, units):
    """Returns the function that gives deltas and logits of what was cut out of the maps."""

    def dense(units, place, activation=None, deviation=None):
        initializer = "glorot_uniform"
        if deviation is not None:
            initializer = keras.initializers.RandomNormal(stddev=deviation)
        return keras.layers.Dense(
            units, activation, kernel_initializer=initializer, name=f"box_{place}"
        )

    inner = [dense(units, "dense1", "relu"), dense(units, "dense2", "relu")]
    logits = dense(classes, "logits", deviation=0.01)
    deltas = dense(classes * 4, "deltas", deviation=0.001)

    def head(x):
        x = keras.layers.Reshape((-1, math.prod(x.shape[2:])))(x)
        for layer in inner:
            x = layer(x)
        return keras.layers.Reshape((-1, classes, 4))(deltas(x)), logits(x)

    return head
