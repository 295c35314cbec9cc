"""What a two-stage detector is trained to make small, as a layer inside it."""

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.detection.losses import encoded, only_known
from keras_fmm.detection.region_proposals import rows
from keras_fmm.detection.retinanet import checked_variance


@keras.saving.register_keras_serializable(package="keras_fmm")
class SampledLoss(keras.layers.Layer):
    """Adds the loss of sampled boxes to the model's, and gives its first input as it is.

    The loss is the cross-entropy of the classes and of nothing, whose logit is 0, plus smooth L1 of
    the deltas of boxes with an object, summed; both are divided by the number of boxes that are
    asked, of all images.

    Args:
        variance: sequence of 4 numbers, default (1, 1, 1, 1). What deltas are multiplied with; the
            loss is of those before that.
        beta: number above 0, default 1 / 9. Up to which error smooth L1 is a square.
        of_all: bool, default False. Whether deltas and logits are of all boxes that the samples
            were chosen from; else of the samples.
        one_for_all: bool, default True. Whether, where there is one class, all objects are of it,
            as of region proposals; else its label is 0.

    Call arguments:
        inputs: any tensor.
        samples: a dict, what `Sampling` gives.
        deltas: `(batch, samples, 4)`, or of each class `(batch, samples, classes, 4)`.
        logits: `(batch, samples, classes)`. A label that is not below `classes` makes the loss NaN,
            unless one class is for all.

    Output shape:
        That of `inputs`.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Example:

    >>> import numpy as np
    >>> boxes = np.array([[[0, 0, 8, 8]]], "float32")
    >>> samples = {"boxes": boxes, "objects": np.pad(boxes, [(0, 0), (0, 0), (0, 1)])}
    >>> samples["state"] = np.ones((1, 1), "float32")
    >>> layer = SampledLoss()
    >>> _ = layer(np.zeros(3), samples, np.zeros((1, 1, 4)), np.zeros((1, 1, 1)))
    >>> round(float(layer.losses[0]), 4)  # one of two, object or nothing: log(2)
    0.6931

    Reference:
        Girshick, "Fast R-CNN", section 2.3; Ren et al., "Faster R-CNN", equation 1; normalised as
        in torchvision.
    """

    def __init__(
        self, variance=(1.0, 1.0, 1.0, 1.0), beta=1 / 9, of_all=False, one_for_all=True, **kwargs
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.variance = checked_variance(variance)
        self.beta = checks.positive_number("beta", beta)
        self.of_all = checks.flag("of_all", of_all)
        self.one_for_all = checks.flag("one_for_all", one_for_all)

    def call(self, inputs, samples, deltas, logits):
        objects, state = samples["objects"], samples["state"]
        if self.of_all:
            deltas, logits = (rows(x, samples["index"]) for x in (deltas, logits))
        is_positive = ops.cast(state == 1, "float32")
        is_asked = ops.cast(state >= 0, "float32")
        labels = ops.maximum(ops.cast(objects[..., 4], "int32"), 0)
        is_known = 1.0
        if logits.shape[-1] > 1 or not self.one_for_all:
            is_known = only_known(labels, logits.shape[-1], "float32")
        labels = ops.minimum(labels, logits.shape[-1] - 1)
        classes = cross_entropy(logits, labels, is_positive)
        if len(deltas.shape) == 4:
            own = ops.one_hot(labels, logits.shape[-1], dtype="float32")
            deltas = ops.sum(deltas * ops.expand_dims(own, 3), axis=2)
        wanted = encoded(samples["boxes"], objects[..., :4]) / ops.convert_to_tensor(
            self.variance, "float32"
        )
        wanted = ops.where(ops.expand_dims(state == 1, 2), wanted, 0.0)
        boxes = ops.sum(smooth_l1(deltas - wanted, self.beta), axis=2)
        total = ops.sum(classes * is_asked + boxes * is_positive, axis=1)
        total = ops.sum(is_known * total)
        self.add_loss(total / ops.maximum(ops.sum(is_asked), 1.0))
        return inputs

    def compute_output_spec(self, inputs, samples, deltas, logits):
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "variance": self.variance,
            "beta": self.beta,
            "of_all": self.of_all,
            "one_for_all": self.one_for_all,
        }


def cross_entropy(logits, labels, is_positive):
    """Returns -log of the share of the label, or of nothing, whose logit is 0.

    Args:
        logits: float tensor `(batch, n, classes)`.
        labels: int tensor `(batch, n)`, from 0 to less than `classes`.
        is_positive: float tensor `(batch, n)`: 1 where the label counts, 0 where it is nothing.
    """
    whole = ops.logsumexp(ops.pad(logits, [[0, 0], [0, 0], [1, 0]]), axis=2)
    # Not `one_hot`, which refuses labels that are too large: Keras tries losses on ones.
    is_own = ops.expand_dims(labels, 2) == ops.arange(logits.shape[-1], dtype=labels.dtype)
    own = ops.sum(logits * ops.cast(is_own, logits.dtype), axis=2)
    return whole - own * is_positive


def smooth_l1(errors, beta):
    """Returns errors' sizes, half of beta less, and squares below beta."""
    size = ops.abs(errors)
    return ops.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)
