"""COCO's measure beside pycocotools on random boxes, and by hand."""

import contextlib
import io
import math

import keras
import numpy as np
import pytest

from keras_fmm.detection import average_precision

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
NAMES += ("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")


def by_pycocotools(annotations, detections):
    """Returns the twelve numbers of COCO's API, -1 where there is nothing, and AP by class."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    objects, found = [], []
    for image, given in enumerate(annotations, start=1):
        for n, (x1, y1, x2, y2) in enumerate(np.asarray(given["boxes"], float).tolist()):
            area = (x2 - x1) * (y2 - y1)
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image,
                    "category_id": int(given["labels"][n]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(given["area"][n]) if "area" in given else area,
                    "iscrowd": int(given["crowd"][n]) if "crowd" in given else 0,
                }
            )
    for image, given in enumerate(detections, start=1):
        for n, (x1, y1, x2, y2) in enumerate(np.asarray(given["boxes"], float).tolist()):
            found.append(
                {
                    "image_id": image,
                    "category_id": int(given["labels"][n]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": float(given["scores"][n]),
                }
            )
    labels = sorted({item["category_id"] for item in objects + found})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "images": [{"id": n + 1} for n in range(len(annotations))],
            "annotations": objects,
            "categories": [{"id": label} for label in labels],
        }
        truth.createIndex()
        result = evaluation.COCOeval(truth, truth.loadRes(found), "bbox")
        result.evaluate()
        result.accumulate()
        result.summarize()
    precision = result.eval["precision"][:, :, :, 0, 2]
    by_class = {
        label: precision[:, :, n].mean()
        for n, label in enumerate(labels)
        if (precision[:, :, n] > -1).any()
    }
    return result.stats, by_class


def random_images(rng, scale, whole, crowds, most):
    """Objects of some classes, and detections near them, of other classes too, some of a score."""
    annotations, detections = [], []
    for _ in range(rng.integers(1, 7)):
        count = int(rng.integers(0, 9))
        corner, sides = rng.uniform(0, scale, (count, 2)), rng.uniform(0, scale / 2, (count, 2))
        if whole:
            corner, sides = corner.round(), sides.round()
        boxes, labels = np.concatenate([corner, corner + sides], axis=1), rng.integers(0, 4, count)
        given = {"boxes": boxes, "labels": labels}
        if crowds:
            given["crowd"] = rng.random(count) < 0.2
            given["area"] = sides.prod(axis=1) * rng.uniform(0.5, 1, count)
        annotations.append(given)
        number = int(rng.integers(1, most))
        near = rng.integers(0, max(count, 1), number)
        found = boxes[near] if count else np.zeros((number, 4))
        found = found + rng.normal(0, scale * 0.02, (number, 4)).round(0 if whole else 9)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2])
        own = labels[near] if count else np.zeros(number, int)
        detections.append(
            {
                "boxes": found,
                "labels": np.where(rng.random(number) < 0.8, own, rng.integers(0, 5, number)),
                "scores": rng.random(number).round(1 if whole else 9),
            }
        )
    return annotations, detections


@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools(seed):
    rng = np.random.default_rng(seed)
    scale = (20, 100, 400, 150)[seed % 4]
    images = random_images(rng, scale, seed % 3 == 0, seed % 2 == 1, 200 if seed == 5 else 15)
    expected, by_class = by_pycocotools(*images)
    found = average_precision(*images)
    for name, value in zip(NAMES, expected, strict=True):
        assert getattr(found, name) == pytest.approx(
            math.nan if value == -1 else value, abs=1e-9, nan_ok=True
        ), name
    assert found.by_class == pytest.approx(by_class, abs=1e-9)


def test_by_hand():
    """Two objects; the best detection misses, the next hits one: precision 1/2 up to recall 1/2."""
    annotations = [{"boxes": [[0, 0, 10, 10], [50, 50, 60, 60]], "labels": [3, 3]}]
    detections = [
        {"boxes": [[20, 20, 30, 30], [0, 0, 10, 6]], "labels": [3, 3], "scores": [0.9, 0.8]}
    ]
    found = average_precision(annotations, detections)
    # Recalls 0, 0.01, ..., 0.5 of 101; an overlap of 0.6 is a hit at 0.5, 0.55 and 0.6.
    assert found.ap50 == pytest.approx(51 / 101 / 2)
    assert found.ap == pytest.approx(51 / 101 / 2 * 3 / 10)
    assert found.ap75 == 0
    assert found.ar1 == 0
    assert found.ar10 == pytest.approx(0.5 * 3 / 10)
    assert found.by_class == {3: found.ap}
    assert math.isnan(found.ap_large)


def test_padding_and_nothing():
    padded = {"boxes": np.zeros((2, 4)), "labels": [-1, -1], "scores": [0, 0]}
    found = average_precision([{"boxes": [], "labels": []}], [padded])
    assert math.isnan(found.ap)
    assert found.by_class == {}
    one = {"boxes": [[0, 0, 4, 4]], "labels": [0]}
    assert average_precision([one], [padded]).ap == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_takes_tensors(dtype):
    given = {"boxes": np.array([[0, 0, 4, 4.0]]), "scores": np.array([0.5])}
    given = {key: keras.ops.convert_to_tensor(x, dtype) for key, x in given.items()}
    if keras.backend.backend() == "torch":
        # As an eager call of a detector gives them.
        given["scores"].requires_grad_()
    labels = keras.ops.convert_to_tensor([0], "int32")
    truth = {"boxes": given["boxes"], "labels": labels}
    assert average_precision([truth], [{**given, "labels": labels}]).ap == 1


GOOD = {"boxes": [[0, 0, 4, 4]], "labels": [0]}


@pytest.mark.parametrize(
    ("annotations", "detections", "error", "message"),
    [
        ([], [], ValueError, "there must be an image"),
        ([GOOD], [], ValueError, "one dict for each image"),
        (GOOD, [GOOD], TypeError, "must be a list"),
        ([GOOD], [GOOD], ValueError, r"must have \['scores'\]"),
        ([{**GOOD, "score": [1]}], [{**GOOD, "scores": [1]}], ValueError, r"may have the keys"),
        (
            [{"boxes": [[4, 0, 0, 4]], "labels": [0]}],
            [{**GOOD, "scores": [1]}],
            ValueError,
            "x1 <=",
        ),
        ([{"boxes": [0, 0, 4, 4], "labels": [0]}], [{**GOOD, "scores": [1]}], ValueError, "shape"),
        ([{**GOOD, "labels": [0.0]}], [{**GOOD, "scores": [1]}], TypeError, "integers"),
        ([{**GOOD, "labels": [-2]}], [{**GOOD, "scores": [1]}], ValueError, "-1 for padding"),
        ([GOOD], [{**GOOD, "scores": [math.nan]}], ValueError, "must be finite"),
        ([{**GOOD, "area": [-3]}], [{**GOOD, "scores": [1]}], ValueError, "'area'].*at least 0"),
        ([{**GOOD, "crowd": [7]}], [{**GOOD, "scores": [1]}], ValueError, "or 1 and 0. Received"),
        (
            [{"boxes": [[0, 0, 1e300, 4]], "labels": [0]}],
            [{**GOOD, "scores": [1]}],
            ValueError,
            "finite in float32",
        ),
        (
            [{"boxes": [[0, 0, 4], [0, 0, 4, 4]], "labels": [0, 1]}],
            [{**GOOD, "scores": [1]}],
            ValueError,
            "one length",
        ),
        ([GOOD], [{**GOOD, "scores": [1, 1]}], ValueError, "one number for each of 1 boxes"),
    ],
)
def test_refuses(annotations, detections, error, message):
    with pytest.raises(error, match=message):
        average_precision(annotations, detections)
