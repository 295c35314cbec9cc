"""Datasets of people's own images with boxes."""

import hashlib
import os

import numpy as np

from keras_fmm import checks, progress
from keras_fmm.data import listing, splits
from keras_fmm.data.boxes import coco, records, voc, yolo
from keras_fmm.data.boxes.dataset import BoxDataset, Part
from keras_fmm.data.image_source import ImageFileSource

FORMATS = {"voc": voc, "coco": coco, "yolo": yolo}
_LOOKS = (
    "voc has XMLs, in Annotations or beside the images; coco a JSON, in annotations or beside the "
    "images; yolo a folder labels of texts, or data.yaml"
)


def load(
    directory,
    format,
    image_size,
    validation_fraction,
    test_fraction,
    seed,
    class_names,
    channels,
    skip_unreadable,
    verbose,
):
    """Returns the `BoxDataset` of a folder; the arguments are those of `load_boxes`, checked."""
    checks.package("PIL.Image", "Reading image files", "data")
    if not directory.exists():
        raise FileNotFoundError(
            "`name` must be a folder of images and annotations that is there. "
            f"Received: name={listing.shown(directory)}"
        )
    format = format or _format(directory)
    found = FORMATS[format].read(directory, class_names)
    _refuse(directory, found)
    if not found.records or not found.class_names:
        raise ValueError(
            "A folder of images with boxes must have an image and a class at least. Received: "
            f"{listing.shown(directory)} with {len(found.records)} images and "
            f"{len(found.class_names)} classes, read as {format}. "
            + (
                "Add boxes, or name classes by `class_names`."
                if found.records
                else f"Add images, or give another `format` (of recipes: --format): {_LOOKS}."
            )
        )
    listing.check_names(directory, found.class_names, class_names is not None)
    found.records.sort(key=lambda record: record.name)
    looks = _looks(directory, found, channels, image_size, skip_unreadable, verbose)
    annotations = [
        records.annotation(record, whole, found)
        for record, (whole, _) in zip(found.records, looks, strict=True)
    ]
    _refuse(directory, found)
    sizes = [whole for whole, _ in looks]
    numbers = np.arange(len(found.records))
    source = ImageFileSource([x.path for x in found.records], numbers, channels, None, image_size)
    if image_size is None and len(set(sizes)) == 1:
        source.image_size = sizes[0]
    parts = splits.divided(
        [record.split for record in found.records],
        [record.name for record in found.records],
        np.zeros(len(numbers), int),
        validation_fraction,
        test_fraction,
        seed,
    )
    return BoxDataset(
        os.path.basename(os.path.abspath(directory)),
        (*(source.image_size or (None, None)), channels),
        tuple(found.class_names),
        {
            split: Part(source, places, annotations, np.array(sizes))
            for split, places in parts.items()
        },
        {
            "class_names": list(found.class_names),
            "files": f"{len(numbers)} files, {_checksum(found.records, looks, annotations)}",
            "image_size": None if image_size is None else list(image_size),
            "color_mode": "rgb" if channels == 3 else "grayscale",
        },
        tuple(found.left_out),
    )


def _format(directory):
    """Returns the form that a folder is of."""
    if directory.is_file():
        if directory.suffix.lower() == ".json":
            return "coco"
        there = []
    else:
        there = [name for name, form in FORMATS.items() if form.is_there(directory)]
    if len(there) != 1:
        raise ValueError(
            "A folder of images with boxes must be of one form that is known. Received: "
            f"{listing.shown(directory)}, which looks like {' and '.join(there) or 'none'}: "
            f"{_LOOKS}. Give its `format` (of recipes: --format)."
        )
    return there[0]


def _refuse(directory, found):
    if found.faults:
        raise ValueError(
            "Annotations must fit their images and one another. Received: "
            f"{listing.shown(directory)} with {len(found.faults)} faults: "
            f"{listing.enumerated(found.faults)}. Correct them, or move those files away."
        )


def _looks(directory, found, channels, image_size, skip_unreadable, verbose):
    """Returns size and checksum of each image, and takes those away that cannot be read."""
    paths = [record.path for record in found.records]
    source = ImageFileSource(paths, np.arange(len(paths)), channels, None, image_size)
    looks = source.look(progress.Progress(len(paths), verbose, "image").add)
    pairs = list(zip(found.records, looks, strict=True))
    unread = [f"{record.name!r} ({look})" for record, look in pairs if isinstance(look, str)]
    if unread and not skip_unreadable:
        raise ValueError(
            "A folder must hold images that can be read. Received: "
            f"{listing.shown(directory)} with {len(unread)} of {len(pairs)} files that cannot: "
            f"{listing.enumerated(unread)}. Save them as PNG or JPEG, move them and their "
            "annotations away, or leave them out by skip_unreadable=True."
        )
    found.left_out += unread
    pairs = [(record, look) for record, look in pairs if not isinstance(look, str)]
    if not pairs:
        raise ValueError(
            f"A folder must hold an image that can be read. Received: {listing.shown(directory)}, "
            f"of which none can: {listing.enumerated(unread)}. Save them as PNG or JPEG."
        )
    found.records = [record for record, _ in pairs]
    return [look for _, look in pairs]


def _checksum(found, looks, annotations):
    """Returns what differs where a file has another name, split, content or other boxes."""
    digest = hashlib.blake2b(digest_size=8)
    for record, (_, checksum), annotation in zip(found, looks, annotations, strict=True):
        digest.update(repr((record.name, record.split, checksum)).encode())
        for key in sorted(annotation):
            digest.update(annotation[key].tobytes())
    return digest.hexdigest()
