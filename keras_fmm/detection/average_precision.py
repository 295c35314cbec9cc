"""COCO's average precision of detected boxes."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_fmm import checks
from keras_fmm.annotations import checked

# Of COCO: the overlaps that a match needs, the recalls at which precision is read, the areas in
# square pixels, and how many detections of a class count in an image.
_OVERLAPS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
_MOST = (1, 10, 100)


@dataclasses.dataclass(frozen=True)
class AveragePrecision:
    """What COCO says of a detector; numbers from 0 to 1, NaN where there is nothing to find.

    Attributes:
        ap: float. The mean over classes and over the overlaps 0.5, 0.55, ..., 0.95.
        ap50: float. At an overlap of 0.5 alone, as in Pascal VOC.
        ap75: float. At 0.75.
        ap_small: float. Of objects of at most 32 x 32 pixels.
        ap_medium: float. Of those between 32 x 32 and 96 x 96.
        ap_large: float. Of those from 96 x 96 on.
        ar1: float. The recall, meant over classes and overlaps, of one detection of each class in
            an image.
        ar10: float. That of ten.
        ar100: float. That of a hundred.
        ar_small: float. That of a hundred, of small objects.
        ar_medium: float. Of medium ones.
        ar_large: float. Of large ones.
        by_class: dict. From the label of each class that there was to find to its `ap`.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    by_class: dict[int, float]


def average_precision(
    annotations: Sequence[Mapping], detections: Sequence[Mapping]
) -> AveragePrecision:
    """Returns COCO's average precision and recall of detections, as pycocotools does.

    A class's detections in all images are sorted by score. Each is a hit if it overlaps, by at
    least a threshold, an object of its class and image that none before it has taken: of these the
    one that it overlaps most. Precision, made to fall with recall, is read at 101 recalls. An
    object that is not looked for (a crowd, or one of another size) makes a hit on it count
    neither way.

    Args:
        annotations: list of dicts, one an image. `boxes`, `(n, 4)`, are x1, y1, x2, y2 in pixels;
            `labels`, `(n,)`, integers. `area`, `(n,)`, numbers, is the objects' own, as of a mask;
            without it that of the boxes. `crowd`, `(n,)`, True or False, says which boxes hold
            many objects, which any number of detections may hit. A label of -1 is padding.
        detections: list of dicts, one an image, in the same order. `boxes` and `labels` alike, and
            `scores`, `(n,)`. Of each class the hundred of the best score count in an image.

    Returns:
        An `AveragePrecision`.

    Raises:
        TypeError: a list or a dict is none, or labels are no integers.
        ValueError: the lists are of other lengths or empty, a key is not known or missing, shapes
            do not fit, a number is not finite, an area is below 0, or a box ends before it begins.

    Example:

    >>> found = average_precision(
    ...     [{"boxes": [[0, 0, 10, 10], [20, 20, 30, 30]], "labels": [1, 1]}],
    ...     [{"boxes": [[0, 0, 10, 8]], "labels": [1], "scores": [0.9]}],
    ... )
    >>> round(found.ap50, 3), found.ap75 == found.ap50, found.ar1
    (0.505, True, 0.35)

    Reference:
        Lin et al., "Microsoft COCO: Common Objects in Context", and the code of its API.
    """
    images = _checked(annotations, detections)
    labels = sorted({label for wanted, _ in images for label in wanted["labels"].tolist()})
    # By class, area and count: precisions (overlaps, recalls), and recalls (overlaps,).
    precision, recall = {}, {}
    for label in labels:
        pairs = [_of_class(image, label) for image in images]
        pairs = [pair for pair in pairs if pair is not None]
        for area, bounds in _AREAS.items():
            matched = [_matched(*pair, bounds) for pair in pairs]
            for most in _MOST if area == "all" else _MOST[-1:]:
                found = _curve(matched, most)
                if found is not None:
                    precision[label, area, most], recall[label, area, most] = found

    def mean(values, area="all", most=100, overlap=None):
        chosen = [
            value[slice(None) if overlap is None else overlap]
            for (_, *key), value in values.items()
            if key == [area, most]
        ]
        return float(np.mean(chosen)) if chosen else float("nan")

    return AveragePrecision(
        ap=mean(precision),
        ap50=mean(precision, overlap=0),
        ap75=mean(precision, overlap=5),
        **{f"ap_{area}": mean(precision, area) for area in _AREAS if area != "all"},
        **{f"ar{most}": mean(recall, most=most) for most in _MOST},
        **{f"ar_{area}": mean(recall, area) for area in _AREAS if area != "all"},
        by_class={
            label: float(np.mean(precision[label, "all", 100]))
            for label in labels
            if (label, "all", 100) in precision
        },
    )


def _checked(annotations, detections):
    """Returns a pair of dicts of arrays for each image, without padding."""
    annotations = checks.listed("annotations", annotations)
    detections = checks.listed("detections", detections)
    if not annotations or len(annotations) != len(detections):
        raise ValueError(
            "`annotations` and `detections` must have one dict for each image, in one order, and "
            f"there must be an image. Received: {len(annotations)} and {len(detections)}."
        )
    images = []
    for index, (truth, found) in enumerate(zip(annotations, detections, strict=True)):
        truth = checked(f"annotations[{index}]", truth, optional=("area", "crowd"))
        found = checked(f"detections[{index}]", found, ("boxes", "labels", "scores"))
        sides = truth["boxes"][:, 2:] - truth["boxes"][:, :2]
        truth.setdefault("area", sides[:, 0] * sides[:, 1])
        truth.setdefault("crowd", np.zeros(len(sides), bool))
        images.append((truth, found))
    return images


def _of_class(image, label):
    """Returns an image's objects and detections of a class, and their overlaps; None of neither."""
    truth, found = (
        {key: array[arrays["labels"] == label] for key, array in arrays.items()} for arrays in image
    )
    if not len(truth["labels"]) and not len(found["labels"]):
        return None
    best = np.argsort(-found["scores"], kind="stable")[: _MOST[-1]]
    found = {key: array[best] for key, array in found.items()}
    return truth, found, _overlaps(found["boxes"], truth["boxes"], truth["crowd"])


def _overlaps(found, wanted, crowd):
    """Returns intersection over union; over the detection's area where the object is a crowd."""
    corners = np.minimum(found[:, None, 2:], wanted[None, :, 2:])
    sides = np.maximum(corners - np.maximum(found[:, None, :2], wanted[None, :, :2]), 0)
    shared = sides[..., 0] * sides[..., 1]
    area, other = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (found, wanted))
    whole = np.where(crowd, area[:, None], area[:, None] + other - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _matched(truth, found, overlaps, bounds):
    """Returns scores, hits and what counts neither way, and how many objects there are to find.

    Hits and what does not count are (overlaps, detections).
    """
    ignored = truth["crowd"] | (truth["area"] < bounds[0]) | (truth["area"] > bounds[1])
    taken = np.zeros((len(_OVERLAPS), len(ignored)), bool)
    hits = np.zeros((len(_OVERLAPS), len(found["scores"])), bool)
    neither = np.zeros_like(hits)
    at_least = np.minimum(_OVERLAPS, 1 - 1e-10)[:, None]
    for index, row in enumerate(overlaps if len(ignored) else ()):
        free = (row >= at_least) & ~(taken & ~truth["crowd"])
        # An object that is looked for goes before one that is not; of equals the last.
        rank = np.where(free, row + 2.0 * ~ignored, -1)
        best = rank.shape[1] - 1 - np.argmax(rank[:, ::-1], axis=1)
        (at,) = np.nonzero(free.any(axis=1))
        taken[at, best[at]] = hits[at, index] = True
        neither[at, index] = ignored[best[at]]
    sides = found["boxes"][:, 2:] - found["boxes"][:, :2]
    area = sides[:, 0] * sides[:, 1]
    neither |= ~hits & ((area < bounds[0]) | (area > bounds[1]))
    return found["scores"], hits, neither, np.count_nonzero(~ignored)


def _curve(matched, most):
    """Returns the precision at each recall, and the last recall, of a class in all images."""
    wanted = sum(count for *_, count in matched)
    if not wanted:
        return None
    scores = np.concatenate([scores[:most] for scores, *_ in matched])
    order = np.argsort(-scores, kind="stable")
    hits, neither = (
        np.concatenate([match[part][:, :most] for match in matched], axis=1)[:, order]
        for part in (1, 2)
    )
    right = np.cumsum(hits & ~neither, axis=1).astype("float64")
    wrong = np.cumsum(~hits & ~neither, axis=1).astype("float64")
    recalls = right / wanted
    precisions = right / np.maximum(right + wrong, 1)
    precisions = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    found = np.zeros((len(_OVERLAPS), len(_RECALLS)))
    for row, recall, precision in zip(found, recalls, precisions, strict=True):
        at = np.searchsorted(recall, _RECALLS)
        row[at < len(recall)] = precision[at[at < len(recall)]]
    last = recalls[:, -1] if recalls.shape[1] else np.zeros(len(_OVERLAPS))
    return found, last
