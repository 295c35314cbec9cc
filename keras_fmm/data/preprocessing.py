"""The layer that scales a dataset's images for a model."""

import keras
import numpy as np

from keras_fmm import checks
from keras_fmm.data.datasets import ImageDataset


def preprocessing(dataset: ImageDataset, kind: str = "scale") -> keras.layers.Layer:
    """Returns the layer that scales stored images (0..255) for a model; put it first in the model.

    Args:
        dataset: `ImageDataset`. Its train split is looked at by "standardize".
        kind: str, default "scale". "scale" divides by 255. "standardize" subtracts the mean of the
            train split from each channel and divides by its standard deviation, both computed
            in float64 over all pixels.

    Returns:
        `keras.layers.Rescaling` or `keras.layers.Normalization`, for channels last.

    Raises:
        TypeError: `dataset` is no `ImageDataset`.
        ValueError: `kind` is unknown.

    Example:

    >>> from keras_fmm import data
    >>> dataset = data.load("digits")
    >>> images, _ = dataset.arrays("train")
    >>> scaled = data.preprocessing(dataset, "scale")(images)
    >>> float(keras.ops.max(scaled))
    1.0
    """
    checks.instance("dataset", dataset, ImageDataset)
    checks.one_of("kind", kind, ("scale", "standardize"))
    if kind == "scale":
        return keras.layers.Rescaling(1 / 255)
    mean, variance = _moments(dataset)
    return keras.layers.Normalization(axis=-1, mean=mean, variance=variance)


def _moments(dataset):
    # Sums of whole numbers, exact in float64 below 2**53: no images are too many for this.
    pixels, total, squares = 0, 0.0, 0.0
    for images, _ in dataset.chunks("train"):
        values = images.reshape(-1, images.shape[-1]).astype("float64")
        pixels += len(values)
        total += values.sum(axis=0)
        squares += np.square(values).sum(axis=0)
    mean = total / pixels
    return mean, squares / pixels - np.square(mean)
