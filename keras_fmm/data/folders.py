"""Datasets of people's own image files."""

import collections
import filecmp
import hashlib
import os
import pathlib
import warnings
from collections.abc import Sequence

import numpy as np

from keras_fmm import checks, hints, progress
from keras_fmm.data import arguments, listing, splits
from keras_fmm.data.datasets import ImageDataset
from keras_fmm.data.image_source import ImageFileSource

CHANNELS = {"rgb": 3, "grayscale": 1}


def load_folder(
    directory: hints.Path,
    image_size: tuple[int, int] | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = splits.TEST_FRACTION,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    follow_links: bool = False,
    skip_unreadable: bool = False,
    verbose: hints.Verbose = "auto",
) -> ImageDataset:
    """Returns a dataset of your own images, which are read from their files as they are needed.

    `directory` is one of

    - a folder with a folder for each class, and the images in those or in folders below;
    - a folder with folders of that kind called `train`, `val` (or `validation`) and `test`. What
      of the last two is not there is taken from train;
    - a CSV file of two columns, file and label. With a first row that names them (`file`, `label`;
      `filename`, `path`, `image`; `class`, `category`) it may have more, and among them `split`.
      Files are named from the CSV's folder on, or by their whole path.

    Test and validation are taken from each class by the hash of a file's name in `directory`, so
    the parts are about, not exactly, the fractions. Files that are added or removed leave the
    others in the part where they were, but in a class so small that none of it fell into a part:
    that gets one of the class. Test does not depend on `seed`.

    As in `keras.utils.image_dataset_from_directory`, classes are in alphanumerical order, files
    without shuffling too, and folders that are links are looked into in the place of a class
    alone. Hidden files, text beside images (.txt, .json, .xml, ...) and what systems leave
    (Thumbs.db, __MACOSX) are passed over; whatever else is in the folder of a class must be an
    image. `load_image` says how images are read and resized, in training and elsewhere.

    All files are read once to begin with; those that cannot be are named in one error, and those
    that hold the same bytes in two classes in a warning. As much as 1 GiB of images in `image_size`
    then stays in memory.

    Args:
        directory: str or `os.PathLike`. See above; "~" is the home folder.
        image_size: pair of int, default None. Height and width to resize all images to, at most
            16,384. None leaves them as they are; of different sizes they then need an `image_size`
            where they are read, as in `ImageDataset.pipeline`.
        validation_fraction: float in [0, 1), default 0.1. The part of train to take for
            validation where `directory` has none.
        test_fraction: float in [0, 1), default 0.2. The part of all, or of train, to take for test
            where `directory` has none.
        seed: int from 0 to `2**32 - 1`, default 0. Which examples are validation.
        class_names: list or tuple of str, default None. The classes to read, in the order of their
            labels. None takes all. It also says that folders called `train` or `test` are classes.
        color_mode: str, default "rgb". "rgb" or "grayscale".
        crop_to_aspect_ratio: bool, default False. As of `load_image`.
        pad_to_aspect_ratio: bool, default False. As of `load_image`.
        follow_links: bool, default False. Whether folders below a class may be links.
        skip_unreadable: bool, default False. Whether files that cannot be read are left out; the
            attribute `left_out` then names them.
        verbose: int or str, default "auto". The progress of reading all files: "auto" shows a bar
            once it has taken five seconds, 0 none, 1 a bar, 2 a line at the end.

    Returns:
        `ImageDataset`, with float32 images. Its name is the folder's.

    Raises:
        TypeError: an argument is of no type that fits.
        ValueError: an argument is out of range; `directory` is not built as above: no image, one
            class, a class without an image, images beside the folders of classes, two classes or
            splits of one name but for capitals, classes in test that train has not, rows of a CSV
            that contradict each other or name no file; files cannot be read.
        FileNotFoundError: `directory` is not there.
        OSError: a folder or the CSV cannot be read.
        ImportError: Pillow is not installed; it is in the extra `data`.

    Example:

    >>> import pathlib, tempfile, keras, numpy as np
    >>> from keras_fmm import data
    >>> photographs = pathlib.Path(tempfile.mkdtemp(), "photographs")
    >>> for name in ("cat", "dog"):
    ...     (photographs / name).mkdir(parents=True)
    ...     for number in range(10):
    ...         noise = np.random.randint(0, 256, (20 + number, 30, 3))
    ...         keras.utils.save_img(photographs / name / f"{number}.png", noise, scale=False)
    >>> dataset = data.load_folder(photographs, image_size=(16, 16))
    >>> dataset.name, dataset.class_names, dataset.input_shape, sum(dataset.sizes.values())
    ('photographs', ('cat', 'dog'), (16, 16, 3), 20)
    >>> images, labels = dataset.arrays("test")
    >>> images.shape[1:], sorted(set(labels.tolist()))
    ((16, 16, 3), [0, 1])
    """
    fit = arguments.fit(crop_to_aspect_ratio, pad_to_aspect_ratio)
    follow_links = checks.flag("follow_links", follow_links)
    skip_unreadable = checks.flag("skip_unreadable", skip_unreadable)
    checks.one_of("verbose", verbose, progress.VERBOSE)
    if image_size is not None:
        image_size = checks.pair("image_size", image_size, checks.IMAGE_SIDES)
    validation_fraction = arguments.fraction("validation_fraction", validation_fraction)
    test_fraction = arguments.fraction("test_fraction", test_fraction)
    seed = arguments.seed(seed)
    if class_names is not None:
        class_names = checks.listed("class_names", class_names, str)
    channels = CHANNELS[checks.one_of("color_mode", color_mode, tuple(CHANNELS))]
    directory = pathlib.Path(os.path.expanduser(checks.path("directory", directory)))
    checks.package("PIL.Image", "Reading image files", "data")
    images, class_names = listing.listed(directory, class_names, follow_links)

    def source(images):
        number = {name: label for label, name in enumerate(class_names)}
        labels = np.array([number[image.label] for image in images], "int32")
        return ImageFileSource([x.path for x in images], labels, channels, fit, image_size)

    files = source(images)
    shown = progress.Progress(len(images), verbose, "image")
    looks = files.look(shown.add)
    left_out = [
        f"{image.name!r} ({look})"
        for image, look in zip(images, looks, strict=True)
        if isinstance(look, str)
    ]
    if left_out:
        if not skip_unreadable:
            raise ValueError(
                "`directory` must hold images that can be read. Received: "
                f"directory={listing.shown(directory)} with {len(left_out)} of {len(images)} files "
                f"that cannot: {listing.enumerated(left_out)}. Save them as PNG or JPEG, move them "
                "away, or leave them out by skip_unreadable=True (of recipes: --skip-unreadable)."
            )
        images = [x for x, look in zip(images, looks, strict=True) if not isinstance(look, str)]
        looks = [look for look in looks if not isinstance(look, str)]
        empty = [name for name in class_names if name not in {image.label for image in images}]
        if empty:
            raise ValueError(
                "A class must have an image that can be read. Received: "
                f"{listing.enumerated(list(map(repr, empty)))} in {listing.shown(directory)}, of "
                f"which none can: {listing.enumerated(left_out)}. Save them as PNG or JPEG, or "
                "move the class away."
            )
        files = source(images)
    _warn_of_contradictions(directory, images, looks)
    sizes = {size for size, _ in looks}
    if files.image_size is None and len(sizes) == 1:
        files.image_size = sizes.pop()
    name = os.path.basename(os.path.abspath(directory))
    if not directory.is_dir():
        name = directory.stem
    return ImageDataset(
        name,
        (*(files.image_size or (None, None)), channels),
        class_names,
        _parts(files, images, validation_fraction, test_fraction, seed),
        {
            "class_names": list(class_names),
            "files": f"{len(images)} files, {_checksum(images, looks)}",
            "image_size": None if image_size is None else list(image_size),
            "color_mode": color_mode,
            "aspect_ratio": fit or "stretch",
        },
        left_out,
    )


def _warn_of_contradictions(directory, images, looks):
    """Warns of files of the same bytes in several classes."""
    alike = collections.defaultdict(list)
    for image, look in zip(images, looks, strict=True):
        alike[look].append(image)
    found = []
    for first, *others in alike.values():
        # Other files may have the same checksum.
        same = [
            image
            for image in others
            if image.label != first.label and filecmp.cmp(first.path, image.path, shallow=False)
        ]
        if same:
            found.append(" and ".join(repr(image.name) for image in (first, *same)))
    if found:
        warnings.warn(
            "An image should be of one class. Received: "
            f"directory={listing.shown(directory)}, with the same image in several: "
            f"{listing.enumerated(found)}. Remove those that are wrong.",
            stacklevel=3,
        )


def _parts(files, images, validation_fraction, test_fraction, seed):
    """Returns the source and the indices of each split."""
    found = splits.divided(
        [image.split for image in images],
        [image.name for image in images],
        files.labels,
        validation_fraction,
        test_fraction,
        seed,
    )
    return {split: (files, places) for split, places in found.items()}


def _checksum(images, looks):
    """Returns what differs where a file has another name, class, split or content."""
    lines = sorted(
        repr((image.name, image.label, image.split, checksum))
        for image, (_, checksum) in zip(images, looks, strict=True)
    )
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()
