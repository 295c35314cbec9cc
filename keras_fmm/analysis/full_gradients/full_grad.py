"""FullGrad: a score as the sum of what the input and each bias give to it."""

import dataclasses

import keras
import numpy as np

from keras_fmm import checks, graph, hints
from keras_fmm.analysis.class_scores import class_logits
from keras_fmm.analysis.full_gradients.recording import function_of_score
from keras_fmm.analysis.images import checked_classes, over_batches, prepared


@dataclasses.dataclass(frozen=True, eq=False)
class FullGradient:
    """A score taken apart: `score = input_term + sum of bias_terms + remainder`, for each image.

    Attributes:
        score: float32 array `(n,)`, the class's logit.
        input_term: float32 array `(n,)`, the sum of `x * df/dx`.
        bias_terms: dict from a layer's path, such as "backbone/conv1", in the order of the
            computation, to a float32 array `(n,)`, the sum of `b * df/dz`. (Paths with dots are
            found for one more release.)
        remainder: float32 array `(n,)`, what these leave of the score.
        saliency: float32 array `(n, height, width)`, at least 0; None where the model's input is
            no image.
    """

    score: np.ndarray
    input_term: np.ndarray
    bias_terms: dict
    remainder: np.ndarray
    saliency: np.ndarray | None


def full_grad(
    model: keras.Model,
    images: hints.ArrayLike,
    class_index: hints.ArrayLike | None = None,
    hold_gates: bool = False,
    batch_size: int = 32,
    verbose: hints.Verbose = "auto",
) -> FullGradient:
    """Returns the full gradient of a class's logit, and the saliency map that is made of it.

    `f(x) = sum(x * df/dx) + sum over biases of sum(b * df/dz) + remainder`, where a bias `b` is a
    constant that joins the features `z` at every position. Biases are, at any depth and inside
    other layers too: those of dense layers and convolutions, taken before their activation; what
    batch norm adds at inference, `beta - gamma * mean / sqrt(variance + epsilon)`, and likewise
    `Normalization` and `Rescaling`; the beta of layer and group norm; a constant added by a bare
    operation, `x + 3`. An activation `phi` has the implicit bias `phi(z) - phi'(z) z`, counted
    with its layer: zero for ReLU, 6 where a ReLU6 is cut off. It may be a bare operation of the
    model too, `keras.ops.silu(x)`, of those in `keras.ops.nn` but softsign, tanh and exp. So is
    taken an unknown layer that has a `bias`, as a whole.

    The remainder is zero, up to rounding, for networks of these, pooling, sums and whatever else is
    linear in the features. It is not where features are multiplied with each other: in gates, in
    `AWConv2D`, in a `MultiplicativeResidual`, in norms that divide by the image's own statistics.
    Such a product is counted twice by its gradient, `x * d(x^2)/dx = 2 x^2`, and no bias makes up
    for that. The biases inside a gate count, with their gradient through its sigmoid. In the
    remainder are, too, the biases inside a loop, as a recurrent layer's, and those that a layer of
    a class of its own holds under another name.

    With `hold_gates` the attention maps are constants of each image, and only the features that
    they multiply are differentiated: given its gates, the network is piecewise linear, and the
    remainder zero again. What stands inside a gate then has no term, but the map of a gate with
    `merge="add"` is a bias. Held are layers with a method `compute_attention_map`, as those of this
    package have; a product made by `keras.layers.Multiply` or a `MultiplicativeResidual` is not, as
    it does not say which factor is the gate.

    The saliency map is `psi(x * df/dx) + sum over layers of psi(b * df/dz)`. Psi takes absolute
    values, maps them linearly to 0 to 1, for each image over all positions and channels of a layer
    (all zero where they are all equal), resizes them bilinearly to the image, with half-pixel
    centres, and sums over the channels, which stand last. Layers without space, of one position or
    of another rank than 4, are left out of the map and stay in the sum.

    While the function traces the model, its layers' `call` is replaced; do not use them in another
    thread meanwhile.

    Args:
        model: functional or Sequential `keras.Model` of one input, a classifier; see
            `logits_model`. Half precision is rebuilt in float32.
        images: array of numbers, `(n, height, width, channels)`, n >= 1, as the model takes them.
        class_index: int, array of int or None, default None. One class for all images, one for
            each, or the class that the model predicts.
        hold_gates: bool, default False. Whether gates are held constant, see above.
        batch_size: int, at least 1, default 32. The images that are run at once. All the terms of a
            batch are held at once.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar after
            five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.

    Returns:
        A `FullGradient`.

    Raises:
        TypeError: `images` or `class_index` holds no numbers of the right kind, or `hold_gates` is
            no bool.
        ValueError: the model is subclassed, takes integers or its logits cannot be told, the images
            do not fit or hold a NaN, a class is out of range; or Keras does not run on TensorFlow.

    Example:

    >>> import keras, numpy as np
    >>> inputs = keras.Input((2,))
    >>> layer = keras.layers.Dense(1, name="score")
    >>> model = keras.Model(inputs, layer(inputs))
    >>> layer.set_weights([np.array([[2.0], [3.0]]), np.array([0.5])])
    >>> found = full_grad(model, np.array([[1.0, -1.0]]))
    >>> found.score.tolist(), found.input_term.tolist(), found.bias_terms["score"].tolist()
    ([-0.5], [-1.0], [0.5])

    Reference:
        Srinivas, Fleuret, "Full-Gradient Representation for Neural Network Visualization",
        the full-gradient decomposition and equation 8. Differs from the paper: equation 8 applies
        psi to each channel by itself; here, as in the authors' code, a layer's channels are
        rescaled together, so that a channel that hardly matters stays small.
    """
    hold_gates = checks.flag("hold_gates", hold_gates)
    model, images = prepared(model, images)
    return averaged(model, images, class_index, hold_gates, batch_size, verbose)


def averaged(model, images, class_index, hold_gates, batch_size, verbose, copies=None):
    """Returns the `FullGradient` of the mean of the terms over copies of each image.

    Args:
        model: as `prepared` returns it.
        images: as `prepared` returns them; an image's class is the copies'.
        class_index: as of `full_grad`.
        hold_gates: as of `full_grad`.
        batch_size: as of `full_grad`.
        verbose: as of `full_grad`.
        copies: function or None, default None (the images alone). Of a batch of images and of their
            places among all to an iterable of batches.
    """
    batch_size = checks.positive_integer("batch_size", batch_size)
    logits = class_logits(model, images, takes_floats=True, needs_gradients=True)
    classes = checked_classes(logits, images, class_index)
    terms = _terms_function(model, logits, images.shape[1:], hold_gates)

    def of_batch(batch, classes, places):
        total, count = None, 0
        for copy in copies(batch, places) if copies else [batch]:
            found = terms(copy, classes)
            total = found if total is None else _added(total, found)
            count += 1
        return _summary(total, count)

    places = np.arange(len(images))
    found = over_batches(of_batch, [images, classes, places], batch_size, verbose)
    remainder = found["score"] - found["input_term"]
    for term in found["bias_terms"].values():
        remainder = remainder - term
    found["bias_terms"] = graph.ByPath(found["bias_terms"])
    return FullGradient(remainder=remainder, saliency=found.pop("saliency", None), **found)


def _terms_function(model, logits, shape, hold_gates):
    """Returns a function of images and classes to the score, and its terms at each position."""

    import tensorflow as tf

    def terms(images, score, notes, gradients):
        by_images, *by_biases = gradients([images] + [bias.values for bias in notes.biases])
        biases = {}
        for bias, gradient in zip(notes.biases, by_biases, strict=True):
            term = bias.bias * gradient
            if len(term.shape) == 2:
                # A layer may be called on several places of each image, one behind the other.
                term = tf.reshape(term, (tf.shape(images)[0], -1))
            biases.setdefault(bias.path, []).append(term)
        return {"score": score, "input": images * by_images, "biases": biases}

    return function_of_score(model, logits, shape, terms, hold_gates)


def _added(total, other):
    import tensorflow as tf

    return tf.nest.map_structure(tf.add, total, other)


def _summary(total, count):
    """Returns the means' sums over positions, and the saliency map of the means."""
    import tensorflow as tf

    means = tf.nest.map_structure(lambda term: term / count, total)
    sums = {
        "score": means["score"],
        "input_term": _sum(means["input"]),
        "bias_terms": {path: sum(map(_sum, maps)) for path, maps in means["biases"].items()},
    }
    if len(means["input"].shape) != 4:
        return sums
    size = means["input"].shape[1:3]
    saliency = _psi(means["input"], size)
    for maps in means["biases"].values():
        for term in maps:
            if len(term.shape) == 4 and tuple(term.shape[1:3]) != (1, 1):
                saliency += _psi(term, size)
    return {**sums, "saliency": saliency}


def _sum(term):
    import tensorflow as tf

    return tf.reduce_sum(term, axis=tuple(range(1, len(term.shape))))


def _psi(term, size):
    import tensorflow as tf

    term = tf.abs(term)
    least = tf.reduce_min(term, (1, 2, 3), keepdims=True)
    most = tf.reduce_max(term, (1, 2, 3), keepdims=True)
    rescaled = tf.math.divide_no_nan(term - least, most - least)
    # Resizing is linear: the sum over channels may go before it.
    return tf.image.resize(tf.reduce_sum(rescaled, -1, keepdims=True), size)[..., 0]
