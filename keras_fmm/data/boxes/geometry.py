"""Boxes of an image that is resized, cut or turned, and the image itself, by the same rule.

Coordinates are of edges, not of pixels' middles: the pixel in row i is from i to i + 1.
"""

import numpy as np
from scipy import sparse


def scaled(annotation, whole, image_size):
    """Returns the annotation of an image that is stretched to another size.

    Args:
        annotation: dict of `boxes`, `labels`, and maybe `area` and `crowd`.
        whole: (height, width) that its boxes are in.
        image_size: (height, width) of the result.
    """
    down, across = (new / old for new, old in zip(image_size, whole, strict=True))
    found = {**annotation, "boxes": annotation["boxes"] * [across, down, across, down]}
    if "area" in annotation:
        found["area"] = annotation["area"] * (across * down)
    return found


def clipped(boxes, size):
    """Returns boxes without what is outside of an image of `size`, (height, width)."""
    height, width = size
    return np.clip(boxes, 0, [width, height, width, height])


def areas(boxes):
    """Returns the area of each box."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def window(image, corner, sides, image_size, fill=0.0):
    """Returns a window of an image, resized bilinearly with antialiasing.

    Args:
        image: float array `(height, width, channels)`.
        corner: (top, left) of the window, in pixels of the image; it may be outside.
        sides: (height, width) of the window.
        image_size: (height, width) of the result.
        fill: float. What is beyond the image.

    Returns:
        float32 array `(*image_size, channels)`.
    """
    height, width, channels = image.shape
    down = weights(image_size[0], corner[0], sides[0], height)
    across = weights(image_size[1], corner[1], sides[1], width)
    found = sparse.csr_array(down) @ (image - fill).reshape(height, width * channels)
    found = found.reshape(-1, width, channels).swapaxes(0, 1).reshape(width, -1)
    found = (sparse.csr_array(across) @ found).reshape(image_size[1], image_size[0], channels)
    return (found.swapaxes(0, 1) + fill).astype("float32")


def weights(out, start, length, size):
    """Returns what pixels of a window take of those of an image, along one axis.

    Args:
        out: int. How many pixels the window is resized to.
        start: float. Where it begins in the image.
        length: float. How many of the image's pixels it has.
        size: int. How many pixels the image has.

    Returns:
        float64 array `(out, size)`, whose rows have the sum 1, or 0 beyond the image.
    """
    centres = start + (np.arange(out) + 0.5) * (length / out)
    wide = max(1.0, length / out)
    found = 1 - abs(centres[:, None] - (np.arange(size) + 0.5)) / wide
    found = np.maximum(found, 0) * ((centres > 0) & (centres < size))[:, None]
    return found / np.maximum(found.sum(axis=1, keepdims=True), 1e-12)
