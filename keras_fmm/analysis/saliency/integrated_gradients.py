"""Integrated gradients: what each number of an image adds to a logit."""

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.analysis.images import prepared
from keras_fmm.analysis.saliency.mean_gradients import mean_gradients


def integrated_gradients(
    model: keras.Model,
    images: hints.ArrayLike,
    class_index: hints.ArrayLike | None = None,
    n_steps: int = 50,
    baseline: hints.ArrayLike = 0.0,
    batch_size: int = 128,
    verbose: hints.Verbose = "auto",
) -> np.ndarray:
    """Returns what each number of an image adds to the class's logit, against a baseline.

    `(image - baseline) * mean over k of gradient(baseline + k / (n_steps - 1) * (image -
    baseline))`, k from 0 to `n_steps - 1`. Summed over the image that is the difference between
    the logits of image and baseline, up to the error of the sum for an integral, which falls as
    `1 / n_steps`.

    Args:
        model: functional or Sequential `keras.Model` of one input that classifies; it may end in
            a softmax, before which the logits are taken.
        images: array `(n, height, width, channels)`, or what the model takes; float32 or integers.
        class_index: int, array of int or None, default None. One class for all images, one for
            each, or the class that the model predicts.
        n_steps: int, from 2 to 10,000, default 50. The points on the way from baseline to image,
            both included.
        baseline: number or array that broadcasts to an image, default 0.0. The image that shows
            nothing, in the range of `images`. 0 is black for images as they are stored.
        batch_size: int, at least 1, default 128. The images that are run at once, steps counted;
            those of one image always are.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar after
            five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.

    Returns:
        Float32 NumPy array of the images' shape; of both signs.

    Raises:
        TypeError: the images, the classes or the baseline hold no numbers.
        ValueError: there is no such class; the baseline fits no image; the model is subclassed,
            not built, gives no scores or takes integers; the images do not fit it, or are not
            finite; or Keras' backend has no gradients.

    Example:

    >>> import keras, numpy as np
    >>> inputs = keras.Input((2, 2, 1))
    >>> layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    >>> model = keras.Model(inputs, layer(keras.layers.Flatten()(inputs)))
    >>> image = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 2, 1)
    >>> integrated_gradients(model, image).ravel().round(3).tolist()
    [1.0, 2.0, 3.0, 4.0]

    Reference:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", equations 1 and 3.
    """
    n_steps = checks.integer(
        "n_steps", n_steps, "an integer from 2 to 10,000", minimum=2, below=checks.REPEATS
    )
    model, images = prepared(model, images)
    baseline = checks.real_array("baseline", baseline)
    with np.errstate(over="ignore"):
        baseline = baseline.astype("float32")
    try:
        fits = np.isfinite(np.broadcast_to(baseline, images.shape[1:])).all()
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            "`baseline` must be finite, a number or an array that broadcasts to an image. "
            f"Received: baseline of shape {baseline.shape} for images of shape {images.shape}."
        )

    def path(images):
        steps = np.linspace(0, 1, n_steps, dtype="float32").reshape(-1, *(1,) * (images.ndim - 1))
        return baseline + steps * (images - baseline)[:, None]

    gradients = mean_gradients(model, images, class_index, path, n_steps, batch_size, verbose)
    return gradients * (images - baseline)
