"""The end of a detector for use: boxes, scores and labels."""

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.detection import boxes as boxes_of
from keras_fmm.detection.losses import decoded


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

    Call arguments:
        inputs: `(batch, anchors, 8 + classes)`, what `RetinaNet` gives.
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
        data_format=None,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.max_detections = checks.positive_integer("max_detections", max_detections, 10_001)
        self.candidates = checks.positive_integer("candidates", candidates, 100_001)
        self.score_threshold = checks.number("score_threshold", score_threshold)
        self.iou_threshold = checks.number("iou_threshold", iou_threshold)
        for name in ("score_threshold", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"`{name}` must be from 0 to 1. Received: {name}={getattr(self, name)!r}"
                )
        self.data_format = checks.data_format(data_format)

    def call(self, inputs, images):
        shape = ops.shape(images)
        height, width = shape[1:3] if self.data_format == "channels_last" else shape[2:4]
        classes = inputs.shape[-1] - 8
        scores = ops.sigmoid(inputs[..., 8:])
        scores = ops.reshape(scores, (-1, ops.shape(inputs)[1] * classes))
        # At least the candidates there are; a map may be smaller.
        most = self.candidates
        if inputs.shape[1] is None:
            scores = ops.pad(scores, [[0, 0], [0, most]])
        else:
            most = min(most, inputs.shape[1] * classes)
        scores, index = ops.top_k(scores, most)
        labels = ops.cast(index % classes, "int32")
        index = ops.minimum(index // classes, ops.shape(inputs)[1] - 1)
        index = ops.repeat(ops.expand_dims(index, 2), 8, axis=2)
        chosen = ops.take_along_axis(inputs[..., :8], index, axis=1)
        boxes = decoded(chosen[..., :4], chosen[..., 4:])
        limits = ops.cast(ops.stack([width, height, width, height]), "float32")
        boxes = ops.minimum(ops.maximum(boxes, 0.0), limits)
        return self._suppressed(boxes, scores, labels)

    def _suppressed(self, boxes, scores, labels):
        # Scores fall, so that the best candidate left is the first one. (Keras' argmax of floats
        # has no TFLite operator.)
        left = ops.logical_and(scores >= self.score_threshold, scores > 0)
        places = ops.arange(self.max_detections)
        candidates = ops.expand_dims(ops.arange(ops.shape(scores)[1], dtype="int32"), 0)
        beyond = ops.cast(ops.shape(scores)[1], "int32")

        def step(place, state):
            left, taken = state
            best = ops.min(ops.where(left, candidates, beyond), axis=1, keepdims=True)
            column = ops.minimum(best, beyond - 1)
            box = ops.take_along_axis(boxes, ops.repeat(column[..., None], 4, axis=2), axis=1)
            same = labels == ops.take_along_axis(labels, column, axis=1)
            near = boxes_of.overlaps(box, boxes)[:, 0] > self.iou_threshold
            gone = ops.logical_or(ops.logical_and(same, near), candidates == column)
            left = ops.logical_and(left, ops.logical_not(gone))
            best = ops.where(best < beyond, best, -1)
            here = ops.expand_dims(places == place, 0)
            return left, ops.where(here, best, taken)

        taken = ops.zeros_like(labels[:, :1]) - 1
        taken = ops.repeat(taken, self.max_detections, axis=1)
        _, taken = ops.fori_loop(0, self.max_detections, step, (left, taken))
        is_one = taken >= 0
        index = ops.maximum(taken, 0)
        boxes = ops.take_along_axis(boxes, ops.repeat(index[..., None], 4, axis=2), axis=1)
        return {
            "boxes": ops.where(is_one[..., None], boxes, 0.0),
            "scores": ops.where(is_one, ops.take_along_axis(scores, index, axis=1), 0.0),
            "labels": ops.where(is_one, ops.take_along_axis(labels, index, axis=1), -1),
            "count": ops.sum(ops.cast(is_one, "int32"), axis=1),
        }

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
            "data_format",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
