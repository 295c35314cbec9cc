"""Datasets by name."""

import numpy as np

from keras_fmm import checks, hints
from keras_fmm.data import arguments, splits
from keras_fmm.data.arrays import digits
from keras_fmm.data.datasets import ImageDataset


def load(
    name: str = "digits",
    validation_fraction: float = 0.1,
    seed: int = 0,
    data_dir: hints.Path | None = None,
) -> ImageDataset:
    """Returns a dataset of labelled images, divided into train, validation and test.

    "digits" (scikit-learn's 1,797 scanned digits of 8x8) is embedded. Any other name is one of
    tensorflow-datasets, with configuration and version if wanted ("imagenette/160px-v2",
    "cifar10:3.0.2"); it is downloaded and prepared if `data_dir` does not hold it.

    Test is the dataset's own test split. Where that is missing, or its labels are hidden, it is
    its validation split. Where there is neither ("digits"), it is a fifth of the examples, cut by
    a fixed seed. It never depends on `seed`, so that scores of different seeds can be compared.
    Validation is cut from train, by `seed`. For "digits" both cuts take the same part of each
    class; for the others they are plainly random, since the labels are not read beforehand.

    Args:
        name: str, default "digits". See above.
        validation_fraction: float in [0, 1), default 0.1. The part of train to take for
            validation.
        seed: int from 0 to `2**32 - 1`, default 0. Which examples are validation.
        data_dir: str or `os.PathLike`, default None. The folder of tensorflow-datasets' prepared
            datasets. None takes the environment variable TFDS_DATA_DIR, else
            ~/tensorflow_datasets.

    Returns:
        `ImageDataset`.

    Raises:
        TypeError: `name` is no str, or `data_dir` no path.
        ValueError: an unknown or empty name, a dataset without one class for each image, no train
            split.
        ImportError: a package is absent; it is in the extra `data`.
        OSError: the prepared files are damaged, or preparing them failed; where that was because
            no server could be reached, it is a ConnectionError.

    Example:

    >>> from keras_fmm import data
    >>> dataset = data.load("digits", validation_fraction=0.2, seed=1)
    >>> dataset.sizes
    {'train': 1150, 'validation': 288, 'test': 359}
    """
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a string. Received: name={name!r}")
    if not name.strip():
        raise ValueError(f"`name` must not be empty. Received: name={name!r}. Give e.g. 'digits'.")
    validation_fraction = arguments.fraction("validation_fraction", validation_fraction)
    seed = arguments.seed(seed)
    if data_dir is not None:
        data_dir = checks.path("data_dir", data_dir)
    if name == "digits":
        train, class_names = digits()
        test, shape, labels = None, train.images.shape[1:], train.labels
    else:
        from keras_fmm.data.builders import open_dataset

        train, test, shape, class_names = open_dataset(name, data_dir)
        labels = None
    left = np.arange(train.size)
    if test is None:
        left, taken = splits.cut(left, splits.TEST_FRACTION, splits.TEST_SEED, labels)
        test_part = train, taken
    else:
        test_part = test, np.arange(test.size)
    left, taken = splits.cut(left, validation_fraction, seed, labels)
    parts = {"train": (train, left), "validation": (train, taken), "test": test_part}
    return ImageDataset(name, shape, class_names, parts)
