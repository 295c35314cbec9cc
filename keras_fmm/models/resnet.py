"""ResNet, version 1, with any gate and any 3x3 convolution."""

import collections.abc
import functools

import keras

from keras_fmm import checks, layers
from keras_fmm.models import backbone, blocks
from keras_fmm.models.weights import with_weights

# The largest side that `stem="auto"` takes for a small image: CIFAR has 32, Tiny ImageNet 64.
_LARGEST_SMALL_IMAGE = 64

# A network of more has longer branches, one behind the other, than Python's recursions.
_MOST_BLOCKS = 80

# How much each stem, and then the stages, make an image smaller.
_SMALLEST_IMAGE = {"imagenet": 32, "deep": 32, "tiered": 32, "small": 8, "attention": 32}


def ResNet(
    blocks_per_stage,
    bottleneck=True,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="resnet",
    attention=None,
    convolution=None,
    residual="add",
    stem="auto",
    filters=64,
    stride_in_3x3=False,
    symmetric_padding=False,
    average_shortcut=False,
    bottleneck_width=64,
    epsilon=1.001e-5,
):
    """Returns a residual network of version 1: a stem, then four stages of residual blocks.

    `ResNet18`, `ResNet34`, `ResNet50`, `ResNet101` and `ResNet152` are the ones of the paper.

    Args:
        blocks_per_stage: sequence of 4 ints, each from 1 to 999. The blocks of each stage.
        bottleneck: bool, default True. Whether a block is 1x1, 3x3 and 1x1 convolutions; else it
            is two of 3x3.
        include_top: bool, default True. Whether to end in the classifier (means over space and one
            dense layer).
        weights: None, "imagenet", path or model, default None (random). "imagenet" are those of
            keras.applications, which are downloaded; see `load_weights`.
        input_tensor: None or tensor, default None. The output of other Keras layers to take as
            input, such as a preprocessing layer's.
        input_shape: None or tuple, default None: `(height, width, channels)`, or as
            `keras.config.image_data_format()` says. None is 224x224x3 with the top and any size
            without. Not looked at with `input_tensor`. Height and width may be None; known ones
            are at least 32 with the ImageNet stem and 8 with the small one.
        pooling: None, "avg" or "max", default None (a feature map). What, without the top, ends
            the model.
        classes: int, at least 1, default 1000. The units of the top.
        classifier_activation: str, callable or None, default "softmax". Of the top; None gives
            logits.
        name: str, default "resnet". The model's name.
        attention: None, str, callable or dict, default None. The gate at the end of each residual
            branch: a name among `layers.GATES` or a callable without arguments that returns a
            fresh layer. A dict maps places to gates: "branch" is that one, "stage" stands behind
            the last block of each stage.
        convolution: None, str, callable or dict, default None (Conv2D). What stands in the 3x3
            places after the stem: a name among `layers.CONVOLUTIONS`, or a callable as of
            `layers.get_convolution`. "attention_augmented" stands in stages 2 to 4 alone; it makes
            tables for the size of each map, which must be known. A dict maps patterns of the
            layers' names, such as `"stage[34]_*"`, to convolutions: the first that fits stands
            there, and Conv2D where none does.
        residual: str or callable, default "add". What merges each branch with its shortcut: a name
            among `layers.RESIDUALS`, or a callable that takes `name` and returns a fresh layer,
            which is called on `[branch, shortcut]`. One that gives zeros wherever the shortcut is
            zero, as "multiply", is refused: each block ends in a ReLU, whose zeros a product never
            leaves, so that after ten blocks nothing is left. `WideResNet` takes it.
        stem: "auto", "imagenet", "small", "deep", "tiered", "attention" or tuple of 3 ints, default
            "auto". "imagenet" is a 7x7 convolution of stride 2 and a max-pool; "small" a 3x3
            convolution of stride 1; "auto" the small one where height and width are known and at
            most 64. "attention" is a `layers.AttentionStem` with a 4x4 max-pool behind its batch
            norm; `filters` must be a multiple of 4.
            A tuple is of the widths of three 3x3 convolutions in the place of the 7x7: of 64
            `filters` "deep" is (32, 32, 64), and "tiered" (24, 32, 64).
        filters: int, from 1 to 65,535, default 64. The width of the stem and of the first stage's
            3x3 convolutions; each later stage doubles it.
        stride_in_3x3: bool, default False. Whether a bottleneck has its stride in its 3x3
            convolution, as PyTorch has it; else in the first.
        symmetric_padding: bool, default False. Whether strided 3x3 convolutions of the blocks are
            padded by 1 on all sides, as PyTorch does it; else as Keras' "same".
        average_shortcut: bool, default False. Whether a strided shortcut averages 2x2 before its
            1x1 convolution; else that takes every second row and column.
        bottleneck_width: int, from 1 to 65,535, default 64. Of 64ths of a bottleneck's width how
            many its 3x3 convolution has: 128 doubles it, as in "wide" ResNets.
        epsilon: number above 0, default 1.001e-5. Of the batch norms; PyTorch's is 1e-5.

    Returns:
        A functional `keras.Model`. Layer names tell the place. They are `stem_conv`, `stem_bn`
        (with three `stem_conv1`, `stem_bn1`, ...), ..., `stage1_block1_conv1`, `stage1_block1_bn1`,
        `stage1_block1_relu1`, ..., `stage1_block1_attention`, `stage1_block1_shortcut_conv`,
        `stage1_block1_add` (with a callable `stage1_block1_residual`), `stage1_block1_relu`, ...,
        `stage1_attention` (the gate of a stage), ..., `avg_pool`, `predictions`.

    Raises:
        TypeError: an argument is of another type, or a callable does not give a layer as it should.
        ValueError: an argument is out of range, a name or place is not known, or the input is too
            small.

    Example:

    >>> model = ResNet((1, 1, 1, 1), input_shape=(32, 32, 3), filters=8, attention="cbam")
    >>> model.get_layer("stage2_block1_attention").output.shape
    (None, 16, 16, 64)

    Reference:
        He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition". The stride of a
        bottleneck is in its first 1x1 convolution, as there and in keras.applications (PyTorch
        has it in the 3x3 one). Convolutions have no bias, as batch norm follows; its epsilon is
        keras.applications' 1.001e-5. A gate stands where Hu et al., "Squeeze-and-Excitation
        Networks", put it: before the sum. Bello et al., "Attention Augmented Convolutional
        Networks", augment the last three stages: of ResNet-50, every 3x3 convolution there.
    """
    blocks_per_stage = _checked_blocks(blocks_per_stage)
    bottleneck = checks.flag("bottleneck", bottleneck)
    include_top, classes = backbone.check_head(include_top, pooling, classes)
    filters = checks.positive_integer("filters", filters, checks.CHANNELS)
    stem, widths = _checked_stem(stem, filters)
    bottleneck_width = checks.positive_integer(
        "bottleneck_width", bottleneck_width, checks.CHANNELS
    )
    gates = blocks.gates_by_place(attention, ("branch", "stage"), default=("branch",))
    parts = blocks.Parts(
        gates,
        blocks.convolutions_by_place(convolution, augmented="stage[234]_*"),
        residual,
        epsilon=backbone.checked_epsilon(epsilon),
        symmetric_padding=checks.flag("symmetric_padding", symmetric_padding),
        stride_in_3x3=checks.flag("stride_in_3x3", stride_in_3x3),
        average_shortcut=checks.flag("average_shortcut", average_shortcut),
        shortcut_first=sum(blocks_per_stage) > _MOST_BLOCKS,
    )
    blocks.refuse_kept_zeros(residual, 4 * filters if bottleneck else filters)
    if input_tensor is None and input_shape is None:
        input_shape = backbone.default_shape(include_top)
    x = start = backbone.images(name, input_tensor, input_shape, min(_SMALLEST_IMAGE.values()))
    if stem == "auto":
        known = all(side is not None for side in backbone.sides(x))
        small = known and max(backbone.sides(x)) <= _LARGEST_SMALL_IMAGE
        stem = "small" if small else "imagenet"
    backbone.check_sides(name, x, _SMALLEST_IMAGE[stem])
    x = _stem(x, stem, widths, parts)
    for stage, count in enumerate(blocks_per_stage, start=1):
        for index in range(1, count + 1):
            strides = 2 if stage > 1 and index == 1 else 1
            place, width = f"stage{stage}_block{index}", filters * 2 ** (stage - 1)
            if bottleneck:
                inner = max(1, width * bottleneck_width // 64)
                x = blocks.bottleneck_block(x, width, strides, place, parts, inner)
            else:
                x = blocks.basic_block(x, width, strides, place, parts)
        x = parts.gate(x, "stage", f"stage{stage}_attention")

    if include_top:
        x = backbone.classified(x, classes, classifier_activation)
    else:
        x = backbone.pooled(x, pooling)
    parts.check_patterns()
    return with_weights(backbone.model_of(start, x, name), weights)


def _checked_blocks(blocks_per_stage):
    is_listed = isinstance(blocks_per_stage, collections.abc.Sequence)
    is_listed = is_listed and not isinstance(blocks_per_stage, (str, bytes))
    is_listed = is_listed or getattr(blocks_per_stage, "ndim", 0) == 1
    counts = tuple(blocks_per_stage) if is_listed else ()
    if len(counts) != 4:
        raise (ValueError if is_listed else TypeError)(
            "`blocks_per_stage` must have an integer for each of the four stages. "
            f"Received: blocks_per_stage={blocks_per_stage!r}"
        )
    return tuple(
        checks.positive_integer(f"blocks_per_stage[{i}]", count, backbone.BLOCKS)
        for i, count in enumerate(counts)
    )


def _checked_stem(stem, filters):
    """Returns the name of a stem, "deep" for a tuple, and the widths of its convolutions."""
    if isinstance(stem, (tuple, list)):
        if len(stem) != 3:
            raise ValueError(
                "`stem` as a tuple must have the widths of three convolutions. "
                f"Received: stem={stem!r}"
            )
        return "deep", [
            checks.positive_integer(f"stem[{i}]", width, checks.CHANNELS)
            for i, width in enumerate(stem)
        ]
    checks.one_of("stem", stem, ("auto", *_SMALLEST_IMAGE))
    half = max(1, filters // 2)
    first = {"deep": half, "tiered": max(1, half * 3 // 4)}.get(stem)
    return stem, [first, half, filters] if first else [filters]


def _stem(x, stem, widths, parts):
    if stem == "small":
        x = blocks.convolution(x, *widths, 3, "stem_conv")
        return parts.activation(name="stem_relu")(parts.batch_norm(x, "stem_bn"))
    if stem == "attention":
        # The maxima stand behind the batch norm, with nothing between them, as in its paper.
        layer = layers.AttentionStem(*widths, pool_size=1, name="stem_attention")
        x = parts.batch_norm(layer(x), "stem_bn")
        return keras.layers.MaxPooling2D(4, padding="same", name="stem_pool")(x)
    size, ends = (7, ("",)) if len(widths) == 1 else (3, (1, 2, 3))
    x = keras.layers.ZeroPadding2D(size // 2, name="stem_pad")(x)
    for end, width in zip(ends, widths, strict=True):
        how = {"padding": "same"} if end in (2, 3) else {"strides": 2, "padding": "valid"}
        x = blocks.convolution(x, width, size, f"stem_conv{end}", **how)
        x = parts.activation(name=f"stem_relu{end}")(parts.batch_norm(x, f"stem_bn{end}"))
    # Zeros beside what a ReLU gives never win the maximum.
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def _of_depth(depth, blocks_per_stage, bottleneck, augmented=None):
    """Returns the function that builds the ResNet of this depth.

    `augmented` is what `convolution="attention_augmented"` stands for, if not for that.
    """

    def resnet(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation="softmax",
        name=f"resnet{depth}",
        attention=None,
        convolution=None,
        residual="add",
        stem="auto",
    ):
        if augmented and isinstance(convolution, str) and convolution == "attention_augmented":
            convolution = augmented
        return ResNet(
            blocks_per_stage,
            bottleneck,
            include_top,
            weights,
            input_tensor,
            input_shape,
            pooling,
            classes,
            classifier_activation,
            name,
            attention,
            convolution,
            residual,
            stem,
        )

    resnet.__name__ = resnet.__qualname__ = f"ResNet{depth}"
    resnet.__doc__ = (
        f"Returns ResNet-{depth}: {blocks_per_stage} blocks of "
        f"{'three' if bottleneck else 'two'} convolutions.\n\n"
        "    The arguments are those of :func:`keras_fmm.models.ResNet`; the order is that of\n"
        f"    keras.applications.{_FIT if augmented else ''}\n    "
    )
    return resnet


_FIT = """ `convolution="attention_augmented"` augments the first convolution of
    each block of stages 2 to 4, by ratios of 0.25: 20,749,552 parameters. That is a fit to the 20.7
    million of Bello et al.; which convolutions of a block of two they replaced is not known."""


# A fit to what Bello et al. publish of their AA-ResNet-34.
_AUGMENTED_34 = {
    "stage[234]_*_conv1": functools.partial(
        layers.AttentionAugmentedConv2D, key_ratio=0.25, value_ratio=0.25
    )
}


ResNet18 = _of_depth(18, (2, 2, 2, 2), bottleneck=False)
ResNet34 = _of_depth(34, (3, 4, 6, 3), bottleneck=False, augmented=_AUGMENTED_34)
ResNet50 = _of_depth(50, (3, 4, 6, 3), bottleneck=True)
ResNet101 = _of_depth(101, (3, 4, 23, 3), bottleneck=True)
ResNet152 = _of_depth(152, (3, 8, 36, 3), bottleneck=True)
