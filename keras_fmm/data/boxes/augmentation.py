"""Augmentation that changes an image and its boxes together."""

import dataclasses

import numpy as np

from keras_fmm import checks
from keras_fmm.data.boxes import geometry


class Augmentation:
    """What `BoxDataset.batches` takes: an image, its boxes and a generator, and gives new ones.

    A class of one's own has `__call__(image, boxes, random)`. The image is a float32 array
    `(height, width, channels)` of 0 to 255, the boxes a float64 array `(n, 4)`, x1, y1, x2, y2 in
    its pixels, and `random` a `numpy.random.Generator`, from which alone chance may come. It
    returns an image of the same shape and `(n, 4)` boxes, in the same order. What of a box is
    beyond the image is cut off, and a box of which nothing is left is one of no area.
    """

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the new image and the new boxes."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class RandomBoxFlip(Augmentation):
    """Mirrors images left to right, or upside down.

    Args:
        horizontal: float in [0, 1], default 0.5. How often left and right change places.
        vertical: float in [0, 1], default 0.0. How often top and bottom do.

    Raises:
        TypeError: a chance is no number.
        ValueError: a chance is not from 0 to 1.

    Example:

    >>> import numpy as np
    >>> from keras_fmm import data
    >>> flip = data.RandomBoxFlip(horizontal=1)
    >>> image, boxes = np.zeros((10, 20, 3), "float32"), np.array([[0.0, 0.0, 5.0, 4.0]])
    >>> flip(image, boxes, np.random.default_rng(0))[1].tolist()
    [[15.0, 0.0, 20.0, 4.0]]
    """

    horizontal: float = 0.5
    vertical: float = 0.0

    def __post_init__(self) -> None:
        checks.share("horizontal", self.horizontal)
        checks.share("vertical", self.vertical)

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        across, down = random.random(2)
        left, top, right, bottom = boxes.T
        if across < self.horizontal:
            image, left, right = image[:, ::-1], width - right, width - left
        if down < self.vertical:
            image, top, bottom = image[::-1], height - bottom, height - top
        return image, np.stack([left, top, right, bottom], axis=1)


@dataclasses.dataclass(frozen=True)
class RandomBoxZoom(Augmentation):
    """Cuts a window out of the image, or puts it into a larger one, and resizes that.

    The window's sides are those of the image times a number each. Where it is smaller it is
    anywhere in the image; where it is larger, the image is anywhere in it, and grey around.

    Args:
        smallest: float, above 0, default 0.5. The least part of the image's sides.
        largest: float, at least `smallest`, at most 16, default 1.25. The greatest.
        stretch: float, at least 1, default 1.25. How much the window's height and width may differ
            in their parts of the image's, as a ratio, both ways.
        visible: float in [0, 1], default 0.3. The part of a box's area that must be left; a box
            of which less is, is dropped.
        fill: float, default 127.5. The grey beyond the image.
        chance: float in [0, 1], default 1.0. How often it is done.

    Raises:
        TypeError: an argument is no number.
        ValueError: one is out of range.
    """

    smallest: float = 0.5
    largest: float = 1.25
    stretch: float = 1.25
    visible: float = 0.3
    fill: float = 127.5
    chance: float = 1.0

    def __post_init__(self) -> None:
        for name in ("smallest", "largest", "stretch", "fill"):
            checks.number(name, getattr(self, name))
        if not 0 < self.smallest <= self.largest <= 16:
            raise ValueError(
                "`smallest` must be above 0 and at most `largest`, that at most 16. Received: "
                f"smallest={self.smallest!r}, largest={self.largest!r}"
            )
        if not 1 <= self.stretch <= 16:
            raise ValueError(f"`stretch` must be from 1 to 16. Received: stretch={self.stretch!r}")
        checks.share("visible", self.visible)
        checks.share("chance", self.chance)

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        whole = np.array(image.shape[:2], "float64")
        zoom = random.uniform(self.smallest, self.largest)
        half = np.exp(random.uniform(-0.5, 0.5) * np.log(self.stretch))
        sides = whole * np.clip([zoom * half, zoom / half], self.smallest, self.largest)
        corner = random.random(2) * (whole - sides)
        if random.random() >= self.chance:
            return image, boxes
        found = geometry.window(image, corner, sides, image.shape[:2], self.fill)
        moved = (boxes - np.tile(corner[::-1], 2)) * np.tile((whole / sides)[::-1], 2)
        seen = geometry.clipped(moved, image.shape[:2])
        is_dropped = geometry.areas(seen) < self.visible * geometry.areas(moved)
        seen[is_dropped] = 0
        return found, seen


@dataclasses.dataclass(frozen=True)
class RandomBoxBrightness(Augmentation):
    """Makes images brighter or darker, and their contrast more or less; boxes stay.

    Args:
        brightness: float in [0, 1], default 0.2. The most that is added or taken, as a part of
            255.
        contrast: float in [0, 1], default 0.2. The most by which the distance from the image's
            mean grows or shrinks, as a part of it.

    Raises:
        TypeError: an argument is no number.
        ValueError: one is not from 0 to 1.
    """

    brightness: float = 0.2
    contrast: float = 0.2

    def __post_init__(self) -> None:
        checks.share("brightness", self.brightness)
        checks.share("contrast", self.contrast)

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        added = 255 * random.uniform(-self.brightness, self.brightness)
        factor = 1 + random.uniform(-self.contrast, self.contrast)
        mean = image.mean(dtype="float64")
        found = (image - mean) * factor + (mean + added)
        return np.clip(found, 0, 255).astype("float32"), boxes
