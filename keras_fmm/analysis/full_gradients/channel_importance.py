"""How much each channel of a feature map matters to a class's logit."""

import dataclasses

import keras
import numpy as np

from keras_fmm import checks, graph, hints
from keras_fmm.analysis.class_scores import class_logits
from keras_fmm.analysis.full_gradients.recording import function_of_score
from keras_fmm.analysis.images import checked_classes, over_batches, prepared

# Layers whose channels are each made from the same channel of their input.
_CHANNELWISE = (
    keras.layers.Activation,
    keras.layers.AveragePooling2D,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Identity,
    keras.layers.LeakyReLU,
    keras.layers.MaxPooling2D,
    keras.layers.PReLU,
    keras.layers.ReLU,
    keras.layers.SpatialDropout2D,
    keras.layers.ZeroPadding2D,
)


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelImportance:
    """The importance of channels, with and without the terms of biases.

    Attributes:
        without_bias: float32 array `(n, channels)`, at least 0.
        with_bias: float32 array `(n, channels)`, no less than `without_bias`.
    """

    without_bias: np.ndarray
    with_bias: np.ndarray


def channel_importance(
    model: keras.Model,
    images: hints.ArrayLike,
    layer: str,
    class_index: hints.ArrayLike | None = None,
    batch_size: int = 128,
    verbose: hints.Verbose = "auto",
) -> ChannelImportance:
    """Returns how much each channel of a layer's input, such as a gate's, matters to a logit.

    `without_bias[c] = sum over positions of |h_c * df/dh_c|` for the layer's input `h`, and
    `with_bias[c]` is that and, for each bias of the layers that made the channel,
    `sum over positions of |b_c * df/dz_c|`.

    The gradient is the total derivative of the logit with respect to `h`, as FullGrad's is: in a
    gate it goes through the features that are multiplied and through the attention computed from
    them, and through whatever else takes the same tensor, such as a shortcut.

    The biases are those of `full_grad`, batch norm's implicit one among them, with the gradient at
    the place where each joins. The layers that made a channel are found by going back from `h`
    through batch norm, activations, pooling, padding and dropout to the first layer of another
    kind, as a rule a convolution, and that one is the last that counts. A sum of branches, a
    product and an operation without a layer end the way and add nothing of their own.

    While the function traces the model, its layers' `call` is replaced; do not use them in another
    thread meanwhile.

    Args:
        model: functional or Sequential `keras.Model` of one input, a classifier; see
            `logits_model`. Half precision is rebuilt in float32.
        images: array of numbers, `(n, height, width, channels)`, n >= 1, as the model takes them.
        layer: str, the name or path, such as "backbone/stage1_attention", of a layer that takes one
            tensor, channels last unless its `data_format` says otherwise. Of a layer that is called
            several times, it means the first call, "name:2" the second; see `keras_fmm.graph`.
        class_index: int, array of int or None, default None. One class for all images, one for
            each, or the class that the model predicts.
        batch_size: int, at least 1, default 128. The images that are run at once.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar after
            five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.

    Returns:
        A `ChannelImportance`.

    Raises:
        TypeError: `images` or `class_index` holds no numbers of the right kind, `layer` is no str.
        ValueError: as `full_grad`, and where no such layer or several such layers are in the model,
            or it is not called so often on the way to the logits, on one tensor.

    Example:

    >>> import numpy as np
    >>> from keras_fmm import models
    >>> model = models.ToyCNN(input_shape=(8, 8, 1), attention="squeeze_excite")
    >>> found = channel_importance(model, np.random.rand(5, 8, 8, 1), "stage2_attention")
    >>> found.without_bias.shape, found.with_bias.shape
    ((5, 64), (5, 64))

    Reference:
        Ye, He, Wang, Li, "Towards Understanding the Effectiveness of Attention Mechanism",
        section III, which measures channels by FullGrad and does not say whether the biases count;
        Srinivas, Fleuret, "Full-Gradient Representation for Neural Network Visualization".
    """
    batch_size = checks.positive_integer("batch_size", batch_size)
    model, images = prepared(model, images)
    named = graph.find_call(model, "layer", layer)
    logits = class_logits(model, images, needs_gradients=True)
    classes = checked_classes(logits, images, class_index)
    function = _importance_function(model, logits, images.shape[1:], layer, named)
    return ChannelImportance(**over_batches(function, [images, classes], batch_size, verbose))


def _importance_function(model, logits, shape, path, named):
    """Returns a function of images and classes to the fields of a `ChannelImportance`."""

    def importance(images, score, notes, gradients):
        call = _call_of(notes.calls, path, named)
        biases = _biases_behind(notes.calls, call.inputs)
        by_features, *by_biases = gradients([call.inputs] + [bias.values for bias in biases])
        # As documented: of a layer that does not say, the channels are last.
        axis = 1 if getattr(call.operation, "data_format", None) == "channels_first" else -1
        features = _over_positions(call.inputs * by_features, axis)
        whole = features
        for bias, gradient in zip(biases, by_biases, strict=True):
            whole += _over_positions(bias.bias * gradient, axis)
        return {"without_bias": features, "with_bias": whole}

    return function_of_score(model, logits, shape, importance)


def _call_of(calls, path, named):
    import tensorflow as tf

    found = [call for call in calls if call.operation is named.operation]
    if len(found) <= named.number:
        raise ValueError(
            "`layer` must be called on the way to the logits. "
            f"Received: layer={path!r}, of a layer that is called {len(found)} times there."
        )
    taken = found[named.number].inputs
    if not tf.is_tensor(taken) or len(taken.shape) < 2 or not taken.dtype.is_floating:
        raise ValueError(
            "`layer` must take one tensor, (batch, ..., channels), of floats. "
            f"Received: layer={path!r}, which takes {taken}."
        )
    return found[named.number]


def _biases_behind(calls, tensor):
    """Returns the biases of the layers that made a tensor's channels."""
    biases = []
    outputs = [call.outputs for call in calls]
    place = _place(outputs, tensor)
    while place is not None:
        biases += calls[place].biases
        if not isinstance(calls[place].operation, _CHANNELWISE):
            break
        place = _place(outputs[:place], calls[place].inputs)
    return biases


def _place(tensors, tensor):
    """Returns the first place of a tensor; what a model returns, its last layer returned before."""
    return next((place for place, other in enumerate(tensors) if other is tensor), None)


def _over_positions(products, axis):
    import tensorflow as tf

    channels = axis % len(products.shape)
    return tf.reduce_sum(
        tf.abs(products), [i for i in range(1, len(products.shape)) if i != channels]
    )
