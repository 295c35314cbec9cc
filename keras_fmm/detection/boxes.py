"""Boxes: x1, y1, x2, y2 in pixels, and how far two overlap."""

from keras import ops


def sides(boxes):
    """Returns the widths and heights of boxes, `(..., 2)`, none below 0."""
    return ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)


def cut(boxes, images, data_format):
    """Returns boxes cut at the border of images, of which the size alone is looked at."""
    shape = ops.shape(images)
    height, width = shape[1:3] if data_format == "channels_last" else shape[2:4]
    limits = ops.cast(ops.stack([width, height, width, height]), "float32")
    return ops.minimum(ops.maximum(boxes, 0.0), limits)


def overlaps(boxes, others):
    """Returns intersection over union of each box with each of others; 0 where both have no area.

    Args:
        boxes: float tensor `(batch, n, 4)`.
        others: float tensor `(batch, m, 4)`.

    Returns:
        float tensor `(batch, n, m)`, from 0 to 1.
    """
    shared, whole, _ = _areas(ops.expand_dims(boxes, 2), ops.expand_dims(others, 1))
    return ops.divide_no_nan(shared, whole)


def generalized_overlaps(boxes, others):
    """Returns GIoU of pairs: less than the overlap by the empty part of the box around both.

    Args:
        boxes: float tensor `(..., 4)`.
        others: float tensor `(..., 4)`.

    Returns:
        float tensor `(...,)`, from -1 to 1.

    Reference:
        Rezatofighi et al., "Generalized Intersection over Union".
    """
    shared, whole, around = _areas(boxes, others)
    return ops.divide_no_nan(shared, whole) - ops.divide_no_nan(around - whole, around)


def _areas(boxes, others):
    """Returns the areas of intersections, unions and boxes around both."""
    first = ops.minimum(boxes[..., :2], others[..., :2])
    last = ops.maximum(boxes[..., 2:], others[..., 2:])
    inner = ops.maximum(boxes[..., :2], others[..., :2])
    inner = ops.concatenate([inner, ops.minimum(boxes[..., 2:], others[..., 2:])], axis=-1)
    shared, area, other = (_product(sides(x)) for x in (inner, boxes, others))
    return shared, area + other - shared, _product(last - first)


def _product(pairs):
    return pairs[..., 0] * pairs[..., 1]
