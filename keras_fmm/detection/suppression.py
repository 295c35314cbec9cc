"""Of boxes that overlap, the best: exact greedy suppression."""

from keras import ops

from keras_fmm.detection import boxes as boxes_of


def suppressed(boxes, scores, labels, room, score_threshold, iou_threshold):
    """Returns what is left of candidates: of those of a label that overlap, the best.

    Until there is no room, the best that is left is taken, and those of its label that overlap it
    by more than `iou_threshold` are left out.

    Args:
        boxes: float32 tensor `(batch, n, 4)`; those of no area are left out.
        scores: float32 tensor `(batch, n)`, falling; only those above 0 are candidates.
        labels: int32 tensor `(batch, n)`.
        room: int. The most that are taken.
        score_threshold: float. Scores of less are left out.
        iou_threshold: float.

    Returns:
        A dict of tensors, as of `Detections`.
    """
    has_area = ops.all(boxes[..., 2:] > boxes[..., :2], axis=2)
    # Scores fall, so that the best candidate left is the first one. (Keras' argmax of floats has no
    # TFLite operator.)
    left = ops.logical_and(scores >= score_threshold, scores > 0)
    left = ops.logical_and(left, has_area)
    places = ops.arange(room)
    candidates = ops.expand_dims(ops.arange(ops.shape(scores)[1], dtype="int32"), 0)
    beyond = ops.cast(ops.shape(scores)[1], "int32")

    def step(place, state):
        left, taken = state
        best = ops.min(ops.where(left, candidates, beyond), axis=1, keepdims=True)
        column = ops.minimum(best, beyond - 1)
        box = ops.take_along_axis(boxes, ops.repeat(column[..., None], 4, axis=2), axis=1)
        same = labels == ops.take_along_axis(labels, column, axis=1)
        near = boxes_of.overlaps(box, boxes)[:, 0] > iou_threshold
        gone = ops.logical_or(ops.logical_and(same, near), candidates == column)
        left = ops.logical_and(left, ops.logical_not(gone))
        best = ops.where(best < beyond, best, -1)
        here = ops.expand_dims(places == place, 0)
        return left, ops.where(here, best, taken)

    taken = ops.zeros_like(labels[:, :1]) - 1
    taken = ops.repeat(taken, room, axis=1)
    _, taken = ops.fori_loop(0, room, step, (left, taken))
    is_one = taken >= 0
    index = ops.maximum(taken, 0)
    boxes = ops.take_along_axis(boxes, ops.repeat(index[..., None], 4, axis=2), axis=1)
    return {
        "boxes": ops.where(is_one[..., None], boxes, 0.0),
        "scores": ops.where(is_one, ops.take_along_axis(scores, index, axis=1), 0.0),
        "labels": ops.where(is_one, ops.take_along_axis(labels, index, axis=1), -1),
        "count": ops.sum(ops.cast(is_one, "int32"), axis=1),
    }
