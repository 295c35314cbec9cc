"""The scores of a model that gives one for each class: its logits, once they are known as such."""

import keras
import numpy as np

from keras_fmm import checks
from keras_fmm.analysis import gradients
from keras_fmm.analysis.logits import logits_model


def class_logits(model, images, of="logits", takes_floats=False, needs_gradients=False):
    """Returns the model of logits, once it is sure that a measurement can be had from them.

    Args:
        model: as `prepared` returns it.
        images: as `prepared` returns them; the first few are tried.
        of: "logits" or "probabilities", default "logits". What is measured.
        takes_floats: bool, default False. Whether there must be small changes of the input, or
            gradients by it.
        needs_gradients: bool, default False. Whether gradients are taken.

    Raises:
        ValueError: `of` is neither; the model has no logits that can be told, does not give one
            score for each class, or ends in something like a softmax; it takes integers where it
            may not; probabilities are asked of a model of one score; or Keras runs on a
            backend without gradients where it must have them.
    """
    checks.one_of("of", of, ("logits", "probabilities"))
    backend = keras.backend.backend()
    if needs_gradients and backend not in gradients.BACKENDS:
        raise ValueError(
            f"Gradients need one of the backends {', '.join(gradients.BACKENDS)}. "
            f"Received: backend={backend}. "
            "Save the model as .keras and load it with KERAS_BACKEND=tensorflow, or another."
        )
    logits = logits_model(model)
    dtype = logits.inputs[0].dtype
    # Keras would cast down to it, and measure a staircase.
    if takes_floats and not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            "`model` must take floating-point numbers: small changes of its input are measured. "
            f"Received: the model {model.name!r}, whose input is {dtype}. Give a copy that takes "
            "float32: `keras.models.clone_model(model, input_tensors=keras.Input(shape))`, with "
            "`set_weights(model.get_weights())`."
        )
    shape = tuple(logits.outputs[0].shape)
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(
            "`model` must give one score for each class, (batch, classes). "
            f"Received: outputs of shape {shape}."
        )
    if of == "probabilities" and shape[1] == 1:
        raise ValueError(
            "Probabilities are the softmax of the logits, and the softmax of one is always 1. "
            'Received: of="probabilities" and a model of one score. Give `of="logits"`.'
        )
    # The softmax of one score is 1, and so may be anything that is constant.
    if shape[1] > 1 and _sum_to_one(logits, images[:8]):
        raise ValueError(
            "`model` must end in logits, or in a softmax of them that Keras knows. Received: the "
            f"model {model.name!r}, whose scores of each image sum to 1 where its logits were "
            "looked for. Give the model that ends before its softmax: "
            "`keras.Model(model.inputs, layer.output)`."
        )
    return logits


def _sum_to_one(logits, images):
    """Says whether the scores are a softmax's, or what stands for one in a layer of any class."""
    # Halved too: scores of a few images may sum to 1 by chance, or by what the images are.
    outputs = [logits(x, training=False) for x in (images, images / 2)]
    scores = np.stack([keras.ops.convert_to_numpy(x) for x in outputs])
    sums = scores.sum(axis=-1, dtype="float64")
    return scores.min() > -1e-6 and np.allclose(sums, 1, rtol=0, atol=1e-4)


def compiled(model):
    """Returns the model as a compiled function of a float32 batch of any length, in inference.

    Of `model.predict` TensorFlow would warn, where several models are measured one after the other,
    that it is traced again and again.
    """
    (images, _) = images_and_classes(model.inputs[0].shape[1:])
    return gradients.compiled(lambda images: model(images, training=False), model, images)


def images_and_classes(shape):
    """Returns symbolic images and their classes, as `gradients.compiled` takes them."""
    return keras.KerasTensor((None, *shape)), keras.KerasTensor((None,), dtype="int32")


def chosen(scores, classes):
    """Returns the score of the class chosen for each image, `(n,)`."""
    return keras.ops.take_along_axis(scores, classes[:, None], axis=1)[:, 0]
