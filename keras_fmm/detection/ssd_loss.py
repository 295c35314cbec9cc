"""What SSD is trained to make small."""

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.detection.losses import check_shapes, encoded, not_negative, only_known
from keras_fmm.detection.matching import match
from keras_fmm.detection.retinanet import checked_variance
from keras_fmm.detection.sampled_loss import cross_entropy, smooth_l1


@keras.saving.register_keras_serializable(package="keras_fmm")
class SSDLoss(keras.losses.Loss):
    """Returns an image's loss of boxes and classes, of the boxes with an object and the hardest.

    A default box is to find the object that it overlaps most, if by at least `foreground`, and each
    object's best box that object. Smooth L1 of the deltas of these boxes is summed, and so are the
    cross-entropies of theirs and of `negatives` times as many of the others of the same image,
    those of the highest. The mean over the batch is the sum over it, divided by its number of boxes
    with an object, at least 1; under a strategy each replica divides by its own.

    Args:
        foreground: number from 0 to 1, default 0.5.
        negatives: number from 0 on, default 3.
        variance: sequence of 4 numbers, default (0.1, 0.1, 0.2, 0.2), those of `SSD300`: what
            deltas were multiplied with; the loss is of those before that.

    Call arguments:
        y_true: `(batch, objects, 5)`: x1, y1, x2, y2 in pixels and the label, -1 for padding; see
            `targets`. A label that is not below `classes` makes the loss NaN.
        y_pred: `(batch, boxes, 8 + classes)`, what `SSD300` gives.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Example:

    >>> import numpy as np
    >>> outputs = np.zeros((1, 1, 9), "float32")  # no deltas, the class as likely as nothing
    >>> outputs[0, 0, :4] = 0, 0, 10, 10
    >>> round(float(SSDLoss()(np.array([[[0, 0, 10, 10, 0]]]), outputs)), 4)
    0.6931

    Reference:
        Liu et al., "SSD: Single Shot MultiBox Detector", section 2.2; equal to torchvision's.
    """

    def __init__(
        self,
        foreground=0.5,
        negatives=3.0,
        variance=(0.1, 0.1, 0.2, 0.2),
        reduction="sum_over_batch_size",
        name="ssd_loss",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.foreground = checks.positive_number(
            "foreground", checks.share("foreground", foreground)
        )
        self.negatives = not_negative("negatives", negatives)
        self.variance = checked_variance(variance)

    def call(self, y_true, y_pred):
        check_shapes(y_true, y_pred)
        boxes, deltas, logits = y_pred[..., :4], y_pred[..., 4:8], y_pred[..., 8:]
        objects, state = match(boxes, y_true, self.foreground, self.foreground, "own")
        is_positive = ops.cast(state == 1, y_pred.dtype)
        labels = ops.maximum(ops.cast(objects[..., 4], "int32"), 0)
        classes = cross_entropy(logits, labels, is_positive)
        wanted = ops.where(ops.expand_dims(state == 1, 2), encoded(boxes, objects[..., :4]), deltas)
        errors = (deltas - wanted) / ops.convert_to_tensor(self.variance, y_pred.dtype)
        positives = ops.sum(is_positive, axis=1)
        # The entropy is above 0, so that those with an object come last.
        hardest = ops.flip(ops.sort(classes * (1 - is_positive), axis=1), axis=1)
        place = ops.expand_dims(ops.arange(ops.shape(classes)[1], dtype=y_pred.dtype), 0)
        is_hard = place < ops.expand_dims(self.negatives * positives, 1)
        total = ops.sum(classes * is_positive + ops.where(is_hard, hardest, 0.0), axis=1)
        total = total + ops.sum(ops.sum(smooth_l1(errors, 1.0), axis=2) * is_positive, axis=1)
        total = total * only_known(y_true[..., 4], logits.shape[-1], y_pred.dtype)
        images = ops.cast(ops.shape(positives)[0], y_pred.dtype)
        return total * images / ops.maximum(ops.sum(positives), 1.0)

    def get_config(self):
        names = ("foreground", "negatives", "variance")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
