"""How steeply a model's outputs change with its input: the norm of the Jacobian."""

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.analysis import gradients
from keras_fmm.analysis.class_scores import class_logits, images_and_classes
from keras_fmm.analysis.estimate import Estimate
from keras_fmm.analysis.images import over_batches, prepared

# A pass for each class stands in the graph by itself up to so many, which leaves TensorFlow free to
# overlap them; a graph of more takes long to build, and they go round a loop. XLA compiles each.
_UNROLLED_CLASSES = 32 if keras.backend.backend() == "tensorflow" else 0


def jacobian_sensitivity(
    model: keras.Model,
    images: hints.ArrayLike,
    of: str = "probabilities",
    batch_size: int = 128,
    verbose: hints.Verbose = "auto",
) -> Estimate:
    """Returns the norm of the input-output Jacobian, on average over images.

    `J = mean over x of ||d f(x) / d x||_F`, with `f` the softmax of the logits, computed here
    in float32 whatever the model's own end is. The norm is over all classes and all entries of
    the input.

    The input is what the model takes: where it begins with `Rescaling(1/255)`, J is for a change
    of one grey level, and 255 times smaller than of a model that takes images of 0 to 1.

    Args:
        model: functional or Sequential `keras.Model` of one input that gives one score for each
            class, as logits or with a softmax; of two classes at least, unless `of="logits"`.
        images: array of numbers, `(n, height, width, channels)` or what the model takes, in the
            range it was trained on.
        of: "probabilities" or "logits", default "probabilities". Of what the Jacobian is. Take
            "logits", before the softmax, of a model that ends in a sigmoid.
        batch_size: int, at least 1, default 128. The images taken at once; the numbers do not
            depend on it.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar after
            five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.

    Returns:
        `Estimate`: the mean over the images; its `total` is their sum.

    Raises:
        TypeError: `images` holds no numbers, or `batch_size` is no integer.
        ValueError: the model takes integers or its logits cannot be told, an argument does not
            fit, or Keras' backend has no gradients.

    Example:

    >>> import keras, numpy as np
    >>> inputs = keras.Input((2,))
    >>> layer = keras.layers.Dense(2, activation="softmax", kernel_initializer="identity")
    >>> model = keras.Model(inputs, layer(inputs))
    >>> jacobian_sensitivity(model, np.zeros((5, 2)))
    Estimate(mean=0.5, standard_error=0.0, n=5)

    Reference:
        Novak, Bahri, Abolafia, Pennington, Sohl-Dickstein, "Sensitivity and Generalization in
        Neural Networks: an Empirical Study". In Ye, He, Wang, Li, "Towards
        Understanding the Effectiveness of Attention Mechanism", table II, the number is by its
        scale the sum over the 10,000 images of a test set: `total`.
    """
    model, images = prepared(model, images)
    return Estimate.from_samples(_norms(model, images, of, batch_size, verbose))


def jacobian_norms(
    model: keras.Model,
    images: hints.ArrayLike,
    of: str = "probabilities",
    batch_size: int = 128,
    verbose: hints.Verbose = "auto",
) -> np.ndarray:
    """Returns the norm of the Jacobian at each image, whose mean is `jacobian_sensitivity`.

    Args:
        model: functional or Sequential `keras.Model` of one input that gives one score for each
            class, as logits or with a softmax; of two classes at least, unless `of="logits"`.
        images: array of numbers, `(n, height, width, channels)` or what the model takes, in the
            range it was trained on.
        of: "probabilities" or "logits", default "probabilities". Of what the Jacobian is.
        batch_size: int, at least 1, default 128. The images taken at once; the numbers do not
            depend on it.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar
            after five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.

    Returns:
        float32 array, `(n,)`.

    Raises:
        TypeError: `images` holds no numbers, or `batch_size` is no integer.
        ValueError: the model takes integers or its logits cannot be told, an argument does not
            fit, or Keras' backend has no gradients.

    Example:

    >>> import keras, numpy as np
    >>> inputs = keras.Input((2,))
    >>> layer = keras.layers.Dense(2, activation="softmax", kernel_initializer="identity")
    >>> model = keras.Model(inputs, layer(inputs))
    >>> jacobian_norms(model, [[0, 0], [0, 2]]).round(3)
    array([0.5 , 0.21], dtype=float32)
    """
    model, images = prepared(model, images)
    return _norms(model, images, of, batch_size, verbose)


def _norms(model, images, of, batch_size, verbose):
    checks.positive_integer("batch_size", batch_size)
    logits = class_logits(model, images, of, takes_floats=True, needs_gradients=True)
    return over_batches(_norms_of_batch(logits, of), [images], batch_size, verbose)


def _norms_of_batch(model, of):
    """Returns a compiled function from a batch to its norms: one backward pass for each class."""
    count = model.outputs[0].shape[-1]

    def norms(images):
        def scored(watch, images):
            watch(images)
            return model(images, training=False), [images], []

        logits, _, _, pullback = gradients.vjp(scored, images)
        probabilities = keras.ops.softmax(logits)

        def add(index, squares):
            is_class = keras.ops.one_hot([index], count)
            row = is_class + keras.ops.zeros_like(logits)
            if of == "probabilities":
                # dp[i] / dlogits[j] is p[i] (1 - p[i]) where i is j, -p[i] p[j] elsewhere; 1 - p[i]
                # as the sum of the others, or nothing would be left of it where p[i] is almost 1.
                own = keras.ops.sum(is_class * probabilities, axis=1, keepdims=True)
                others = (1 - is_class) * probabilities
                row = own * (is_class * keras.ops.sum(others, axis=1, keepdims=True) - others)
            # One image's scores depend on that image alone, so that a batch goes back at once.
            (found,) = pullback(row)
            if found is None:
                return squares
            return squares + keras.ops.sum(found**2, axis=tuple(range(1, len(images.shape))))

        squares = keras.ops.zeros_like(logits[:, 0])
        if count > _UNROLLED_CLASSES:
            squares = keras.ops.fori_loop(0, count, add, squares)
        else:
            for index in range(count):
                squares = add(index, squares)
        return keras.ops.sqrt(squares)

    images, _ = images_and_classes(model.inputs[0].shape[1:])
    return gradients.compiled(norms, model, images)
