"""The boxes of an image, as data, detectors and their measures take them: checked arrays."""

import numpy as np

from keras_fmm import checks

# What a dict of an image may hold beside `boxes` and `labels`, each with its dtype.
COLUMNS = {"area": np.float64, "crowd": np.bool_, "scores": np.float64}


def checked(name, given, needed=("boxes", "labels"), optional=()):
    """Returns the boxes of an image as arrays, without padding (a label of -1).

    Args:
        name: str. The argument's name, quoted in errors.
        given: dict. `boxes` are `(n, 4)`, x1, y1, x2, y2 in pixels; `labels` integers `(n,)`;
            `area`, `scores` numbers `(n,)`; `crowd` True and False, or 1 and 0, `(n,)`.
        needed: sequence of str, default ("boxes", "labels"). The keys that must be there.
        optional: sequence of str, default (). Those that may.

    Returns:
        A dict of `boxes` (float64), `labels` (int64), and of what there is of the others.

    Raises:
        TypeError: it is no dict, or a column is of another kind of number.
        ValueError: a key is missing or not known, shapes do not fit, a number is not finite, a box
            ends before it begins, an area is below 0, or a label is below -1.
    """
    checks.mapping(name, given)
    keys = set(map(str, given))
    if missing := sorted(set(needed) - keys):
        raise ValueError(f"`{name}` must have {missing}. Received: the keys {sorted(keys)}")
    if unknown := sorted(keys - {*needed, *optional}):
        raise ValueError(
            f"`{name}` may have the keys {sorted({*needed, *optional})}. Received: {unknown}. "
            "Leave them out."
        )
    arrays = {"boxes": _boxes(f"{name}['boxes']", given["boxes"])}
    for key in given:
        if key != "boxes":
            dtype = COLUMNS.get(key, np.int64)
            arrays[key] = _column(f"{name}[{key!r}]", given[key], len(arrays["boxes"]), dtype)
    if (arrays["labels"] < -1).any():
        raise ValueError(
            f"`{name}['labels']` must be at least 0, or -1 for padding. "
            f"Received: {arrays['labels'].min()}"
        )
    if "area" in arrays and (arrays["area"] < 0).any():
        raise ValueError(
            f"`{name}['area']` must be at least 0. Received: {arrays['area'].tolist()}"
        )
    there = arrays["labels"] != -1
    return {key: array[there] for key, array in arrays.items()}


def padded(rows, max_boxes):
    """Returns the boxes of images in one array.

    Args:
        rows: list of pairs, one an image: boxes `(n, 4)` and labels `(n,)`.
        max_boxes: int, at least each `n`. The room for boxes.

    Returns:
        float32 array `(images, max_boxes, 5)`: x1, y1, x2, y2 and the label; 0, 0, 0, 0, -1 where
        there is none.
    """
    array = np.zeros((len(rows), max_boxes, 5), "float32")
    array[..., 4] = -1
    for row, (boxes, labels) in zip(array, rows, strict=True):
        row[: len(boxes), :4] = boxes
        row[: len(boxes), 4] = labels
    return array


def _boxes(name, boxes):
    array = _of_numpy_s_own(checks.real_array(name, boxes))
    if array.size == 0 and array.ndim in (1, 2):
        array = np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iuf":
        raise ValueError(
            f"`{name}` must be numbers of the shape (n, 4), each x1, y1, x2, y2 in pixels. "
            f"Received: shape {array.shape}, dtype {array.dtype}"
        )
    array = array.astype("float64")
    if not (np.abs(array) <= np.finfo("float32").max).all():
        raise ValueError(f"`{name}` must be finite in float32. Received: {array.tolist()}")
    backwards = np.nonzero((array[:, 2:] < array[:, :2]).any(axis=1))[0]
    if len(backwards):
        raise ValueError(
            f"`{name}` must have x1 <= x2 and y1 <= y2. Received: {array[backwards[0]].tolist()} "
            f"at {backwards[0]}. Boxes of a corner and sides are turned by "
            '`keras.utils.bounding_boxes.convert_format(boxes, "xywh", "xyxy")`.'
        )
    return array


def _of_numpy_s_own(array):
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _column(name, values, count, dtype):
    array = _of_numpy_s_own(np.asarray(checks.as_numpy(values)))
    kinds = {np.bool_: "bi", np.int64: "iu"}.get(dtype, "iuf")
    if array.size and array.dtype.kind not in kinds:
        rule = {np.bool_: "True and False", np.int64: "integers"}.get(dtype, "numbers")
        raise TypeError(f"`{name}` must be {rule}. Received: dtype {array.dtype}")
    if array.shape != (count,):
        raise ValueError(
            f"`{name}` must have one number for each of {count} boxes. "
            f"Received: shape {array.shape}"
        )
    if dtype is np.bool_ and not np.isin(array, (0, 1)).all():
        raise ValueError(f"`{name}` must be True and False, or 1 and 0. Received: {array.tolist()}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite. Received: {name}={array.tolist()}")
    return array.astype(dtype)
