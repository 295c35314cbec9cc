"""Annotations as the array that a detector is fitted to."""

from keras_fmm import checks
from keras_fmm.annotations import checked, padded


def targets(annotations, classes, max_boxes=None):
    """Returns the objects of images in one array, padded to as many in each.

    Args:
        annotations: list of dicts, one an image: `boxes`, `(n, 4)`, x1, y1, x2, y2 in pixels, and
            `labels`, `(n,)`, integers from 0 to less than `classes`, or -1 for padding; `area` and
            `crowd` may be there. Left out are boxes of no area, which no anchor could find, and
            crowds, which are no single object.
        classes: int. How many classes there are.
        max_boxes: int or None, default None (as many as the image of the most has, at least 1).
            The room for boxes.

    Returns:
        float32 array `(images, max_boxes, 5)`: x1, y1, x2, y2 and the label; 0, 0, 0, 0, -1 where
        there is none.

    Raises:
        TypeError: a list or a dict is none, or labels are no integers.
        ValueError: shapes do not fit, a number is not finite, a box ends before it begins, a label
            is out of range, or there are more boxes than room.

    Example:

    >>> annotations = [{"boxes": [[0, 0, 8, 8]], "labels": [2]}, {"boxes": [], "labels": []}]
    >>> targets(annotations, classes=3).tolist()
    [[[0.0, 0.0, 8.0, 8.0, 2.0]], [[0.0, 0.0, 0.0, 0.0, -1.0]]]
    """
    classes = checks.positive_integer("classes", classes, 2**16)
    rows = []
    for index, given in enumerate(checks.listed("annotations", annotations)):
        name = f"annotations[{index}]"
        given = checked(name, given, optional=("area", "crowd"))
        boxes, labels = given["boxes"], given["labels"]
        if (labels >= classes).any():
            raise ValueError(
                f"`{name}['labels']` must be below `classes` ({classes}). Received: {labels.max()}"
            )
        wanted = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if "crowd" in given:
            wanted &= ~given["crowd"]
        rows.append((boxes[wanted], labels[wanted]))
    most = max([1, *(len(labels) for _, labels in rows)])
    if max_boxes is not None:
        max_boxes = checks.positive_integer("max_boxes", max_boxes)
        if most > max_boxes:
            index = max(range(len(rows)), key=lambda n: len(rows[n][1]))
            raise ValueError(
                f"`max_boxes` must be at least the boxes of each image. Received: max_boxes="
                f"{max_boxes}, and annotations[{index}] has {most}."
            )
    return padded(rows, max_boxes or most)
