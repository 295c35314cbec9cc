"""How far noise on the input moves a model's outputs."""

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.analysis.class_scores import class_logits, compiled
from keras_fmm.analysis.estimate import Estimate
from keras_fmm.analysis.images import over_batches, prepared


def output_sensitivity(
    model: keras.Model,
    images: hints.ArrayLike,
    noise: float = 0.1,
    draws: int = 10,
    seed: int = 0,
    of: str = "logits",
    batch_size: int = 128,
    verbose: hints.Verbose = "auto",
) -> Estimate:
    """Returns the variance of what noise on the input does to the mean of the logits.

    `S = Var over x, e of d(x, e)`, where `d(x, e) = mean over classes of f(x + e) - f(x)`, `f` are
    the logits and e is normal, independent in each entry, with standard deviation `noise`.

    The variance is over all n * draws pairs and divided by their number, which makes it too small
    by a part of 1/n at most. The draws of one image depend on each other, so the standard error is
    that of the images alone: with `s[i]` the mean over the draws of image i of `(d - mean d)**2`,
    whose mean over the images is S, it is the standard deviation of `s` divided by sqrt(n).

    Args:
        model: functional or Sequential `keras.Model` of one input that gives one score for each
            class, as logits or with a softmax, which is left out.
        images: array of numbers, `(n, height, width, channels)` or what the model takes, in the
            range it was trained on.
        noise: float above 0, default 0.1. In the units of `images`: 0.1 suits images of 0 to 1 or
            of unit variance; for grey levels of 0 to 255, `0.1 * 255` is as much.
        draws: int, from 1 to 10,000, default 10. The draws for each image.
        seed: int, at least 0, default 0. One seed gives the same noise whatever `batch_size`, drawn
            image after image.
        of: "logits", default "logits". There is no choice: the mean of probabilities over the
            classes is 1 / classes whatever the input.
        batch_size: int, at least 1, default 128. The inputs taken at once.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar over
            the noisy images after five seconds, 0 never, 1 from the first step on; 2 writes one
            line at the end.

    Returns:
        `Estimate`: `mean` is S, `n` the images.

    Raises:
        TypeError: `images` holds no numbers, or another argument is of the wrong type.
        ValueError: the model's logits cannot be told, or its softmax cannot be left out; or an
            argument is out of range.

    Example:

    >>> import keras, numpy as np
    >>> inputs = keras.Input((2,))
    >>> layer = keras.layers.Dense(2, activation="softmax", kernel_initializer="ones")
    >>> model = keras.Model(inputs, layer(inputs))  # d is the sum of two entries of the noise
    >>> sensitivity = output_sensitivity(model, np.zeros((1000, 2)), noise=0.1)
    >>> bool(abs(sensitivity.mean - 2 * 0.1**2) < 4 * sensitivity.standard_error)
    True

    Reference:
        Forouzesh, Salehi, Thiran, "Generalization Comparison of Deep Neural Networks via Output
        Sensitivity".
    """
    if of == "probabilities":
        raise ValueError(
            '`of` must be "logits": the mean of probabilities over the classes is 1 / classes '
            'whatever the input, and S would be 0. Received: of="probabilities". Leave it out; '
            "a model that ends in a softmax is measured before it."
        )
    noise = checks.number("noise", noise)
    if noise <= 0:
        raise ValueError(
            "`noise` must be above 0, a standard deviation in the units of the images. "
            f"Received: noise={noise}"
        )
    draws = checks.positive_integer("draws", draws, checks.REPEATS)
    batch_size = checks.positive_integer("batch_size", batch_size)
    generator = np.random.default_rng(checks.integer("seed", seed, "an integer of at least 0"))
    model, images = prepared(model, images)
    logits = compiled(class_logits(model, images, of, takes_floats=True))

    def mean_logits(batch):
        return np.mean(np.asarray(logits(batch)), axis=-1, dtype="float64")

    def noisy_mean_logits(pairs):
        errors = generator.standard_normal((len(pairs), *images.shape[1:]), "float32")
        return mean_logits(images[pairs // draws] + np.float32(noise) * errors)

    clean = over_batches(mean_logits, [images], batch_size)
    pairs = np.arange(len(images) * draws)
    noisy = over_batches(noisy_mean_logits, [pairs], batch_size, verbose)
    differences = noisy.reshape(len(images), draws) - clean[:, None]
    squares = (differences - differences.mean()) ** 2
    return Estimate.from_samples(squares.mean(axis=1))
