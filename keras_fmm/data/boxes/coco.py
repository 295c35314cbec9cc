"""COCO's form: a JSON for each split."""

import collections
import json
import math
import numbers
import os
import re

import numpy as np

from keras_fmm.data import listing
from keras_fmm.data.boxes import records


def is_there(directory):
    """Says whether a folder is of this form."""
    return bool(records.tops(directory, _jsons))


def read(directory, class_names=None):
    """Returns what is `Found` in a folder, or of one JSON.

    Args:
        directory: `pathlib.Path`.
        class_names: list of str, or None for the categories, by their ids.
    """
    found = records.Found()
    files = [(None, directory)] if directory.is_file() else _files(directory)
    if not files:
        others = [x for x in sorted(directory.rglob("*")) if x.suffix.lower() == ".json"]
        raise ValueError(
            "A folder of COCO's form must have a JSON of images, annotations and categories, in "
            "UTF-8, in annotations or beside the images. Received: "
            f"{listing.shown(directory)}, which has "
            + (
                f"others: {listing.enumerated(list(map(listing.shown, others)))}"
                if others
                else "none"
            )
            + ". Add it, or give another `format` (of recipes: --format)."
        )
    top = directory.parent if directory.is_file() else directory
    # As where the folder is given: the images are beside this one.
    if directory.is_file() and top.absolute().name.casefold() == "annotations":
        top = top / ".."
    if class_names is not None:
        found.class_names = class_names
    known = {}
    for split, path in files:
        told = listing.shown(path)
        content = _parsed(path)
        categories = _by_id(content, "categories", told, found)
        names = {}
        for number in sorted(categories):
            names[number] = _text(categories[number], "name", f"{told} (category {number}", found)
        if known and names != known[next(iter(known))]:
            found.faults.append(f"{told} (its categories are others than in {next(iter(known))})")
            continue
        known[told] = names
        if class_names is None:
            found.class_names = list(names.values())
        images = _by_id(content, "images", told, found)
        objects = collections.defaultdict(list)
        for number, item in _by_id(content, "annotations", told, found).items():
            box = _annotation(
                item, images, names, found.class_names, f"{told} (annotation {number}", found
            )
            if box is not None:
                objects[item["image_id"]].append((number, *box))
        for number, item in images.items():
            record = _record(top, path, split, number, item, objects[number], found)
            if record is not None:
                found.records.append(record)
    for name, count in collections.Counter(record.name for record in found.records).items():
        if count > 1:
            told = sorted({record.told for record in found.records if record.name == name})
            found.faults.append(f"{name!r} (it is there {count} times, in {', '.join(told)})")
    if class_names is None and len(set(found.class_names)) < len(found.class_names):
        found.faults.append(f"{next(iter(known))} (two of its categories have one name)")
    return found


def _files(directory):
    """Returns the JSONs of a folder, each with its split; None where there is but one."""
    found = records.tops(directory, _jsons)
    if None not in found:
        return [(split, path) for split, top in found.items() for _, path in _files(top)]
    files = [(_split(path), path) for path in _jsons(directory)]
    return files if len(files) == 1 else _each_a_split(files)


def _jsons(top):
    """Returns the JSONs of annotations that a folder holds itself."""
    for place in (records.subfolder(top, "annotations"), top):
        paths = (
            [x for x in records.with_ending(place, ".json") if _holds_images(x)] if place else []
        )
        # COCO's own folder has the JSONs of captions and keypoints too.
        named = [path for path in paths if path.name.startswith("instances_")]
        if paths:
            return named or paths
    return []


def _each_a_split(files):
    splits = [split for split, _ in files]
    if None in splits or len(set(splits)) < len(splits):
        raise ValueError(
            "Of several JSONs each must be of one split, and have train, val or test in its name. "
            f"Received: {listing.enumerated([listing.shown(path) for _, path in files])}. Rename "
            "them, move others away, or give one of them alone."
        )
    return files


def _split(path):
    """Returns the split that a JSON's name says, or None."""
    words = re.split("[^a-z]+", path.stem.lower())
    return next((listing.SPLITS[word] for word in words if word in listing.SPLITS), None)


def _holds_images(path):
    """Says whether a JSON is one of annotations, by its beginning; one that is broken may be."""
    with open(path, "rb") as file:
        start = file.read(2**16).lstrip(b"\xef\xbb\xbf \t\r\n")
    is_whole = len(start) < 2**16 - 64
    keys = (b'"images"', b'"annotations"', b'"categories"', b'"info"', b'"licenses"')
    return start.startswith(b"{") and (not is_whole or any(key in start for key in keys))


def _parsed(path):
    told = listing.shown(path)
    text = records.text_of(path)
    rule = "A file of COCO's form must be a JSON of images, annotations and categories."
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{rule} Received: {told}, which is no whole JSON: line {error.lineno}, column "
            f"{error.colno} ({error.msg}). Save or download it once more."
        ) from error
    # Of brackets in brackets, or a number of very many digits.
    except (RecursionError, ValueError) as error:
        raise ValueError(
            f"{rule} Received: {told}, which cannot be read ({error}). Correct it, or "
            "download it once more."
        ) from error
    keys = ("images", "annotations", "categories")
    lacking = [
        key
        for key in keys
        if not isinstance(content, dict) or not isinstance(content.get(key), list)
    ]
    if lacking:
        raise ValueError(
            f"{rule} Received: {told}, which has no list of {', '.join(lacking)}. Give another "
            "file, or the one whose name begins with instances_."
        )
    return content


def _by_id(content, key, told, found):
    """Returns the items of a list by their ids, in their order."""
    items = {}
    for place, item in enumerate(content[key]):
        number = item.get("id") if isinstance(item, dict) else None
        # Of images the ids of some tools are words.
        if isinstance(number, bool) or not isinstance(number, (int, str)):
            found.faults.append(f"{told} ({key}[{place}] must have an id, and is {_short(item)})")
        elif number in items:
            found.faults.append(f"{told} ({key}[{place}] has the id {number} of another one)")
        else:
            items[number] = item
    if len({type(number) for number in items}) > 1:
        found.faults.append(f"{told} (the ids of {key} must be all numbers or all words)")
        items = {}
    return items


def _annotation(item, images, names, class_names, told, found):
    """Returns the box, label, area and crowd of an annotation, or None where it has a fault."""
    try:
        if not _is_among(item.get("image_id"), images):
            fault = f"it is of the image {_short(item.get('image_id'))}, which is not among images"
        elif not _is_among(item.get("category_id"), names):
            fault = f"it is of the category {_short(item.get('category_id'))}, which is none"
        elif names[item["category_id"]] not in class_names:
            fault = records.unknown(names[item["category_id"]], class_names)
        else:
            left, top, width, height = map(_number, item["bbox"])
            area = _number(item.get("area", abs(width * height)))
            crowd = item.get("iscrowd", 0)
            if crowd in (0, 1) and area >= 0:
                box = [left, top, left + width, top + height]
                return box, class_names.index(names[item["category_id"]]), area, bool(crowd)
            fault = (
                f"area must be at least 0, and is {area}; iscrowd 0 or 1, and is {_short(crowd)}"
            )
    except (KeyError, TypeError, ValueError, OverflowError):
        fault = (
            "it must have numbers as its area and as its bbox: left, top, width, height; it is "
            f"{_short(item)}"
        )
    found.faults.append(f"{told}: {fault})")
    return None


def _is_among(number, items):
    """Says whether an id is one of some: True is equal to 1, and a list cannot be looked up."""
    is_id = isinstance(number, (int, float, str)) and not isinstance(number, bool)
    return is_id and number in items


def _record(top, path, split, number, item, objects, found):
    """Returns the `Record` of an image of a JSON, or None where it has a fault."""
    told = listing.shown(path)
    name = _text(item, "file_name", f"{told} (image {number}", found)
    if not name:
        return None
    image = _place(top, path, split, name)
    if image is None:
        found.faults.append(f"{told} (image {number}: {name!r} is not there)")
        return None
    own = records.name_of(top, image)
    if own.startswith("../") or os.path.isabs(own):
        found.faults.append(
            f"{told} (image {number}: {name!r} is outside of the folder, where all "
            "images must be: give a folder that holds both)"
        )
        return None
    try:
        size = tuple(int(_number(item.get(side, 0))) for side in ("height", "width"))
    except (TypeError, ValueError, OverflowError):
        found.faults.append(f"{told} (image {number}: its height and width must be numbers)")
        return None
    return records.Record(
        image,
        own,
        told,
        split,
        records.boxes_array([box for _, box, *_ in objects]),
        np.array([label for _, _, label, *_ in objects], "int64"),
        [f"annotation {number}" for number, *_ in objects],
        {
            "area": np.array([area for *_, area, _ in objects], "float64"),
            "crowd": np.array([crowd for *_, crowd in objects], bool),
        },
        size if all(size) else None,
    )


def _place(top, path, split, name):
    """Returns the path of an image, or None."""
    part = path.stem.removeprefix("instances_")
    words = [part, *(word for word, meant in listing.SPLITS.items() if split and meant == split)]
    images = [folder for base in (top, path.parent) for folder in (base / "images", base)]
    folders = [folder / word for folder in images for word in words] + images
    for folder in folders:
        place = os.path.normpath(folder / name.replace("\\", "/"))
        if os.path.isfile(place):
            return place
    return None


def _text(item, key, told, found):
    text = item.get(key)
    if isinstance(text, str) and text.strip() and "\0" not in text:
        return text
    found.faults.append(f"{told}: its {key} must be a text, and is {text!r})")
    return ""


def _number(value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    value = float(value)
    if not math.isfinite(value):
        raise ValueError
    return value


def _short(item):
    text = repr(item)
    return text if len(text) <= 80 else f"{text[:77]}..."
