"""Batches of images and of the array that a detector is fitted to."""

import numpy as np

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
            for augment in self._augmentation:
                changed, boxes = augment(image, boxes, random)
                image[:] = changed
            has_area = geometry.areas(boxes) > 0
            rows.append((boxes[has_area], labels[has_area]))
        return images, padded(rows, self._max_boxes), *weights
