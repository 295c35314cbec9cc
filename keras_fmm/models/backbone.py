"""What all backbones share: how they begin and how they end."""

import sys

import keras

from keras_fmm import checks

# More blocks in a stage than any network has; building so many would not end.
BLOCKS = 1000


def channel_axis():
    """Returns the axis of the channels under Keras' setting."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1


def sides(x):
    """Returns height and width of a batch of feature maps; either may be None."""
    channels_last = keras.config.image_data_format() == "channels_last"
    return tuple(x.shape[1:3] if channels_last else x.shape[2:4])


def default_shape(include_top, side=224):
    """Returns the shape of a colour image under Keras' setting; of any size without a top."""
    side = side if include_top else None
    if keras.config.image_data_format() == "channels_last":
        return (side, side, 3)
    return (3, side, side)


def images(model, input_tensor, input_shape, minimum):
    """Returns the checked tensor that a backbone begins with.

    Args:
        model: str, the name of the backbone, quoted in errors.
        input_tensor: None, or the output of other Keras layers.
        input_shape: tuple of 3 without the batch; looked at only without `input_tensor`.
        minimum: int, the least height and width.

    Raises:
        TypeError: `input_tensor` is not symbolic, or `input_shape` is no list or tuple of integers
            and None.
        ValueError: no input, one of another rank or unknown channels, one too small, or one that
            comes from several.
    """
    if input_tensor is None and input_shape is None:
        raise ValueError(
            f"{model} needs `input_shape` or `input_tensor`. Received: None for both. "
            "Give e.g. `input_shape=(32, 32, 3)`."
        )
    if input_tensor is None:
        x = keras.Input(checks.shape("input_shape", input_shape))
    else:
        x = _symbolic(input_tensor)
    checks.channels_of(model, x.shape, keras.config.image_data_format())
    check_sides(model, x, minimum)
    return x


def _symbolic(tensor):
    """Returns `input_tensor` if it is the output of layers of one `keras.Input`."""
    if not isinstance(tensor, keras.KerasTensor):
        shape = f" of shape {tensor.shape}" if hasattr(tensor, "shape") else ""
        value = type(tensor).__name__ + shape if shape else repr(tensor)
        raise TypeError(
            "`input_tensor` must be a `keras.Input` or the output of Keras layers. "
            f"Received: input_tensor={value}. Call the model on arrays once it is made."
        )
    sources = keras.utils.get_source_inputs(tensor) if hasattr(tensor, "_keras_history") else []
    if len(sources) != 1:
        raise ValueError(
            "`input_tensor` must come from one `keras.Input`. "
            f"Received: input_tensor={tensor}, which comes from {len(sources)}."
        )
    return tensor


def check_sides(model, x, minimum):
    """Raises ValueError where height or width of `x` is known and less than `minimum`."""
    if any(side is not None and side < minimum for side in sides(x)):
        raise ValueError(
            f"Height and width of the input of {model} must be at least {minimum}, or its last "
            f"maps are empty. Received: input_shape={tuple(x.shape)}. Resize the images."
        )


def checked_epsilon(epsilon):
    """Returns the epsilon of batch norms, a number above 0."""
    return checks.positive_number("epsilon", epsilon)


def pooled(x, pooling):
    """Returns what, without a top, a backbone ends in: a map (None), its means or its maxima."""
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if pooling == "max":
        return keras.layers.GlobalMaxPooling2D(name="max_pool")(x)
    return x


def check_head(include_top, pooling, classes):
    """Returns `include_top` as a bool and `classes` as an int.

    Raises:
        TypeError, ValueError: one of the three is wrong.
    """
    checks.one_of("pooling", pooling, (None, "avg", "max"))
    return checks.flag("include_top", include_top), checks.positive_integer(
        "classes", classes, 2**24
    )


def classified(x, classes, classifier_activation, dropout=0.0):
    """Returns the class scores: means over space, dropout if there is any, one dense layer."""
    x = pooled(x, "avg")
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return predictions(x, classes, classifier_activation)


def predictions(x, classes, classifier_activation):
    """Returns what one dense layer says of the classes."""
    activation = checks.of_keras(classifier_activation=classifier_activation)
    return keras.layers.Dense(classes, activation=activation, name="predictions")(x)


def model_of(x, outputs, name):
    """Returns the model from the source of `x`, so that what precedes `x` is inside."""
    (inputs,) = keras.utils.get_source_inputs(x)
    return network(inputs, outputs, name)


def network(inputs, outputs, name):
    """Returns `keras.Model(inputs, outputs, name=name)`, or says that it is too deep for Keras."""
    try:
        return keras.Model(inputs, outputs, name=name)
    except RecursionError as error:
        raise ValueError(
            "A network must not be deeper than Python's limit of recursion, by which Keras follows "
            f"its layers: at most {sys.getrecursionlimit()} of them on the way back along its "
            f"branches. Received: {name} with more. Take fewer blocks, or raise the limit with "
            "`sys.setrecursionlimit`, here and wherever the model is loaded."
        ) from error
