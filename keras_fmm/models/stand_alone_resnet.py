"""ResNets of self-attention in the place of their 3x3 convolutions."""

from keras_fmm import checks, layers
from keras_fmm.models.resnet import ResNet

_STAGES = (1, 2, 3, 4)


def StandAloneResNet(
    blocks_per_stage,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="stand_alone_resnet",
    attention=None,
    residual="add",
    stem="auto",
    stages=_STAGES,
    kernel_size=7,
    num_heads=8,
    positions="relative",
    filters=64,
):
    """Returns a ResNet with local self-attention in the place of its 3x3 convolutions.

    Its blocks are bottlenecks of 1x1, attention and 1x1. A block's stride is that of its attention,
    which averages what it gives over 2x2. `StandAloneResNet26`, `StandAloneResNet38` and
    `StandAloneResNet50` are the ones of the paper.

    Args:
        blocks_per_stage: sequence of 4 ints, each from 1 to 999. The blocks of each stage.
        include_top: bool, default True. As of `ResNet`, and so are those up to `residual`.
        weights: None, path or model, default None (random).
        input_tensor: None or tensor, default None.
        input_shape: None or tuple, default None. Height and width may be None.
        pooling: None, "avg" or "max", default None (a feature map).
        classes: int, at least 1, default 1000.
        classifier_activation: str, callable or None, default "softmax".
        name: str, default "stand_alone_resnet".
        attention: None, str, callable or dict, default None. Gates, beside the self-attention.
        residual: str or callable, default "add".
        stem: str or tuple, default "auto". As of `ResNet`: one of convolutions, which the paper
            found better, or "attention".
        stages: list or tuple of int, default (1, 2, 3, 4). The stages of attention; the others have
            3x3 convolutions.
        kernel_size: int, odd, default 7. The height and width of the windows attended to.
        num_heads: int, default 8. The heads of each attention; twice as many divide `filters`.
        positions: str or None, default "relative". As of `layers.LocalSelfAttention2D`.
        filters: int, from 1 to 65,535, default 64. The width of the stem and of the first stage's
            attention; each later stage doubles it.

    Returns:
        A functional `keras.Model` with the layer names of `ResNet`; the attention is
        `stage1_block1_conv2`, and so on.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an argument is out of range, or the input is too small.

    Example:

    >>> model = StandAloneResNet((1, 1, 1, 1), input_shape=(32, 32, 3), filters=16, stages=(3, 4))
    >>> model.get_layer("stage3_block1_conv2").kernel_size
    7
    >>> model.get_layer("stage2_block1_conv2").kernel_size
    (3, 3)

    Reference:
        Ramachandran, Parmar, Vaswani, Bello, Levskaya, Shlens, "Stand-Alone Self-Attention in
        Vision Models", sections 3.1 and 4.1.
        https://arxiv.org/abs/1906.05909
    """
    stages = [
        checks.integer("stages", stage, "numbers of stages, 1 to 4", 1, 5)
        for stage in checks.listed("stages", stages)
    ]

    window = {"kernel_size": kernel_size, "num_heads": num_heads, "positions": positions}
    # Says what is wrong before anything is built.
    layers.LocalSelfAttention2D(filters, **window)

    # The window's size is not that of the convolution in whose place it stands.
    def local(kernel_size, **arguments):
        return layers.LocalSelfAttention2D(**arguments, **window)

    return ResNet(
        blocks_per_stage,
        True,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
        attention,
        {f"stage{stage}_*": local for stage in stages},
        residual,
        stem,
        filters,
        stride_in_3x3=True,
    )


def _of_depth(depth, blocks_per_stage):
    """Returns the function that builds the network of this depth."""

    def stand_alone_resnet(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation="softmax",
        name=f"stand_alone_resnet{depth}",
        attention=None,
        residual="add",
        stem="auto",
        stages=_STAGES,
        kernel_size=7,
        num_heads=8,
        positions="relative",
    ):
        return StandAloneResNet(
            blocks_per_stage,
            include_top,
            weights,
            input_tensor,
            input_shape,
            pooling,
            classes,
            classifier_activation,
            name,
            attention,
            residual,
            stem,
            stages,
            kernel_size,
            num_heads,
            positions,
        )

    stand_alone_resnet.__name__ = stand_alone_resnet.__qualname__ = f"StandAloneResNet{depth}"
    stand_alone_resnet.__doc__ = (
        f"Returns the stand-alone ResNet-{depth}: {blocks_per_stage} blocks.\n\n"
        "    The arguments are those of :func:`keras_fmm.models.StandAloneResNet`.\n    "
    )
    return stand_alone_resnet


StandAloneResNet26 = _of_depth(26, (1, 2, 4, 1))
StandAloneResNet38 = _of_depth(38, (2, 3, 5, 2))
StandAloneResNet50 = _of_depth(50, (3, 4, 6, 3))
