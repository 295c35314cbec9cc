"""The end of a detector for use: boxes, scores and labels."""

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.detection import boxes as boxes_of
from keras_fmm.detection.losses import decoded
from keras_fmm.detection.suppression import suppressed


@keras.saving.register_keras_serializable(package="keras_fmm")
class Detections(keras.layers.Layer):
    """Gives the boxes that a detector finds, the best first, each object once.

    Of the scores of all anchors and classes the best candidates are decoded and cut at the image's
    border. Then, until there is no room, the best candidate that is left is taken, and those of
    its class that overlap it by more than `iou_threshold` are left out: exact greedy suppression,
    class by class.

    Args:
        max_detections: int, default 100. The room for boxes.
        score_threshold: number from 0 to 1, default 0.05. Scores of less are left out.
        iou_threshold: number from 0 to 1, default 0.5.
        candidates: int, default 1000. How many are looked at, of all classes together.
        activation: "sigmoid" or "softmax", default "sigmoid". What makes scores of logits: each
            for itself, or all together with that of nothing, which is 0; see `FasterRCNN`.

    Call arguments:
        inputs: `(batch, anchors, 8 + classes)`, what `RetinaNet` and `SSD300` give, or
            `(batch, proposals, classes, 9)`, what `FasterRCNN` gives.
        images: `(batch, height, width, channels)`, or as `data_format` says: the images that it
            was given, for their size alone.

    Output shape:
        A dict: "boxes", float32 `(batch, max_detections, 4)`, x1, y1, x2, y2 in the image's pixels;
        "scores", float32 `(batch, max_detections)`, from 0 to 1, falling; "labels", int32
        `(batch, max_detections)`; "count", int32 `(batch,)`. Behind the count there are boxes of
        0, scores of 0 and labels of -1.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Example:

    >>> import numpy as np
    >>> outputs = np.zeros((1, 2, 10), "float32")
    >>> outputs[0, :, :4] = [0, 0, 10, 10], [0, 0, 10, 9]  # nearly the same box
    >>> outputs[0, :, 8:] = [-9, 2], [-9, 1]  # both of label 1
    >>> found = Detections(max_detections=3)(outputs, np.zeros((1, 12, 12, 3)))
    >>> [keras.ops.convert_to_numpy(found[name])[0].tolist() for name in ("labels", "count")]
    [[1, -1, -1], 1]
    """

    def __init__(
        self,
        max_detections=100,
        score_threshold=0.05,
        iou_threshold=0.5,
        candidates=1000,
        activation="sigmoid",
        data_format=None,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.max_detections = checks.positive_integer("max_detections", max_detections, 10_001)
        self.candidates = checks.positive_integer("candidates", candidates, 100_001)
        self.score_threshold = checks.share("score_threshold", score_threshold)
        self.iou_threshold = checks.share("iou_threshold", iou_threshold)
        self.activation = checks.one_of("activation", activation, ("sigmoid", "softmax"))
        self.data_format = checks.data_format(data_format)

    def call(self, inputs, images):
        # Of all classes of an anchor there is one box, or each has its own.
        shares_box = len(inputs.shape) == 3
        logits = inputs[..., 8:] if shares_box else inputs[..., 8]
        classes = logits.shape[-1]
        scores = ops.sigmoid(logits) if self.activation == "sigmoid" else _softmax(logits)
        # Not -1, of which TensorFlow's loop in `suppressed` would not know that it is the batch.
        batch, anchors = ops.shape(inputs)[:2]
        scores = ops.reshape(scores, (batch, anchors * classes))
        # At least the candidates there are; a map may be smaller.
        most = self.candidates
        if inputs.shape[1] is None:
            scores = ops.pad(scores, [[0, 0], [0, most]])
        else:
            most = min(most, inputs.shape[1] * classes)
        scores, index = ops.top_k(scores, most)
        labels = ops.cast(index % classes, "int32")
        rows = inputs[..., :8]
        if not shares_box:
            rows = ops.reshape(rows, (batch, anchors * classes, 8))
        index = ops.minimum(index // classes if shares_box else index, ops.shape(rows)[1] - 1)
        index = ops.repeat(ops.expand_dims(index, 2), 8, axis=2)
        chosen = ops.take_along_axis(rows, index, axis=1)
        boxes = boxes_of.cut(decoded(chosen[..., :4], chosen[..., 4:]), images, self.data_format)
        return suppressed(
            boxes, scores, labels, self.max_detections, self.score_threshold, self.iou_threshold
        )

    def compute_output_spec(self, inputs, images):
        batch, room = inputs.shape[0], self.max_detections
        return {
            "boxes": keras.KerasTensor((batch, room, 4), "float32"),
            "scores": keras.KerasTensor((batch, room), "float32"),
            "labels": keras.KerasTensor((batch, room), "int32"),
            "count": keras.KerasTensor((batch,), "int32"),
        }

    def get_config(self):
        names = (
            "max_detections",
            "score_threshold",
            "iou_threshold",
            "candidates",
            "activation",
            "data_format",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _softmax(logits):
    """Returns the shares of classes beside nothing, whose logit is 0."""
    return ops.softmax(ops.pad(logits, [[0, 0], [0, 0], [1, 0]]), axis=-1)[..., 1:]
