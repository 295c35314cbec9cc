"""Datasets by name or path."""

import os
from typing import Any

import numpy as np

from keras_fmm import checks, hints
from keras_fmm.data import arguments, splits
from keras_fmm.data.arrays import digits
from keras_fmm.data.datasets import ImageDataset
from keras_fmm.data.folders import load_folder


def is_path(name: hints.Path) -> bool:
    """Says whether `load` takes something for a folder or a CSV of images, not for a name.

    Args:
        name: str or `os.PathLike`.

    Example:

    >>> from keras_fmm import data
    >>> data.is_path("photographs"), data.is_path("./photographs"), data.is_path("labels.csv")
    (False, True, True)
    """
    if not isinstance(name, str):
        return isinstance(name, os.PathLike)
    ends = ("/", os.sep, ".csv", ".CSV")
    return name.startswith((".", "~")) or os.path.isabs(name) or name.endswith(ends)


def load(
    name: hints.Path = "digits",
    validation_fraction: float = 0.1,
    seed: int = 0,
    data_dir: hints.Path | None = None,
    **of_folder: Any,
) -> ImageDataset:
    """Returns a dataset of labelled images, divided into train, validation and test.

    A path is a folder or a CSV of your own images, which `load_folder` reads: a `pathlib.Path`, or
    a str that begins with ".", "/" or "~", or ends in "/" or ".csv". What follows is of names.

    "digits" (scikit-learn's 1,797 scanned digits of 8x8) is embedded. Any other name is one of
    tensorflow-datasets, with configuration and version if wanted ("imagenette/160px-v2",
    "cifar10:3.0.2"); it is downloaded and prepared if `data_dir` does not hold it.

    Test is the dataset's own test split. Where that is missing, or its labels are hidden, it is
    its validation split. Where there is neither ("digits"), it is a fifth of the examples, cut by
    a fixed seed. It never depends on `seed`, so that scores of different seeds can be compared.
    Validation is cut from train, by `seed`. For "digits" both cuts take the same part of each
    class; for the others they are plainly random, since the labels are not read beforehand.

    Args:
        name: str or `os.PathLike`, default "digits". See above.
        validation_fraction: float in [0, 1), default 0.1. The part of train to take for
            validation.
        seed: int from 0 to `2**32 - 1`, default 0. Which examples are validation.
        data_dir: str or `os.PathLike`, default None. The folder of tensorflow-datasets' prepared
            datasets. None takes the environment variable TFDS_DATA_DIR, else
            ~/tensorflow_datasets. Of names only.
        **of_folder: Of paths only: further arguments of `load_folder`, such as `image_size`.

    Returns:
        `ImageDataset`.

    Raises:
        TypeError: `name` is no str and no path, `data_dir` no path, or an argument is of paths.
        ValueError: an unknown or empty name, a dataset without one class for each image, no train
            split; a path with `data_dir`, or what `load_folder` refuses.
        ImportError: a package is absent; it is in the extra `data`.
        OSError: the prepared files are damaged, or preparing them failed; where that was because
            no server could be reached, it is a ConnectionError.

    Example:

    >>> from keras_fmm import data
    >>> dataset = data.load("digits", validation_fraction=0.2, seed=1)
    >>> dataset.sizes
    {'train': 1150, 'validation': 288, 'test': 359}
    """
    if is_path(name):
        if data_dir is not None:
            raise ValueError(
                "`data_dir` is the folder of datasets that have a name. Received: "
                f"name={str(name)!r}, data_dir={str(data_dir)!r}. Leave it out with a path."
            )
        return load_folder(name, validation_fraction=validation_fraction, seed=seed, **of_folder)
    if of_folder:
        raise TypeError(
            f"`{next(iter(of_folder))}` is of paths. Received: name={name!r}, with "
            f"{', '.join(of_folder)}. {as_path(name) or 'Leave it out with a name.'}"
        )
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a string or a path. Received: name={name!r}")
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

        try:
            train, test, shape, class_names = open_dataset(name, data_dir)
        except (ImportError, OSError, ValueError) as error:
            if not as_path(name):
                raise
            raise type(error)(f"{error} {as_path(name)}") from error
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


def as_path(name):
    """Returns what to do where a file or folder has a dataset's name, "" where none has."""
    if not os.path.exists(name):
        return ""
    return f"For the images in the folder of this name give {f'./{name}'!r}."
