"""FullGrad, smoothed by noise."""

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.analysis.full_gradients.full_grad import averaged
from keras_fmm.analysis.images import prepared
from keras_fmm.progress import Progress


def smooth_full_grad(
    model: keras.Model,
    images: hints.ArrayLike,
    class_index: hints.ArrayLike | None = None,
    noise: float = 0.15,
    samples: int = 25,
    seed: int = 0,
    hold_gates: bool = False,
    batch_size: int = 32,
    verbose: hints.Verbose = "auto",
) -> np.ndarray:
    """Returns the full gradient averaged over noisy copies of each image.

    The terms `x * df/dx` and `b * df/dz` at each position are averaged over copies `x + e` (x is
    the copy), with their signs, and the saliency map is made of the averages; so are the sums, and
    the score is the copies' mean score. The class is that of the image itself.

    Args:
        model: functional or Sequential `keras.Model` of one input, a classifier, as in `full_grad`.
        images: array of numbers, `(n, height, width, channels)`, n >= 1, as the model takes them.
        class_index: int, array of int or None, default None. One class for all images, one for
            each, or the class that the model predicts.
        noise: number, at least 0, default 0.15. The standard deviation of `e`, which is normal, as
            a fraction of the image's range, its greatest value less its least.
        samples: int, from 1 to 10,000, default 25. The copies of each image.
        seed: int, at least 0, default 0. An image's copies depend on it and on the image's place
            among `images` only.
        hold_gates: bool, default False. Whether gates are held constant, as in `full_grad`.
        batch_size: int, at least 1, default 32. The images that are run at once, a copy of each.
            All the terms of a batch are held at once.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar of
            the copies after five seconds, 0 never, 1 from the first step on; 2 writes one line at
            the end.

    Returns:
        A `FullGradient`.

    Raises:
        TypeError: as `full_grad`, and for `noise`, `samples` and `seed`.
        ValueError: as `full_grad`, and for `noise`, `samples` and `seed`.

    Example:

    >>> import numpy as np
    >>> from keras_fmm import models
    >>> model = models.ToyCNN(input_shape=(8, 8, 1))
    >>> image = np.random.rand(1, 8, 8, 1)
    >>> smooth_full_grad(model, image, samples=3).saliency.shape
    (1, 8, 8)

    Reference:
        Smilkov, Thorat, Kim, Viegas, Wattenberg, "SmoothGrad: removing noise by adding noise";
        Srinivas and Fleuret as in `full_grad`, whose code averages with the signs, as here, and has
        these defaults.
    """
    noise = checks.number("noise", noise)
    if noise < 0:
        raise ValueError(f"`noise` must be at least 0. Received: noise={noise}")
    samples = checks.positive_integer("samples", samples, checks.REPEATS)
    seed = checks.integer("seed", seed, "an integer of at least 0")
    hold_gates = checks.flag("hold_gates", hold_gates)
    model, images = prepared(model, images)
    progress = Progress(samples * len(images), verbose, unit_name="copy")

    def copies(batch, places):
        draws = [np.random.default_rng((seed, place)) for place in places]
        axes = tuple(range(1, batch.ndim))
        deviation = noise * np.ptp(batch, axis=axes, keepdims=True)
        for _ in range(samples):
            normal = np.stack([draw.standard_normal(batch.shape[1:], "float32") for draw in draws])
            yield batch + deviation * normal
            progress.add(len(batch))

    return averaged(model, images, class_index, hold_gates, batch_size, 0, copies)
