"""A dataset in one .npz file, for machines without TensorFlow."""

import zipfile

import numpy as np

from keras_fmm import checks, files, hints
from keras_fmm.data import splits
from keras_fmm.data.arrays import ArraySource
from keras_fmm.data.datasets import ImageDataset


def save_arrays(
    dataset: ImageDataset, path: hints.Path, image_size: tuple[int, int] | None = None
) -> None:
    """Writes all splits of a dataset to one compressed .npz file, whole or not at all.

    Args:
        dataset: `ImageDataset`. It must fit in memory.
        path: str or `os.PathLike`. What is there is replaced.
        image_size: pair of int, default None. Height and width to resize the images to (rounded
            to uint8), at most 16,384. It must be given where the images differ in size.

    Raises:
        TypeError: `dataset` is no `ImageDataset`, or `path` no path.
        OSError: the file cannot be written.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_fmm import data
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "digits.npz"
    >>> data.save_arrays(data.load("digits"), path)
    >>> data.load_arrays(path)
    ImageDataset('digits', input_shape=(8, 8, 1), classes=10, train=1294, validation=144, test=359)
    """
    checks.instance("dataset", dataset, ImageDataset)
    path = checks.path("path", path)
    content = {"name": np.array(dataset.name), "class_names": np.array(dataset.class_names)}
    for split in splits.NAMES:
        images, labels = dataset.arrays(split, image_size)
        content[f"{split}_images"] = np.rint(images).astype("uint8")
        content[f"{split}_labels"] = labels
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **content)


def load_arrays(path: hints.Path) -> ImageDataset:
    """Reads a dataset that `save_arrays` wrote; needs NumPy only.

    Args:
        path: str or `os.PathLike`. The file.

    Returns:
        `ImageDataset`, with the splits it was saved with.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged, or not a file of `save_arrays`: images of uint8 and of one shape,
            integers below the number of class names for labels, at least one image in train.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_fmm import data
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "digits.npz"
    >>> data.save_arrays(data.load("digits"), path)
    >>> data.load_arrays(path).classes
    10
    """
    path = checks.path("path", path)
    with open(path, "rb") as file:
        try:
            return _read(file)
        except Exception as error:  # NumPy, zipfile and zlib raise many kinds over a damaged file.
            raise ValueError(
                f"{path} is damaged or was not written by `save_arrays` "
                f"({str(error) or type(error).__name__}). Save the dataset again."
            ) from error


def _read(file):
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no .npz archive")
    file.seek(0)
    with np.load(file, allow_pickle=False) as content:
        # Drawn images pack well.
        files.check_unpacked(content.zip, most=200)
        name, class_names = str(content["name"]), content["class_names"].tolist()
        parts = {split: _part(content, split, len(class_names)) for split in splits.NAMES}
    shapes = [source.images.shape[1:] for source, _ in parts.values()]
    if len(set(shapes)) > 1 or not len(parts["train"][1]):
        raise ValueError(f"images of shapes {[s.images.shape for s, _ in parts.values()]}")
    return ImageDataset(name, shapes[0], class_names, parts)


def _part(content, split, classes):
    images, labels = content[f"{split}_images"], content[f"{split}_labels"]
    if images.ndim != 4 or images.dtype != "uint8" or labels.shape != images.shape[:1]:
        raise ValueError(f"{split}: images {images.shape} {images.dtype}, labels {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{split}: labels of dtype {labels.dtype}, not integers")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"{split}: labels outside 0..{classes - 1}")
    return ArraySource(images, labels.astype("int32")), np.arange(len(labels))
