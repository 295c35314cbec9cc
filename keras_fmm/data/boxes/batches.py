"""Batches of images and of the array that a detector is fitted to."""

import numpy as np

from keras_fmm import checks
from keras_fmm.annotations import padded
from keras_fmm.data.batches import Batches
from keras_fmm.data.boxes import geometry


class BoxBatches(Batches):
    """Batches (images, targets) of a split for `model.fit`; see `BoxDataset.batches`.

    Args:
        objects: function, of the number of an example gives its boxes, in pixels of the image as
            it comes, and their labels.
        max_boxes: int. The room for boxes.
        augmentation: list of functions; see `Augmentation`.
        *order: as of `Batches`.
    """

    def __init__(self, objects, max_boxes, augmentation, *order):
        self._objects = objects
        self._max_boxes = max_boxes
        self._augmentation = augmentation
        super().__init__(*order)

    def __getitem__(self, index):
        # Sources give the number of an example as its label.
        images, numbers, *weights = super().__getitem__(index)
        images = np.array(images, "float32")
        rows = []
        for image, number in zip(images, map(int, numbers), strict=True):
            boxes, labels = self._objects(number)
            # Of one generator an example, an image is the same whatever batch it is in.
            random = np.random.default_rng((self._seed or 0, self._epoch, number, 1))
            for place, augment in enumerate(self._augmentation):
                found = augment(image, boxes, random)
                name = f"augmentation[{place}]"
                image[:], boxes = _checked(name, augment, found, image.shape, boxes.shape)
            has_area = geometry.areas(boxes) > 0
            rows.append((boxes[has_area], labels[has_area]))
        return images, padded(rows, self._max_boxes), *weights


def _checked(name, augment, found, shape, boxes_shape):
    """Returns the image and the boxes that a function of augmentation gave, those cut to it."""
    fault = f"a {type(found).__name__}"
    if isinstance(found, (tuple, list)) and len(found) == 2:
        image = checks.real_array(f"the image of {name}", found[0]).astype("float32", copy=False)
        boxes = checks.real_array(f"the boxes of {name}", found[1]).astype("float64", copy=False)
        # A list of none has no second axis.
        if boxes.shape == (0,) == boxes_shape[:1]:
            boxes = boxes.reshape(boxes_shape)
        fault = _fault(image, boxes, shape, boxes_shape)
    if fault:
        raise ValueError(
            "Functions of `augmentation` must return an image of the shape that they were given, "
            "and as many boxes in their order, of finite numbers. "
            f"Received: {name}={augment!r}, which returned {fault}. Of a box of which nothing is "
            "left return 0, 0, 0, 0."
        )
    # What is wholly outside of a crop may end before it begins, on both axes too, and has no area.
    boxes = np.where((boxes[:, 2:] < boxes[:, :2]).any(axis=1, keepdims=True), 0.0, boxes)
    return image, geometry.clipped(boxes, shape[:2])


def _fault(image, boxes, shape, boxes_shape):
    """Returns what is wrong with an image and boxes that were to be of some shapes, or None."""
    if image.shape != shape or boxes.shape != boxes_shape:
        return (
            f"an image of the shape {image.shape} and boxes of {boxes.shape} for those of {shape} "
            f"and {boxes_shape}"
        )
    if not np.isfinite(image).all() or not np.isfinite(boxes).all():
        return "numbers that are not finite"
    return None
