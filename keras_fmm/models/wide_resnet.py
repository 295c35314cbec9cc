"""Wide ResNet and, with products in the place of its sums, FMMNet."""

from keras_fmm import checks
from keras_fmm.models import backbone, blocks
from keras_fmm.models.weights import with_weights


def WideResNet(
    depth=28,
    width=10,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="wide_resnet",
    attention=None,
    convolution=None,
    residual="add",
):
    """Returns a Wide ResNet: a 3x3 convolution, then three stages of pre-activation blocks.

    Args:
        depth: int, 6 n + 4 for n blocks a stage (10, 16, 22, 28, 34, 40, ...), default 28.
        width: int, from 1 to 1,023, default 10. The stages have 16, 32 and 64 times as many
            filters.
        include_top: bool, default True. Whether to end in the classifier (means over space and one
            dense layer).
        weights: None, path or model, default None (random). See `load_weights`.
        input_tensor: None or tensor, default None. The output of other Keras layers to take as
            input, such as a preprocessing layer's.
        input_shape: None or tuple, default None: `(height, width, channels)`, or as
            `keras.config.image_data_format()` says. None is 32x32x3. Not looked at with
            `input_tensor`. Height and width may be None, else at least 4.
        pooling: None, "avg" or "max", default None (a feature map). What, without the top, ends
            the model.
        classes: int, at least 1, default 10. The units of the top.
        classifier_activation: str, callable or None, default "softmax". Of the top; None gives
            logits.
        name: str, default "wide_resnet". The model's name.
        attention: None, str, callable or dict, default None. The gate at the end of each residual
            branch: a name among `layers.GATES` or a callable without arguments that returns a
            fresh layer. A dict maps places to gates: "branch" is that one, "stage" stands behind
            the last block of each stage.
        convolution: None, str, callable or dict, default None (Conv2D). What stands in the 3x3
            places after the stem: a name among `layers.CONVOLUTIONS`, or a callable as of
            `layers.get_convolution`. "attention_augmented" stands in the first of each block alone;
            it makes tables for the size of each map, which must be known. A dict maps patterns of
            the layers' names, such as `"*_conv1"`, to convolutions: the first that fits stands
            there, and Conv2D where none does.
        residual: str or callable, default "add". What merges each branch with its shortcut: "add"
            is `F(x) + x`; "multiply", `F(x) * x` in every block, is FMMNet (the shortcuts that
            change the size are 1x1 convolutions there too). Its authors could not train more than
            seven such blocks: take depth 16 with 6 blocks, not 28. "centered_multiply",
            `x * (1 + a * tanh(F(x)))` with a from 0, is for deeper ones: 112 has 54 blocks, 208 has
            102. Or a callable that takes `name` and returns a fresh layer, which is called on
            `[branch, shortcut]`.

    Returns:
        A functional `keras.Model`. Layer names tell the place. They are `stem_conv`,
        `stage1_block1_bn1`, `stage1_block1_relu1`, `stage1_block1_conv1`, ...,
        `stage1_block1_attention`, `stage1_block1_shortcut_conv`, `stage1_block1_add` (or
        `_multiply`; with a callable `_residual`), ..., `stage1_attention` (the gate of a stage),
        ..., `head_bn`, `head_relu`, `avg_pool`, `predictions`.

    Raises:
        TypeError: an argument is of another type, or a callable does not give a layer as it should.
        ValueError: an argument is out of range, a name or place is not known, the input is too
            small, or there are more blocks than Python's limit of recursion lets Keras follow
            (about 130).

    Example:

    >>> model = WideResNet(16, 1, residual="multiply", attention="eca")
    >>> model.get_layer("stage3_block2_multiply").output.shape
    (None, 8, 8, 64)

    Reference:
        Zagoruyko, Komodakis, "Wide Residual Networks" (without dropout). FMMNet: Ye, He, Wang, Li,
        "Towards Understanding the Effectiveness of Attention Mechanism", which names no depth or
        width.
    """
    rule = f"6 n + 4 for an n from 1 to {backbone.BLOCKS - 1}"
    depth = checks.integer("depth", depth, rule, minimum=10, below=6 * backbone.BLOCKS + 4)
    if (depth - 4) % 6:
        nearest = depth - (depth - 4) % 6
        raise ValueError(
            "`depth` must be 6 n + 4 for n blocks in each of the three stages. "
            f"Received: depth={depth}. Take {nearest} or {nearest + 6}."
        )
    width = checks.positive_integer("width", width, checks.CHANNELS // 64)
    include_top, classes = backbone.check_head(include_top, pooling, classes)
    gates = blocks.gates_by_place(attention, ("branch", "stage"), default=("branch",))
    convolutions = blocks.convolutions_by_place(convolution, augmented="*_conv1")
    parts = blocks.Parts(gates, convolutions, residual)
    if input_tensor is None and input_shape is None:
        input_shape = backbone.default_shape(include_top=True, side=32)
    start = backbone.images(name, input_tensor, input_shape, minimum=4)
    x = blocks.convolution(start, 16, 3, "stem_conv")
    for stage, filters in enumerate((16 * width, 32 * width, 64 * width), start=1):
        for index in range(1, (depth - 4) // 6 + 1):
            strides = 2 if stage > 1 and index == 1 else 1
            place = f"stage{stage}_block{index}"
            x = blocks.preactivation_block(x, filters, strides, place, parts)
        x = parts.gate(x, "stage", f"stage{stage}_attention")
    x = parts.activation(name="head_relu")(parts.batch_norm(x, "head_bn"))
    if include_top:
        x = backbone.classified(x, classes, classifier_activation)
    else:
        x = backbone.pooled(x, pooling)
    parts.check_patterns()
    return with_weights(backbone.model_of(start, x, name), weights)
