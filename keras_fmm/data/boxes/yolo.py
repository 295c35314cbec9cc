"""YOLO's form: a text for each image, with the class and the box in parts of the image's sides."""

import collections
import math
import os
import pathlib

import numpy as np

from keras_fmm import checks
from keras_fmm.data import listing
from keras_fmm.data.boxes import records

_ENDINGS = (".yaml", ".yml")
# How many characters and numbers a YAML may stand for: aliases of aliases could be more than any
# memory holds.
_MOST = 4_000_000
# What rounding may add to 1.
_ROUNDING = 0.01


def is_there(directory):
    """Says whether a folder is of this form."""
    names = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
    return bool(
        any(path.name.casefold() in names for path in records.entries(directory))
        or records.tops(directory, lambda top: records.subfolder(top, "labels"))
        or _classes(directory)
    )


def read(directory, class_names=None):
    """Returns what is `Found` in a folder.

    Args:
        directory: `pathlib.Path`.
        class_names: list of str, or None for those of data.yaml or classes.txt.
    """
    found = records.Found()
    settings = _settings(directory)
    names = _names(directory, settings)
    if names is None and class_names is None:
        blank = _classes(directory)
        told = f", where {listing.shown(blank)} is blank" if blank else ", which has neither"
        raise ValueError(
            "A folder of YOLO's form must have a data.yaml with names, or a classes.txt. "
            f"Received: {listing.shown(directory)}{told}. Add one, or give `class_names` in the "
            "order of their numbers."
        )
    found.class_names = class_names or names
    names = names or class_names
    images = _images(directory, settings, found)
    texts = {path: _text_of_image(path) for path in images}
    if not any(os.path.isfile(path) for path in texts.values()):
        raise ValueError(
            "A folder of YOLO's form must have a text for each image with boxes: for "
            "images/a.jpg labels/a.txt. Received: "
            f"{listing.shown(directory)} with {len(images)} images and no text that belongs to "
            "one. Move them there."
        )
    images_of = collections.defaultdict(list)
    for image, path in texts.items():
        images_of[path].append(listing.shown(image))
    for path, several in images_of.items():
        if len(several) > 1 and os.path.isfile(path):
            found.faults.append(f"{listing.shown(path)} (it is of {' and of '.join(several)})")
    for path in sorted(set(_texts(directory, texts.values())) - set(texts.values())):
        found.faults.append(f"{listing.shown(path)} (there is no image of it)")
    for path, split in images.items():
        told = listing.shown(texts[path])
        lines = []
        if os.path.isfile(texts[path]):
            content = records.text_of(pathlib.Path(texts[path]))
            lines = [(n, x.split()) for n, x in enumerate(content.splitlines(), 1) if x.strip()]
        boxes, numbers, places = [], [], []
        for line, words in lines:
            box = _box(words, names, found.class_names)
            if isinstance(box, str):
                found.faults.append(f"{told} (line {line}: {box})")
                continue
            numbers.append(box[0])
            boxes.append(box[1:])
            places.append(f"line {line}")
        name = records.name_of(directory, path)
        found.records.append(
            records.Record(
                path,
                name,
                told,
                split,
                records.boxes_array(boxes),
                np.array(numbers, "int64"),
                places,
                is_relative=True,
            )
        )
    return found


def _box(words, names, class_names):
    """Returns the class and edges of a line, or what is wrong with it."""
    if len(words) != 5:
        return f"it must have 5 numbers, class, centre and sides, and has {len(words)}"
    try:
        label, *values = map(float, words)
    except ValueError:
        return f"it must have numbers, and has {' '.join(words)!r}"
    if label not in range(len(names)):
        return f"the class must be an integer from 0 to {len(names) - 1}, and is {words[0]}"
    if names[int(label)] not in class_names:
        return records.unknown(names[int(label)], class_names)
    if not all(math.isfinite(x) and 0 <= x <= 1 + _ROUNDING for x in values):
        return f"the box must be in parts of the image's sides, 0 to 1, and is {words[1:]}"
    across, down, width, height = values
    return (
        class_names.index(names[int(label)]),
        across - width / 2,
        down - height / 2,
        across + width / 2,
        down + height / 2,
    )


def _yaml(directory):
    """Returns the .yaml of a folder, or None."""
    paths = records.with_ending(directory, *_ENDINGS)
    named = [path for path in paths if path.stem.casefold() in ("data", "dataset")]
    paths = named or paths
    if len(paths) > 1:
        raise ValueError(
            "A folder of YOLO's form must have one data.yaml. Received: "
            f"{listing.enumerated([listing.shown(path) for path in paths])}. Move others away."
        )
    return paths[0] if paths else None


def _settings(directory):
    """Returns what data.yaml says, a dict, which is empty where there is none."""
    path = _yaml(directory)
    if path is None:
        return {}
    yaml = checks.package("yaml", "Reading data.yaml", "data")
    rule = "data.yaml must be a YAML of names and folders."
    text = records.text_of(path)
    try:
        found = yaml.safe_load(text)
        size = _size(found)
        # Fails on a number of so many digits that no message could have it.
        repr(found if size <= _MOST else None)
    # PyYAML raises whatever a text leads the makers of its numbers, dates and tags to.
    except Exception as error:
        mark = getattr(error, "problem_mark", None)
        line = f" on line {mark.line + 1}" if mark else ""
        raise ValueError(
            f"{rule} Received: {listing.shown(path)}, which is none{line} "
            f"({getattr(error, 'problem', None) or error}). Correct it."
        ) from error
    if size > _MOST:
        raise ValueError(
            f"{rule} Received: {listing.shown(path)}, which stands for more than {_MOST:,} "
            "characters, as aliases that repeat things without end do. Write there what they stand "
            "for, or less."
        )
    if not isinstance(found, dict):
        raise ValueError(f"{rule} Received: {listing.shown(path)}, which has no names")
    return {str(key): value for key, value in found.items()}


def _size(found, inside=()):
    """Returns how much there is, an alias for all it stands for; inf for more than is taken."""
    if not isinstance(found, (dict, list, set, tuple)):
        return 1 + len(found) if isinstance(found, (str, bytes)) else 1
    if id(found) in inside:
        return math.inf
    items = found if not isinstance(found, dict) else (x for pair in found.items() for x in pair)
    total = 1
    for item in items:
        total += _size(item, (*inside, id(found)))
        if total > _MOST:
            return math.inf
    return total


def _classes(directory):
    """Returns the path of classes.txt, or None."""
    for folder in (directory, records.subfolder(directory, "labels")):
        for path in records.with_ending(folder, ".txt") if folder else ():
            if path.name.casefold() == "classes.txt":
                return path
    return None


def _names(directory, settings):
    """Returns the classes in the order of their numbers, or None where nothing names them."""
    path = _classes(directory)
    if "names" not in settings:
        return (_listed(path) or None) if path else None
    names, told = settings["names"], listing.shown(_yaml(directory))
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise ValueError(
                "In data.yaml the names of classes must have the numbers from 0 on. "
                f"Received: {told} with {list(names)}"
            )
        names = [names[number] for number in range(len(names))]
    # YAML takes some words for other things: no for False.
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise ValueError(
            "In data.yaml `names` must be a list of texts. "
            f"Received: {told} with {names!r}. Put each in quotes."
        )
    if settings.get("nc", len(names)) != len(names):
        raise ValueError(
            "In data.yaml `nc` must be how many names there are. "
            f"Received: {told} with nc: {settings['nc']!r}, and {len(names)} names"
        )
    lines = records.text_of(path).splitlines() if path else []
    listed = [line.strip() for line in lines if line.strip()]
    if listed and listed != [name.strip() for name in names]:
        raise ValueError(
            "data.yaml and classes.txt must name the same classes in the same order. Received: "
            f"{told} with {listing.enumerated(names)}, and {listing.shown(path)} with "
            f"{listing.enumerated(listed)}. Correct one, or move it away."
        )
    return names


def _listed(path):
    """Returns the classes of a classes.txt, one a line; blank ones may be at the end alone."""
    names = [line.strip() for line in records.text_of(path).rstrip().splitlines()]
    if "" in names:
        raise ValueError(
            "classes.txt must name a class on each line, as lines are the classes' numbers. "
            f"Received: {listing.shown(path)}, whose line {names.index('') + 1} is blank. Name "
            "the class there, or remove the line if no number is left out."
        )
    return names


def _images(directory, settings, found):
    """Returns the split of each image, by its path, in their order."""
    given = {}
    for key, value in settings.items():
        split = listing.SPLITS.get(key.casefold())
        if split is None or value in (None, ""):
            continue
        for path in value if isinstance(value, list) else [value]:
            for image in _of_setting(directory, settings, key, path, found):
                given.setdefault(image, []).append(split)
    if not given:
        # A text beside an image of its name holds boxes, be it called test.
        stems = {path.stem for path in records.with_ending(directory, *records.IMAGES)}
        lists = [x for x in records.with_ending(directory, ".txt") if _split_of(x.stem)]
        for path in (path for path in lists if path.stem not in stems):
            for image in _of_list(path, found):
                given.setdefault(image, []).append(_split_of(path.stem))
    if not given:
        given = {image: [split] for image, split in _of_folders(directory)}
    for image, splits in given.items():
        if len(set(splits)) > 1:
            found.faults.append(f"{listing.shown(image)} (it is in {' and in '.join(splits)})")
    return {image: given[image][0] for image in sorted(given)}


def _split_of(name):
    return listing.SPLITS.get(name.casefold())


def _of_setting(directory, settings, key, value, found):
    """Returns the images that a line of data.yaml names."""
    bases = [directory]
    if isinstance(settings.get("path"), str):
        bases.insert(0, directory / settings["path"])
    # As some tools write it, from a folder that is not there.
    values = [value, value.removeprefix("../")] if isinstance(value, str) and value else []
    for place in (base / text for text in values for base in bases):
        if place.is_dir():
            return _all(place)
        if place.is_file():
            return _of_list(place, found)
    raise ValueError(
        "data.yaml must name folders or lists of images that are there. Received: "
        f"{listing.shown(_yaml(directory))} with {key}: {value!r}. Correct it, or remove the line."
    )


def _of_list(path, found):
    """Returns the images that a text names, one a line."""
    images = []
    for line in records.text_of(path).splitlines():
        if not line.strip():
            continue
        image = os.path.normpath(path.parent / line.strip().replace("\\", "/"))
        if os.path.isfile(image):
            images.append(image)
        else:
            found.faults.append(f"{listing.shown(path)} ({line.strip()!r} is not there)")
    return images


def _of_folders(directory):
    """Yields the images of a folder, each with its split."""
    for split, top in records.tops(
        directory, lambda top: records.subfolder(top, "labels") or records.subfolder(top, "images")
    ).items():
        folder = records.subfolder(top, "images") or top
        inner = {x: _split_of(x.name) for x in records.entries(folder) if x.is_dir()}
        if split is None and any(inner.values()):
            for place, part in inner.items():
                yield from ((image, part) for image in (_all(place) if part else ()))
        else:
            yield from ((image, split) for image in _all(folder))
    if records.tops(directory, lambda top: records.subfolder(top, "labels", "images")) == {}:
        yield from ((image, None) for image in _all(directory))


def _all(folder):
    """Returns the images in a folder and those below it."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            os.path.normpath(os.path.join(root, name))
            for name in names
            if not name.startswith(".") and name.lower().endswith(records.IMAGES)
        ]
    return sorted(found)


def _text_of_image(path):
    """Returns where the text of an image is: in labels instead of the last images, or beside."""
    parts = list(pathlib.PurePath(path).parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].casefold() == "images":
            labels = records.subfolder(pathlib.Path(*parts[:place]), "labels")
            if labels is not None:
                return str(labels.joinpath(*parts[place + 1 :]).with_suffix(".txt"))
            break
    return str(pathlib.PurePath(path).with_suffix(".txt"))


def _texts(directory, known):
    """Returns the texts that are in the folders of those known, but for lists of classes."""
    for folder in {os.path.dirname(path) for path in known}:
        for path in records.with_ending(pathlib.Path(folder), ".txt"):
            is_list = path.name.casefold() == "classes.txt" or _split_of(path.stem)
            if not is_list and path.parent != directory:
                yield str(path)
