"""Gradients of the logit by the image, averaged over changed copies of each image."""

import keras
import numpy as np

from keras_fmm import checks, graph
from keras_fmm.analysis.class_scores import class_logits
from keras_fmm.analysis.images import checked_classes, over_batches
from keras_fmm.analysis.saliency.on_tf_explain import ChosenLogit, explainer


def mean_gradients(model, images, class_index, copy, count, batch_size, verbose):
    """Returns for each image the mean gradient over its copies, by tf-explain.

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
    gradients = _traced(logits, images.shape, count)

    def of_batch(images, classes):
        copies = copy(images).reshape(-1, *images.shape[1:])
        return gradients(copies, np.repeat(classes, count))

    return over_batches(of_batch, [images, classes], max(1, batch_size // count), verbose)


def _traced(logits, shape, count):
    """Returns a function of copies and their classes, traced once, to the mean of each image's."""
    explain = explainer("integrated_gradients", "IntegratedGradients")
    import tensorflow as tf

    # A graph of its own: the user's last layer would keep what is called on its output.
    flat = graph.flat_graph(logits)
    chosen = ChosenLogit()
    model = keras.Model(flat.inputs[0], chosen(flat.outputs[0]))

    @tf.function(
        input_signature=[tf.TensorSpec((None, *shape[1:])), tf.TensorSpec((None,), tf.int32)],
        autograph=False,
    )
    def gradients(copies, classes):
        chosen.classes = classes
        # Without tf-explain's own tf.function, which would trace, and keep, every model given.
        return explain.get_integrated_gradients.python_function(copies, model, 0, count)

    traced = gradients.get_concrete_function()
    return lambda copies, classes: traced(tf.constant(copies), tf.cast(classes, tf.int32))
