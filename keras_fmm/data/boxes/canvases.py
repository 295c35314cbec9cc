"""scikit-learn's digits pasted onto canvases: a set to detect in, without a download."""

import numpy as np

from keras_fmm.data.arrays import ArraySource
from keras_fmm.data.boxes import geometry
from keras_fmm.data.boxes.dataset import BoxDataset, Part
from keras_fmm.data.loading import load
from keras_fmm.data.splits import TEST_SEED

_SIDE = 96
_TRAIN, _TEST = 1200, 300
_DIGITS_AT_MOST = 5
_SIDES = (14, 44)
# What of a digit is brighter than this is in its box.
_INK = 64


def digits_on_canvas(validation_fraction, seed):
    """Returns the `BoxDataset` of `load_boxes("digits_on_canvas")`."""
    digits = load("digits", validation_fraction, seed)
    validation = round(_TRAIN * validation_fraction)
    parts = {}
    for number, (split, count) in enumerate(
        {"train": _TRAIN - validation, "validation": validation, "test": _TEST}.items()
    ):
        # Streams of this generator stay as they are from one version of NumPy to the next.
        random = np.random.RandomState([number, TEST_SEED if split == "test" else seed])
        images, labels = digits.arrays(split)
        found = [_canvas(random, images, labels) for _ in range(count if len(images) else 0)]
        canvases = np.zeros((len(found), _SIDE, _SIDE, 1), "uint8")
        for canvas, (image, _) in zip(canvases, found, strict=True):
            canvas[:] = image
        numbers = np.arange(len(found))
        parts[split] = Part(
            ArraySource(canvases, numbers),
            numbers,
            [annotation for _, annotation in found],
            np.full((len(found), 2), _SIDE),
        )
    return BoxDataset("digits_on_canvas", (_SIDE, _SIDE, 1), digits.class_names, parts)


def _canvas(random, images, labels):
    """Returns a canvas with one to five digits, none of which touches another's box."""
    canvas = np.full((_SIDE, _SIDE, 1), random.uniform(20, 100))
    boxes, found = [], []
    for _ in range(random.randint(1, _DIGITS_AT_MOST + 1)):
        # Drawn whether there is room or not, as the next ones then do not depend on it.
        index, side = random.randint(len(images)), random.randint(*_SIDES)
        top, left = random.randint(0, _SIDE - side + 1, 2)
        enlarge = geometry.weights(side, 0, 8, 8)
        ink = enlarge @ images[index, ..., 0] @ enlarge.T
        brightness = random.uniform(160, 255)
        rows, columns = (np.flatnonzero((ink > _INK).any(axis)) for axis in (1, 0))
        box = [left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1]
        if any(_touch(box, other) for other in boxes):
            continue
        part = canvas[top : top + side, left : left + side]
        part += (brightness - part) * (ink[..., None] / 255)
        boxes.append(box)
        found.append(int(labels[index]))
    canvas += random.normal(0, 12, canvas.shape)
    annotation = {"boxes": np.array(boxes, "float64"), "labels": np.array(found, "int64")}
    return np.clip(np.rint(canvas), 0, 255).astype("uint8"), annotation


def _touch(box, other):
    return box[0] <= other[2] and other[0] <= box[2] and box[1] <= other[3] and other[1] <= box[3]
