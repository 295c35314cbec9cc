"""MobileNet, version 1, with any gate and any pointwise convolution."""

import functools

import keras

from keras_fmm import checks
from keras_fmm.models import backbone, blocks
from keras_fmm.models.weights import with_weights

# Filters and blocks of each stage; each but the first begins by halving the map.
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))

# Times the channels of the last stage as many as any map has.
_MOST = checks.CHANNELS // _STAGES[-1][0]


def MobileNet(
    input_shape=None,
    alpha=1.0,
    depth_multiplier=1,
    dropout=0.001,
    include_top=True,
    weights=None,
    input_tensor=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="mobilenet",
    attention=None,
    convolution=None,
    symmetric_padding=False,
    epsilon=1e-3,
):
    """Returns MobileNet: a 3x3 convolution of stride 2, then 13 depthwise separable blocks.

    Args:
        input_shape: None or tuple, default None: `(height, width, channels)`, or as
            `keras.config.image_data_format()` says. None is 224x224x3 with the top and any size
            without. Not looked at with `input_tensor`. Height and width may be None, else at least
            32.
        alpha: number above 0, at most 64, default 1. There are `int(alpha * n)` filters where the
            paper has n.
        depth_multiplier: int, from 1 to 64, default 1. The depthwise convolutions' channels for
            each of theirs.
        dropout: float from 0 to below 1, default 0.001. The part of the features that the top
            drops.
        include_top: bool, default True. Whether to end in the classifier (means over space and one
            dense layer).
        weights: None, "imagenet", path or model, default None (random). "imagenet" are those of
            keras.applications, which are downloaded; see `load_weights`.
        input_tensor: None or tensor, default None. The output of other Keras layers to take as
            input, such as a preprocessing layer's.
        pooling: None, "avg" or "max", default None (a feature map). What, without the top, ends
            the model.
        classes: int, at least 1, default 1000. The units of the top.
        classifier_activation: str, callable or None, default "softmax". Of the top; None gives
            logits.
        name: str, default "mobilenet". The model's name.
        attention: None, str, callable or dict, default None. The gate after each of the 26
            depthwise and pointwise convolutions, behind its activation: a name among
            `layers.GATES` or a callable without arguments that returns a fresh layer. A dict maps
            the places "depthwise" and "pointwise" to gates.
        convolution: None, str, callable or dict, default None (Conv2D). What stands in every second
            block's pointwise place: "aw" is AWConv2D; for a callable see
            `layers.get_convolution`.
        symmetric_padding: bool, default False. Whether strided convolutions are padded by 1 on all
            sides, as PyTorch does it; else as keras.applications does it, below and right.
        epsilon: number above 0, default 1e-3. Of the batch norms; PyTorch's is 1e-5.

    Returns:
        A functional `keras.Model`. Layer names tell the place. They are `stem_conv`, `stem_bn`,
        `stem_relu`, `stage1_block1_depthwise_conv`, `stage1_block1_depthwise_bn`,
        `stage1_block1_depthwise_relu`, `stage1_block1_depthwise_attention`,
        `stage1_block1_pointwise_conv`, ..., `avg_pool`, `dropout`, `predictions`. A stage is the
        blocks of one resolution.

    Raises:
        TypeError: an argument is of another type, or a callable does not give a layer as it should.
        ValueError: an argument is out of range, a name or place is not known, or the input is too
            small.

    Example:

    >>> model = MobileNet((32, 32, 3), alpha=0.25, attention="squeeze_excite")
    >>> model.get_layer("stage4_block6_pointwise_attention").output.shape
    (None, 2, 2, 128)

    Reference:
        Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
        Applications"; activations are ReLU6, and strided convolutions are padded, as in
        keras.applications. The classifier is a dense layer, there a 1x1 convolution.
    """
    if not 0 < checks.number("alpha", alpha) <= _MOST:
        raise ValueError(f"`alpha` must be above 0, and at most {_MOST}. Received: alpha={alpha}")
    depth_multiplier = checks.positive_integer("depth_multiplier", depth_multiplier, _MOST + 1)
    if not 0 <= checks.number("dropout", dropout) < 1:
        raise ValueError(f"`dropout` must be at least 0 and below 1. Received: dropout={dropout}")
    include_top, classes = backbone.check_head(include_top, pooling, classes)
    places = ("depthwise", "pointwise")
    parts = blocks.Parts(
        blocks.gates_by_place(attention, places, default=places),
        blocks.convolutions_by_place(convolution),
        epsilon=backbone.checked_epsilon(epsilon),
        activation=functools.partial(keras.layers.ReLU, 6.0),
        symmetric_padding=checks.flag("symmetric_padding", symmetric_padding),
    )
    if input_tensor is None and input_shape is None:
        input_shape = backbone.default_shape(include_top)
    start = backbone.images(name, input_tensor, input_shape, minimum=32)
    x, padding = start, "same"
    if parts.symmetric_padding:
        x, padding = keras.layers.ZeroPadding2D(1, name="stem_pad")(x), "valid"
    x = blocks.convolution(x, _width(32, alpha), 3, "stem_conv", strides=2, padding=padding)
    x = parts.activation(name="stem_relu")(parts.batch_norm(x, "stem_bn"))
    number = 0
    for stage, (filters, count) in enumerate(_STAGES, start=1):
        for index in range(1, count + 1):
            number += 1
            x = blocks.separable_block(
                x,
                _width(filters, alpha),
                2 if stage > 1 and index == 1 else 1,
                f"stage{stage}_block{index}",
                parts,
                depth_multiplier,
                choose=number % 2 == 0,
            )
    if include_top:
        x = backbone.classified(x, classes, classifier_activation, dropout)
    else:
        x = backbone.pooled(x, pooling)
    parts.check_patterns()
    return with_weights(backbone.model_of(start, x, name), weights)


def _width(filters, alpha):
    width = int(filters * alpha)
    if width < 1:
        raise ValueError(
            f"`alpha` must leave at least one of {filters} filters. Received: alpha={alpha}"
        )
    return width
