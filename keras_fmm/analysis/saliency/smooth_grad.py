"""SmoothGrad: gradients averaged over noisy copies of an image."""

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.analysis.images import prepared
from keras_fmm.analysis.saliency.mean_gradients import mean_gradients


def smooth_grad(
    model: keras.Model,
    images: hints.ArrayLike,
    class_index: hints.ArrayLike | None = None,
    num_samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    batch_size: int = 128,
    verbose: hints.Verbose = "auto",
) -> np.ndarray:
    """Returns the gradient of the class's logit by the image, averaged over noisy copies of it.

    `mean over k of gradient(image + e[k])`, `e[k]` normal with the standard deviation
    `noise * (max(image) - min(image))`.

    Args:
        model: functional or Sequential `keras.Model` of one input that classifies; it may end in
            a softmax, before which the logits are taken.
        images: array `(n, height, width, channels)`, or what the model takes; float32 or integers.
        class_index: int, array of int or None, default None. One class for all images, one for
            each, or the class that the model predicts for each, before the noise.
        num_samples: int, from 1 to 10,000, default 50. The noisy copies of each image.
        noise: float, at least 0, default 0.15. A share of each image's range; 0 gives the plain
            gradient.
        seed: int, at least 0, default 0. Of the noise, which does not depend on `batch_size`.
        batch_size: int, at least 1, default 128. The images that are run at once, copies counted;
            those of one image always are.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar after
            five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.

    Returns:
        Float32 NumPy array of the images' shape; of both signs, and not normalised.

    Raises:
        TypeError: the images or the classes hold no numbers.
        ValueError: there is no such class; the noise is negative; the model is subclassed, not
            built, gives no scores or takes integers; the images do not fit it, or are not finite;
            or Keras' backend has no gradients.

    Example:

    >>> import numpy as np
    >>> from keras_fmm import models
    >>> model = models.ToyCNN(input_shape=(8, 8, 3))
    >>> smooth_grad(model, np.random.rand(2, 8, 8, 3), num_samples=4).shape
    (2, 8, 8, 3)

    Reference:
        Smilkov et al., "SmoothGrad: removing noise by adding noise", section 3.
    """
    model, images = prepared(model, images)
    num_samples = checks.positive_integer("num_samples", num_samples, checks.REPEATS)
    if checks.number("noise", noise) < 0:
        raise ValueError(f"`noise` must be at least 0. Received: noise={noise}")
    random = np.random.default_rng(checks.integer("seed", seed, "an integer of at least 0"))

    def noisy(images):
        axes = tuple(range(1, images.ndim))
        ranges = np.ptp(images, axis=axes, keepdims=True)[:, None]
        shape = (len(images), num_samples, *images.shape[1:])
        return images[:, None] + noise * ranges * random.standard_normal(shape, "float32")

    return mean_gradients(model, images, class_index, noisy, num_samples, batch_size, verbose)
