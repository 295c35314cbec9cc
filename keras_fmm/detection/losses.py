"""What a one-stage detector is trained to make small."""

import keras
from keras import ops
from keras.utils import bounding_boxes

from keras_fmm import checks
from keras_fmm.detection import boxes as boxes_of
from keras_fmm.detection.matching import match


@keras.saving.register_keras_serializable(package="keras_fmm")
class RetinaNetLoss(keras.losses.Loss):
    """Returns an image's focal loss of classes plus its loss of boxes, by its positive anchors.

    Anchors are matched with objects by `match`. The focal loss,
    `-alpha_t * (1 - p_t)**gamma * log(p_t)`, is summed over the anchors that are asked and over
    the classes; the boxes' loss over the anchors that have an object. Both sums are divided by
    the number of these, at least 1.

    Args:
        box_loss: "l1" or "giou", default "l1": the distance of deltas, or 1 - GIoU of boxes.
        box_weight: number from 0 on, default 1. Of the boxes' loss.
        alpha: number from 0 to 1, default 0.25. The weight of objects, 1 - alpha that of nothing.
        gamma: number from 0 on, default 2. How little what is known counts.
        foreground: number from 0 to 1, default 0.5. The overlap from which on an anchor has an
            object.
        background: number from 0 to `foreground`, default 0.4. That below which it has none.

    Call arguments:
        y_true: `(batch, objects, 5)`: x1, y1, x2, y2 in pixels and the label, -1 for padding; see
            `targets`. A label that is not below `classes` makes the loss NaN.
        y_pred: `(batch, anchors, 8 + classes)`, what `RetinaNet` gives.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Example:

    >>> import numpy as np
    >>> outputs = np.zeros((1, 1, 10), "float32")  # no deltas, each class at a half
    >>> outputs[0, 0, :4] = 0, 0, 10, 10
    >>> round(float(RetinaNetLoss()(np.array([[[0, 0, 10, 10, 1]]]), outputs)), 4)
    0.1733

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection". As in torchvision, boxes have the L1
        loss (there smooth L1), and the best anchors of each object are positive.
    """

    def __init__(
        self,
        box_loss="l1",
        box_weight=1.0,
        alpha=0.25,
        gamma=2.0,
        foreground=0.5,
        background=0.4,
        reduction="sum_over_batch_size",
        name="retinanet_loss",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.box_loss = checks.one_of("box_loss", box_loss, ("l1", "giou"))
        self.box_weight = not_negative("box_weight", box_weight)
        self.alpha = checks.share("alpha", alpha)
        self.gamma = not_negative("gamma", gamma)
        self.foreground = checks.share("foreground", foreground)
        self.background = checks.share("background", background)
        if self.background > self.foreground:
            raise ValueError(
                f"`background` must be at most `foreground`. Received: {background=}, {foreground=}"
            )

    def call(self, y_true, y_pred):
        check_shapes(y_true, y_pred)
        anchors, deltas, logits = y_pred[..., :4], y_pred[..., 4:8], y_pred[..., 8:]
        objects, state = match(anchors, y_true, self.foreground, self.background)
        is_positive = ops.cast(state == 1, y_pred.dtype)
        is_asked = ops.cast(state >= 0, y_pred.dtype)
        classes = logits.shape[-1]
        # Not `one_hot`, which refuses labels that are too large: Keras tries losses on ones.
        wanted = objects[..., 4:] == ops.arange(classes, dtype=objects.dtype)
        wanted = ops.cast(wanted, y_pred.dtype)
        wanted = wanted * ops.expand_dims(is_positive, 2)
        focal = ops.sum(focal_loss(wanted, logits, self.alpha, self.gamma), axis=2)
        losses = focal * is_asked + self.box_weight * is_positive * self._of_boxes(
            anchors, deltas, objects[..., :4]
        )
        total = only_known(y_true[..., 4], classes, y_pred.dtype) * ops.sum(losses, axis=1)
        return total / ops.maximum(ops.sum(is_positive, axis=1), 1.0)

    def _of_boxes(self, anchors, deltas, objects):
        if self.box_loss == "giou":
            found = decoded(anchors, deltas)
            return 1.0 - boxes_of.generalized_overlaps(found, objects)
        return ops.sum(ops.abs(deltas - encoded(anchors, objects)), axis=2)

    def get_config(self):
        names = ("box_loss", "box_weight", "alpha", "gamma", "foreground", "background")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def focal_loss(wanted, logits, alpha, gamma):
    """Returns the focal loss of each logit.

    Not Keras' binary focal cross-entropy, which but on TensorFlow clips shares at its epsilon: what
    is wrong with certainty has no gradient there.

    Args:
        wanted: float tensor, 1 and 0.
        logits: float tensor of its shape.
        alpha, gamma: float, as of `RetinaNetLoss`.
    """
    # The logit of what is right: p_t is its sigmoid, 1 - p_t = exp(-softplus).
    right = logits * (2 * wanted - 1)
    weight = alpha * wanted + (1 - alpha) * (1 - wanted)
    return weight * ops.exp(-gamma * ops.softplus(right)) * ops.softplus(-right)


def encoded(anchors, boxes):
    """Returns boxes as deltas: centres by the anchor's sides, and logarithms of sides' ratios."""
    return bounding_boxes.encode_box_to_deltas(anchors, boxes, "xyxy", "xyxy", "center_xywh")


def decoded(anchors, deltas):
    """Returns the boxes of deltas, the sides at most 1000 / 16 of the anchor's, as in torchvision.

    An exponential of what an untrained network says would be infinite.
    """
    most = 4.135166556742356  # log(1000 / 16)
    deltas = ops.concatenate([deltas[..., :2], ops.minimum(deltas[..., 2:], most)], axis=-1)
    return bounding_boxes.decode_deltas_to_boxes(anchors, deltas, "xyxy", "xyxy", "center_xywh")


def only_known(labels, classes, dtype):
    """Returns 1 for each image whose labels are of known classes or padding, and NaN for others.

    A model trained on the labels of another dataset would learn on without a word, and in a graph
    nothing can be raised.
    """
    found = ops.where(ops.any(labels >= classes, axis=1), float("nan"), 1.0)
    return ops.cast(found, dtype)


def not_negative(name, value):
    found = checks.number(name, value)
    if found < 0:
        raise ValueError(f"`{name}` must be at least 0. Received: {name}={value!r}")
    return found


def check_shapes(y_true, y_pred):
    if len(y_true.shape) != 3 or y_true.shape[2] != 5:
        raise ValueError(
            "`y_true` must be (batch, objects, 5): x1, y1, x2, y2, label. "
            f"Received: shape {tuple(y_true.shape)}. `detection.targets` makes it."
        )
    if len(y_pred.shape) != 3 or y_pred.shape[2] is None or y_pred.shape[2] < 9:
        raise ValueError(
            "`y_pred` must be (batch, anchors, 8 + classes), what `RetinaNet` gives. "
            f"Received: shape {tuple(y_pred.shape)}"
        )
