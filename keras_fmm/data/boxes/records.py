"""One image and its boxes as a file tells them, whatever the format, and what must hold of them."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_fmm.data import listing
from keras_fmm.data.boxes import geometry

# The endings by which an image is known where a file names it without one.
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One image.

    Attributes:
        path: str, where to open it.
        name: str, what it is called whatever the machine.
        told: str, the file that tells its boxes, for messages.
        split: str or None, where something says it.
        boxes: float64 array `(n, 4)`, x1, y1, x2, y2, in pixels.
        labels: int64 array `(n,)`.
        places: list of str. Where in `told` each box is.
        extra: dict of what there is of `area` and `crowd`.
        size: (height, width) that `told` says, or None.
        is_relative: bool. Whether boxes are in parts of the image's sides instead.
    """

    path: str
    name: str
    told: str
    split: str | None
    boxes: np.ndarray
    labels: np.ndarray
    places: Sequence[str]
    extra: dict = dataclasses.field(default_factory=dict)
    size: tuple[int, int] | None = None
    is_relative: bool = False


@dataclasses.dataclass(slots=True)
class Found:
    """What a reader of a format found.

    Attributes:
        class_names: list of str.
        records: list of `Record`.
        faults: list of str. What is wrong, with the file's name.
        left_out: list of str. What is left out, with why.
    """

    class_names: list = dataclasses.field(default_factory=list)
    records: list = dataclasses.field(default_factory=list)
    faults: list = dataclasses.field(default_factory=list)
    left_out: list = dataclasses.field(default_factory=list)


def annotation(record, whole, found):
    """Returns the boxes of a record in pixels of the image as upright, and what belongs to them.

    A box that is partly outside is clipped, one of no area is left out.

    Args:
        record: `Record`.
        whole: (height, width) of the image as upright.
        found: `Found`, which is told of faults and of what is left out.
    """
    if record.size not in (None, whole):
        (high, wide), (height, width) = record.size, whole
        found.faults.append(
            f"{record.told} (it is for {wide}x{high} pixels, and {record.name!r} has "
            f"{width}x{height}, as upright)"
        )
    boxes = record.boxes
    if record.is_relative:
        boxes = boxes * np.tile(whole[::-1], 2)
    is_backwards = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    has_area = is_backwards | (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    inside = geometry.clipped(boxes, whole)
    is_outside = has_area & ~(inside[:, 2:] > inside[:, :2]).all(axis=1)
    for number in np.flatnonzero(is_backwards | is_outside):
        why = "ends before it begins"
        if not is_backwards[number]:
            why = f"is outside of the image of {whole[1]}x{whole[0]}"
        found.faults.append(f"{_shown(record, number)} {why})")
    for number in np.flatnonzero(~has_area):
        found.left_out.append(f"{_shown(record, number)} has no area)")
    columns = {"boxes": inside, "labels": record.labels, **record.extra}
    return {key: column[has_area] for key, column in columns.items()}


def _shown(record, number):
    box = ", ".join(f"{edge:g}" for edge in record.boxes[number])
    return f"{record.told} ({record.places[number]}: the box {box}"


def tops(directory, holds):
    """Returns the folders that hold a dataset, by split; by None the one that is not divided.

    Args:
        directory: `pathlib.Path`, a folder.
        holds: function, says of a folder whether it does.

    Raises:
        ValueError: two folders are of one split.
    """
    if holds(directory):
        return {None: directory}
    found = {}
    for folder in entries(directory):
        split = listing.SPLITS.get(folder.name.casefold())
        if split is None or not folder.is_dir() or not holds(folder):
            continue
        if split in found:
            raise ValueError(
                "A split must have one folder. Received: "
                f"{listing.shown(found[split])}, {listing.shown(folder)}. Put them together."
            )
        found[split] = folder
    return found


def entries(folder):
    """Returns the paths in a folder, sorted, without hidden ones; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def subfolder(top, *names):
    """Returns a folder of one of some names, in whatever capitals, or None."""
    for name in names:
        for path in entries(top):
            if path.name.casefold() == name and path.is_dir():
                return path
    return None


def with_ending(folder, *endings):
    """Returns the files in a folder that end so, sorted."""
    return [path for path in entries(folder) if path.suffix.lower() in endings and path.is_file()]


def name_of(directory, path):
    """Returns what an image is called whatever the machine: its path from the folder on."""
    path = os.path.normpath(path)
    try:
        return pathlib.Path(os.path.relpath(path, directory)).as_posix()
    except ValueError:  # another drive, on Windows
        return pathlib.Path(path).as_posix()


def text_of(path):
    """Returns what a file of text holds.

    Raises:
        ValueError: it is not written in UTF-8.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"A file of annotations must be written in UTF-8. Received: {listing.shown(path)}, "
            f"which is not on line {line} ({error.reason}). Save it as UTF-8."
        ) from error


def unknown(name, class_names):
    """Returns what is wrong with a class that is none of those asked for."""
    return f"the class {name!r} is none of {listing.enumerated(list(map(repr, class_names)))}"


def boxes_array(boxes):
    """Returns a list of boxes, which may be empty, as a float64 array `(n, 4)`."""
    return np.array(boxes, "float64").reshape(-1, 4)
