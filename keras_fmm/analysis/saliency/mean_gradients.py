"""Gradients of the logit by the image, averaged over changed copies of each image."""

import keras
import numpy as np

from keras_fmm import checks
from keras_fmm.analysis import gradients
from keras_fmm.analysis.class_scores import chosen, class_logits, images_and_classes
from keras_fmm.analysis.images import checked_classes, over_batches


def mean_gradients(model, images, class_index, copy, count, batch_size, verbose):
    """Returns for each image the mean gradient over its copies.

    Args:
        model: as `prepared` returns it.
        images: as `prepared` returns them.
        class_index: as `integrated_gradients` takes it.
        verbose: as `integrated_gradients` takes it.
        copy: function of a float32 array of images to one of their copies, `(n, count, ...)`.
        count: int, the copies of each.
        batch_size: int, the copies that are run at once, but at least those of one image.

    Returns:
        Float32 NumPy array of the images' shape.
    """
    batch_size = checks.positive_integer("batch_size", batch_size)
    logits = class_logits(model, images, takes_floats=True, needs_gradients=True)
    classes = checked_classes(logits, images, class_index)
    mean = _compiled(logits, images.shape, count)

    def of_batch(images, classes):
        copies = copy(images).reshape(-1, *images.shape[1:])
        return mean(copies, np.repeat(classes, count))

    return over_batches(of_batch, [images, classes], max(1, batch_size // count), verbose)


def _compiled(logits, shape, count):
    """Returns a function of copies and their classes to the mean gradient of each image's."""

    def mean(copies, classes):
        def scored(watch, copies):
            watch(copies)
            return chosen(logits(copies, training=False), classes), [copies], []

        scores, _, _, pullback = gradients.vjp(scored, copies)
        (found,) = pullback(keras.ops.ones_like(scores))
        found = keras.ops.zeros_like(copies) if found is None else found
        return keras.ops.mean(keras.ops.reshape(found, (-1, count, *shape[1:])), axis=1)

    return gradients.compiled(mean, logits, *images_and_classes(shape[1:]))
