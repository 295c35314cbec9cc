"""Grad-CAM, for any layer of a functional model, nested or not."""

import math

import keras
import numpy as np

from keras_fmm import checks, graph, hints
from keras_fmm.analysis import gradients
from keras_fmm.analysis.class_scores import chosen, class_logits, images_and_classes
from keras_fmm.analysis.images import checked_classes, over_batches, prepared


def grad_cam(
    model: keras.Model,
    images: hints.ArrayLike,
    class_index: hints.ArrayLike | None = None,
    layer: str | None = None,
    batch_size: int = 32,
    verbose: hints.Verbose = "auto",
) -> np.ndarray:
    """Returns where in each image a layer's features speak for a class.

    `maps = relu(sum over c of w[c] * A[:, :, c])` with `w[c]` the mean over all positions of the
    gradient of the class's logit by `A[:, :, c]`, `A` being the layer's output. The gradients are
    not guided.

    Args:
        model: functional or Sequential `keras.Model` of one input that classifies; it may end in
            a softmax, before which the logits are taken.
        images: array `(n, height, width, channels)`, or what the model takes; float32 or integers.
        class_index: int, array of int or None, default None. One class for all images, one for
            each, or the class that the model predicts.
        layer: str or None, default None, the name or path of the layer whose output is looked at,
            such as "resnet50/conv5_block3_out" in a nested model, or "name:2" for a later call of
            the same layer; see `keras_fmm.graph`. None takes the last that gives a feature map, an
            output of rank 4, of more than one position.
        batch_size: int, at least 1, default 32. The images that are run at once.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar after
            five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.

    Returns:
        Float32 NumPy array `(n, h, w)` of the layer's height and width, at least 0. It is not
        normalised: the sum over its positions, before the ReLU, is in units of the logit.

    Raises:
        TypeError: the images or the classes hold no numbers, `layer` is no str.
        ValueError: there is no such layer or class, or several such layers; the layer gives no
            feature map or the logits do not depend on it; the model is subclassed, not built or
            gives no scores; the images do not fit it, or are not finite; or Keras' backend has no
            gradients.

    Example:

    >>> import numpy as np
    >>> from keras_fmm import models
    >>> model = models.ToyCNN(input_shape=(8, 8, 3))
    >>> grad_cam(model, np.random.rand(5, 8, 8, 3), layer="stage1_relu").shape
    (5, 8, 8)

    Reference:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization", equations 1 and 2. The heat maps in Ye, He, Wang, Li, "Towards
        Understanding the Effectiveness of Attention Mechanism", are these.
    """
    batch_size = checks.positive_integer("batch_size", batch_size)
    model, images = prepared(model, images)
    logits = class_logits(model, images, needs_gradients=True)
    flat = graph.flat_graph(logits)
    call = _last(flat.calls, model) if layer is None else _named(flat.calls, model, layer)
    classes = checked_classes(logits, images, class_index)
    heat_maps = _heat_maps(flat, call, logits, images.shape)
    return over_batches(heat_maps, [images, classes], batch_size, verbose)


def _named(calls, model, path):
    """Returns the call of this path in a model, among those of its logits."""
    named = graph.find_call(model, "layer", path)
    # Not by the path: a nested model that is cut to its logits has another name.
    found = [
        call for call in calls if call.operation is named.operation and call.number == named.number
    ]
    if not found:
        raise ValueError(
            "`layer` must stand before the model's logits, in a model and not in another layer. "
            f"Received: layer={path!r}, which gives them, comes after them, is an input or stands "
            "in a layer. "
            f"Take one before it, such as {_last(calls, model).path!r}."
        )
    found = found[0]
    if not _is_feature_map(found.output):
        shape = getattr(found.output, "shape", "several outputs")
        raise ValueError(
            "`layer` must give feature maps, of rank 4. "
            f"Received: layer={path!r}, which gives {shape}. "
            f"Take a layer such as {_last(calls, model).path!r}."
        )
    return found


def _last(calls, model):
    for call in reversed(calls):
        if _is_feature_map(call.output):
            sides = call.output.shape[1:3]
            if call.data_format == "channels_first":
                sides = call.output.shape[2:4]
            if None in sides or math.prod(sides) > 1:
                return call
    raise ValueError(
        "`model` must have a layer that gives feature maps, of rank 4 and more than one position. "
        f"Received: the model {model.name!r}, which has none before its logits."
    )


def _is_feature_map(output):
    return isinstance(output, keras.KerasTensor) and len(output.shape) == 4


def _heat_maps(flat, call, logits, shape):
    """Returns a compiled function of images and classes to heat maps."""
    axes, channels = ((2, 3), 1) if call.data_format == "channels_first" else ((1, 2), 3)
    model = keras.Model(flat.inputs[0], [flat.outputs[0], call.output])
    maker = call.output._keras_history.operation

    def heat_maps(images, classes):
        def scored(watch, images):
            watch(images)
            maker.watch = watch
            try:
                found, features = model(images, training=False)
            finally:
                # A tape lives as long as what watches for it.
                maker.watch = None
            return chosen(found, classes), [features], []

        scores, (features,), _, pullback = gradients.vjp(scored, images)
        (gradient,) = pullback(keras.ops.ones_like(scores))
        if gradient is None:
            raise ValueError(
                "The logits must depend on what `layer` gives, by way of its gradient. "
                f"Received: layer={call.path!r}, after which there is none. Take a later one."
            )
        weights = keras.ops.mean(gradient, axis=axes, keepdims=True)
        return keras.ops.relu(keras.ops.sum(weights * features, axis=channels))

    return gradients.compiled(heat_maps, logits, *images_and_classes(shape[1:]))
