"""What covering a part of an image takes from a class's logit."""

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.analysis.class_scores import class_logits, compiled
from keras_fmm.analysis.images import checked_classes, over_batches, prepared


def occlusion_sensitivity(
    model: keras.Model,
    images: hints.ArrayLike,
    class_index: hints.ArrayLike | None = None,
    patch_size: int = 8,
    value: float | None = None,
    batch_size: int = 128,
    verbose: hints.Verbose = "auto",
) -> np.ndarray:
    """Returns how much the class's logit falls where a square of the image is covered.

    `maps[:, i, j] = logit(images) - logit(images, rows i * p to (i + 1) * p and columns j * p to
    (j + 1) * p covered)`, `p` being `patch_size`. The squares do not overlap; the last of a row
    or column is cut at the image's edge.

    Args:
        model: functional or Sequential `keras.Model` of one input that classifies; it may end in
            a softmax, before which the logits are taken.
        images: array `(n, height, width, channels)`, or as `keras.config.image_data_format()`
            says; float32 or integers.
        class_index: int, array of int or None, default None. One class for all images, one for
            each, or the class that the model predicts for each, uncovered.
        patch_size: int, at least 1, default 8. The squares' side in pixels. Give less for small
            images: one of 8x8 is a single square of 8.
        value: number or None, default None (the mean of each image and channel). What covers, in
            the range of `images`.
        batch_size: int, at least 1, default 128. The images that are run at once.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar after
            five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.

    Returns:
        Float32 NumPy array `(n, ceil(height / patch_size), ceil(width / patch_size))`, in units
        of the logit; negative where covering speaks for the class.

    Raises:
        TypeError: the images or the classes hold no numbers.
        ValueError: there is no such class; the model is subclassed, not built, gives no scores or
            takes no images of rank 4; the images do not fit it, or are not finite.

    Example:

    >>> import numpy as np
    >>> from keras_fmm import models
    >>> model = models.ToyCNN(input_shape=(8, 8, 3))
    >>> occlusion_sensitivity(model, np.random.rand(5, 8, 8, 3), patch_size=3).shape
    (5, 3, 3)

    Reference:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", section 4.2.
        Differs from the paper: the fall of the logit, not the probability that is left.
    """
    patch_size = checks.positive_integer("patch_size", patch_size)
    batch_size = checks.positive_integer("batch_size", batch_size)
    model, images = prepared(model, images)
    if images.ndim != 4:
        raise ValueError(
            "`images` must have rank 4, for there to be squares to cover. "
            f"Received: images of shape {images.shape}."
        )
    if value is not None:
        value = np.float32(checks.number("value", value))
    logits = class_logits(model, images)
    classes = checked_classes(logits, images, class_index)
    scores = compiled(logits)

    def chosen(images, classes):
        return np.asarray(scores(images))[np.arange(len(images)), classes]

    def of_batch(images, classes):
        before = chosen(images, classes)
        return np.stack(
            [
                [before - chosen(covered, classes) for covered in row]
                for row in _covered(images, patch_size, value)
            ]
        ).transpose(2, 0, 1)

    return over_batches(of_batch, [images, classes], batch_size, verbose)


def _covered(images, patch_size, value):
    """Yields for each row of squares an iterator over the images with each of them covered."""
    is_last = keras.config.image_data_format() == "channels_last"
    axes = (1, 2) if is_last else (2, 3)
    height, width = (images.shape[axis] for axis in axes)
    fill = images.mean(axis=axes, keepdims=True) if value is None else value

    def cover(top, left):
        inside = np.zeros((height, width), bool)
        inside[top : top + patch_size, left : left + patch_size] = True
        return np.where(inside[..., None] if is_last else inside, fill, images)

    for top in range(0, height, patch_size):
        yield (cover(top, left) for left in range(0, width, patch_size))
