"""The FMM paper's small network."""

import keras

from keras_fmm.models import backbone, blocks
from keras_fmm.models.weights import with_weights


def ToyCNN(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="toy_cnn",
    attention=None,
    convolution=None,
):
    """Returns three times (3x3 convolution, ReLU, gate, 2x2 max-pool), then one dense layer.

    The convolutions are "same", of 32, 64 and 64 filters. On CIFAR-10, without gates, it has
    66,570 parameters.

    Args:
        include_top: bool, default True. Whether to end in the classifier (flatten and dense).
        weights: None, path or model, default None (random). See `load_weights`.
        input_tensor: None or tensor, default None. The output of other Keras layers to take as
            input, such as a preprocessing layer's.
        input_shape: None or tuple, default None: `(height, width, channels)`, or as
            `keras.config.image_data_format()` says; each side at least 8. Must be given where
            `input_tensor` is not, else not looked at. Height and width may be None without the top.
        pooling: None, "avg" or "max", default None (a feature map). What, without the top, ends
            the model.
        classes: int, at least 1, default 10. The units of the top.
        classifier_activation: str, callable or None, default "softmax". Of the top; None gives
            logits.
        name: str, default "toy_cnn". The model's name.
        attention: None, str, callable or dict, default None. The gate after each convolution's
            ReLU: a name among `layers.GATES` or a callable without arguments that returns a fresh
            layer. In a dict from places to gates the one place is "stage".
        convolution: None, str, callable or dict, default None (Conv2D). Each stage's convolution: a
            name among `layers.CONVOLUTIONS`, or a callable as of `layers.get_convolution`. A dict
            maps patterns of the layers' names to them, as of `ResNet`.

    Returns:
        A functional `keras.Model`. Layer names tell the place. They are `stage1_conv`,
        `stage1_relu`, `stage1_attention`, `stage1_pool`, ..., `predictions`.

    Raises:
        TypeError: an argument is of another type, or a callable does not give a layer as it should.
        ValueError: no input; one too small, or of unknown size where the top needs it; a name or
            place is not known.

    Example:

    >>> ToyCNN(input_shape=(32, 32, 3)).count_params()
    66570
    >>> model = ToyCNN(input_shape=(28, 28, 1), attention="squeeze_excite")
    >>> model.get_layer("stage2_attention").reduction
    16

    Reference:
        Ye, He, Wang, Li, "Towards Understanding the Effectiveness of Attention Mechanism",
        section III. The paper states neither the kernel's size nor the pooling; 3x3 and 2x2
        max-pooling are ours.
    """
    include_top, classes = backbone.check_head(include_top, pooling, classes)
    gates = blocks.gates_by_place(attention, ("stage",), default=("stage",))
    parts = blocks.Parts(gates, blocks.convolutions_by_place(convolution))
    x = start = backbone.images(name, input_tensor, input_shape, minimum=8)
    if include_top and None in backbone.sides(x):
        raise ValueError(
            f"Height and width of the input of {name} must be known for the dense layer at its "
            f"top. Received: input_shape={tuple(x.shape)}. Name them, or give `include_top=False`."
        )

    for stage, filters in enumerate((32, 64, 64), start=1):
        x = parts.chosen_convolution(x, filters, 3, f"stage{stage}_conv", use_bias=True)
        x = keras.layers.ReLU(name=f"stage{stage}_relu")(x)
        x = parts.gate(x, "stage", f"stage{stage}_attention")
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)

    if include_top:
        x = keras.layers.Flatten(name="flatten")(x)
        x = backbone.predictions(x, classes, classifier_activation)
    else:
        x = backbone.pooled(x, pooling)
    parts.check_patterns()
    return with_weights(backbone.model_of(start, x, name), weights)
