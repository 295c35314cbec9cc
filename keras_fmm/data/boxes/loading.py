"""Datasets of images with boxes by name or folder."""

import os
import pathlib
import warnings
from collections.abc import Sequence

from keras_fmm import checks, hints, progress
from keras_fmm.data import arguments, folders, listing, loading, splits
from keras_fmm.data.boxes import folders as box_folders
from keras_fmm.data.boxes.canvases import digits_on_canvas
from keras_fmm.data.boxes.dataset import BoxDataset

_EMBEDDED = "digits_on_canvas"


def load_boxes(
    name: hints.Path = _EMBEDDED,
    format: str | None = None,
    image_size: tuple[int, int] | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = splits.TEST_FRACTION,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    skip_unreadable: bool = False,
    data_dir: hints.Path | None = None,
    verbose: hints.Verbose = "auto",
) -> BoxDataset:
    """Returns a dataset of images with boxes, divided into train, validation and test.

    "digits_on_canvas" is embedded: scikit-learn's digits, one to five on each of 1,500 grey
    canvases of 96x96, with noise, 14 to 43 pixels high before what is black around them is left
    out, none on another. The 300 test canvases have the test digits of `load("digits")` alone and
    are the same whatever the seed; validation canvases have its validation digits.

    A path, or anything with a `format`, is a folder (`load` says what is a path). Boxes are in
    pixels of the image as upright (`load_image`):

    - "voc": an XML for each image, in `Annotations`, with the images in `JPEGImages` or `images`,
      or beside the images. Edges are taken as they stand; Pascal's own count pixels from 1. What is
      `difficult` is a crowd. Splits are in `ImageSets/Main` or in the folder, as train.txt (or
      trainval.txt), val.txt and test.txt of names, one a line; other images are left out then.
    - "coco": a JSON of images, annotations and categories, in `annotations` (of several those
      called instances_*) or beside the images. Those are in `images`, or in a folder named as the
      split or as the JSON, none outside of the dataset's folder. Of several, each has train, val or
      test in its name. `name` may be one JSON, whose folder is the dataset's, or, of one in
      `annotations`, the folder above. Categories are labels 0, 1, ... in the order of their ids.
    - "yolo": for `images/a.jpg` a text `labels/a.txt` of lines class, centre, width and height in
      parts of the image's sides; an image without one has no boxes. Classes are named in data.yaml
      or classes.txt, one a line; where both are there, they must agree. Splits are what data.yaml
      names, or train.txt and val.txt of paths, or folders in `images`.

    Each may also be in folders train, val (or valid, validation) and test. Where there is no
    validation or no test, it is taken from train by the hash of the image's name, as `load_folder`
    does; a fraction of 0 takes none.

    Any other name is one of tensorflow-datasets whose examples have `image` and `objects` with
    `bbox` and `label`: "voc/2007", "coco/2017". Test is its test split, or, where that has no boxes
    or is missing, its validation split; what then is missing is cut from train at random.

    An image may be without boxes. A box that is partly outside of the image is clipped; one of no
    area is left out, which a warning says. One that is wholly outside, or ends before it begins,
    and whatever else does not fit is an error that names the file and the box.

    Args:
        name: str or `os.PathLike`, default "digits_on_canvas". See above.
        format: str, default None (found out). Of a folder: "voc", "coco" or "yolo".
        image_size: pair of int, default None. Of a folder: height and width to resize all images
            to, at most 16,384, by stretching. None leaves them as they are; of different sizes they
            then need an `image_size` where they are read, as in `BoxDataset.batches`.
        validation_fraction: float in [0, 1), default 0.15. The part to take for validation where
            there is none.
        test_fraction: float in [0, 1), default 0.2. Of a folder: the part to take for test where
            there is none.
        seed: int from 0 to `2**32 - 1`, default 0. Which examples are validation, and what is on
            the canvases for training and validation.
        class_names: list or tuple of str, default None. Of a folder: the classes, in the order of
            their labels; a box of another is an error. None takes those that are there, of "voc" in
            alphanumerical order, else in the order of their numbers.
        color_mode: str, default "rgb". Of a folder: "rgb" or "grayscale".
        skip_unreadable: bool, default False. Of a folder: whether images that cannot be read are
            left out.
        data_dir: str or `os.PathLike`, default None. Of names: as of `load`.
        verbose: int or str, default "auto". Of a folder: as of `load_folder`.

    Returns:
        `BoxDataset`. Its attribute `left_out` says what was left out.

    Raises:
        TypeError: an argument is of no type that fits.
        ValueError: an argument is out of range; an unknown name; a folder that is of no form or of
            two; what it holds is broken, contradicts itself or its images, or names what is not
            there; images cannot be read.
        FileNotFoundError: the folder is not there.
        OSError: a file cannot be read; of names as of `load`.
        ImportError: a package is absent; it is in the extra `data`.

    Example:

    >>> import pathlib, tempfile, keras, numpy as np
    >>> from keras_fmm import data
    >>> data.load_boxes("digits_on_canvas").sizes
    {'train': 1020, 'validation': 180, 'test': 300}
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("images", "labels"):
    ...     (folder / name).mkdir()
    >>> keras.utils.save_img(folder / "images" / "a.png", np.zeros((20, 40, 3)))
    >>> _ = (folder / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.5")
    >>> _ = (folder / "classes.txt").write_text("cat\\ndog")
    >>> dataset = data.load_boxes(folder, format="yolo")
    >>> dataset.class_names, dataset.annotations("train")[0]["boxes"].tolist()
    (('cat', 'dog'), [[15.0, 5.0, 25.0, 15.0]])
    """
    if format is not None:
        checks.one_of("format", format, tuple(box_folders.FORMATS))
    skip_unreadable = checks.flag("skip_unreadable", skip_unreadable)
    checks.one_of("verbose", verbose, progress.VERBOSE)
    channels = folders.CHANNELS[checks.one_of("color_mode", color_mode, tuple(folders.CHANNELS))]
    if image_size is not None:
        image_size = checks.pair("image_size", image_size, checks.IMAGE_SIDES)
    validation_fraction = arguments.fraction("validation_fraction", validation_fraction)
    test_fraction = arguments.fraction("test_fraction", test_fraction)
    seed = arguments.seed(seed)
    if class_names is not None:
        class_names = _class_names(class_names)
    if format is not None or loading.is_path(name) or str(name).lower().endswith(".json"):
        if data_dir is not None:
            raise ValueError(
                "`data_dir` is the folder of datasets that have a name. Received: "
                f"name={str(name)!r}, data_dir={str(data_dir)!r}. Leave it out with a path."
            )
        found = box_folders.load(
            pathlib.Path(os.path.expanduser(checks.path("name", name))),
            format,
            image_size,
            validation_fraction,
            test_fraction,
            seed,
            class_names,
            channels,
            skip_unreadable,
            verbose,
        )
        return _told(found)
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a string or a path. Received: name={name!r}")
    given = {
        "image_size": image_size is not None,
        "class_names": class_names is not None,
        "color_mode": color_mode != "rgb",
        "skip_unreadable": skip_unreadable,
    }
    if any(given.values()):
        raise ValueError(
            f"`{next(filter(given.get, given))}` is of folders. Received: name={name!r}. "
            + (loading.as_path(name) or "Leave it out with a name.")
        )
    if not name.strip():
        raise ValueError(f"`name` must not be empty. Received: name={name!r}. Give {_EMBEDDED!r}.")
    if data_dir is not None:
        data_dir = checks.path("data_dir", data_dir)
    if name == _EMBEDDED:
        return digits_on_canvas(validation_fraction, seed)
    from keras_fmm.data.boxes.builders import open_boxes

    try:
        return _told(open_boxes(name, data_dir, validation_fraction, seed))
    except (ImportError, OSError, ValueError) as error:
        if not loading.as_path(name):
            raise
        raise type(error)(f"{error} {loading.as_path(name)}") from error


def _told(dataset):
    if dataset.left_out:
        warnings.warn(
            f"Left out of {dataset.name!r}: {listing.enumerated(dataset.left_out)}. The dataset's "
            "`left_out` names all.",
            stacklevel=3,
        )
    return dataset


def _class_names(value):
    names = checks.listed("class_names", value, str)
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"`class_names` must be names of classes, each once. Received: class_names={names}"
        )
    return names
