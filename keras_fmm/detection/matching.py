"""Which object each anchor is to find."""

from keras import ops

from keras_fmm.detection import boxes as boxes_of


def match(anchors, objects, foreground, background, best_of_each="any"):
    """Returns what each anchor is to find, as Faster R-CNN, RetinaNet and SSD match them.

    An anchor is to find the object that it overlaps most, if by at least `foreground`; it is to
    find nothing if by less than `background`, and between these it is not asked. So that each
    object is found, the anchors that overlap it most of all are asked to find what they overlap
    most, by however little; by nothing at all is none.

    Args:
        anchors: float tensor `(n, 4)` or `(batch, n, 4)`.
        objects: float tensor `(batch, m, 5)`: boxes and labels; a label below 0 is padding.
        foreground: float, from 0 to 1.
        background: float, from 0 to `foreground`.
        best_of_each: "any", "own" or None, default "any". What each object's best anchors are to
            find, by however little they overlap: what they overlap most; that object itself, the
            first of them, as in SSD; or nothing, if by less than `foreground`.

    Returns:
        A float tensor `(batch, n, 5)`, the object for each anchor, which says something where the
        next is 1; a float tensor `(batch, n)`, 1 where it is to find it, 0 where it is to find
        nothing and -1 where it is not asked.
    """
    if len(anchors.shape) == 2:
        anchors = ops.expand_dims(anchors, 0)
    if not objects.shape[1]:
        # None has no best; of a batch without objects there may be none.
        objects = ops.pad(objects, [[0, 0], [0, 1], [0, 0]], constant_values=-1.0)
    is_there = ops.expand_dims(objects[..., 4] >= 0, 1)
    found = boxes_of.overlaps(anchors, objects[..., :4])
    found = ops.where(is_there, found, 0.0)
    if best_of_each == "own":
        first = ops.one_hot(ops.argmax(found, axis=1), ops.shape(found)[1], axis=1, dtype="bool")
        first = ops.logical_and(first, ops.max(found, axis=1, keepdims=True) > 0)
        # Above all overlaps; of two objects with the same best one, the last has it.
        found = ops.where(first, 2.0 + ops.arange(ops.shape(objects)[1], dtype="float32"), found)
    best = ops.max(found, axis=2)
    is_foreground = best >= foreground
    if best_of_each == "any":
        most = ops.max(found, axis=1, keepdims=True)
        is_best = ops.logical_and(found == most, most > 0)
        is_foreground = ops.logical_or(is_foreground, ops.any(is_best, axis=2))
    is_asked = ops.logical_or(is_foreground, best < background)
    state = ops.where(is_foreground, 1.0, ops.where(is_asked, 0.0, -1.0))
    index = ops.expand_dims(ops.argmax(found, axis=2), 2)
    return ops.take_along_axis(objects, ops.repeat(index, 5, axis=2), axis=1), state
