"""The logits or probabilities of a model that gives one score for each class."""

import keras
import numpy as np

from keras_fmm import checks
from keras_fmm.analysis.logits import logits_model
from keras_fmm.float32 import as_float32


def score_model(model, images, of):
    """Returns the model of logits, in float32, once it is sure that `of` can be had from them.

    Args:
        model: functional or Sequential `keras.Model`.
        images: as `checked_images` returns them; the first few are tried.
        of: "logits" or "probabilities".

    Raises:
        ValueError: `of` is neither; the model takes integers, which have no small changes; it has
            no logits that can be told, does not give one score for each class, or ends in
            something like a softmax; or probabilities are asked of a model of one score.
    """
    checks.one_of("of", of, ("logits", "probabilities"))
    logits = logits_model(as_float32(model))
    dtype = logits.inputs[0].dtype
    # Keras would cast down to it, and measure a staircase.
    if not keras.backend.is_float_dtype(dtype):
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
    sums = np.asarray(logits(images[:8], training=False)).sum(axis=-1, dtype="float64")
    # As a softmax, or what stands for one, under which the scores of an image have no mean of
    # their own; a layer without `activation` that does so cannot be known by its name.
    if np.allclose(sums, 1, rtol=0, atol=1e-4):
        raise ValueError(
            "`model` must end in logits, or in a softmax of them that Keras knows. Received: the "
            f"model {model.name!r}, whose scores of each image sum to 1 where its logits were "
            "looked for. Give the model that ends before its softmax: "
            "`keras.Model(model.inputs, layer.output)`."
        )
    return logits


def compiled(model):
    """Returns the model as a compiled function of a float32 batch of any length, in inference.

    It is traced here, once. Of `model.predict` TensorFlow would warn, where several models are
    measured one after the other, that it is traced again and again.
    """
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, *model.inputs[0].shape[1:]))])
    def scores(images):
        return model(images, training=False)

    return scores.get_concrete_function()
