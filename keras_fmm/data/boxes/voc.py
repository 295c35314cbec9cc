"""Folders of Pascal VOC's form: an XML for each image."""

import collections
import math
import pathlib
import xml.etree.ElementTree
from xml.parsers import expat

import numpy as np

from keras_fmm.data import listing
from keras_fmm.data.boxes import records

_LINE = "line"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def is_there(directory):
    """Says whether a folder is of this form."""
    return bool(records.tops(directory, _xmls))


def read(directory, class_names=None):
    """Returns what is `Found` in a folder.

    Args:
        directory: `pathlib.Path`.
        class_names: list of str, or None for those that are there, in alphanumerical order.
    """
    found = records.Found()
    parsed = []
    for split, top in records.tops(directory, _xmls).items():
        xmls = _xmls(top)
        given = _lists(top, found) if split is None else {}
        for stem in sorted(given.keys() - {path.stem for path in xmls}):
            found.faults.append(f"{given[stem][1]} (it names {stem!r}, of which there is no XML)")
        images = _Images(top, xmls[0].parent)
        for path in xmls:
            if given and path.stem not in given:
                continue
            told = listing.shown(path)
            try:
                root = _parsed(path)
                image = images.of(root, path)
                size = _size(root)
                objects = [_object(item) for item in root.iterfind("object")]
            except _Fault as fault:
                found.faults.append(f"{told} ({fault})")
                continue
            part = given[path.stem][0] if given else split
            parsed.append((image, records.name_of(directory, image), told, part, size, objects))
        if not given:
            found.left_out += [
                f"{listing.shown(path)} (it has no XML)"
                for path in images.all()
                if str(path) not in {image for image, *_ in parsed}
            ]
    names = {name for *_, objects in parsed for name, *_ in objects}
    found.class_names = sorted(names) if class_names is None else class_names
    numbers = {name: number for number, name in enumerate(found.class_names)}
    count = collections.Counter(name for _, name, *_ in parsed)
    for image, name, told, split, size, objects in parsed:
        if count[name] > 1:
            found.faults.append(f"{told} (it is one of {count[name]} XMLs of {name!r})")
        places = [f"line {line}" for _, _, _, line in objects]
        for (label, *_), place in zip(objects, places, strict=True):
            if label not in numbers:
                why = records.unknown(label, found.class_names)
                found.faults.append(f"{told} ({place}: {why})")
        labels = [numbers.get(label, -1) for label, *_ in objects]
        is_difficult = np.array([difficult for _, _, difficult, _ in objects], bool)
        found.records.append(
            records.Record(
                image,
                name,
                told,
                split,
                records.boxes_array([box for _, box, _, _ in objects]),
                np.array(labels, "int64"),
                places,
                {"crowd": is_difficult},
                size,
            )
        )
    return found


class _Fault(Exception):
    """What is wrong with an XML."""


def _xmls(top):
    folder = records.subfolder(top, "annotations")
    return (records.with_ending(folder, ".xml") if folder else []) or records.with_ending(
        top, ".xml"
    )


def _lists(top, found):
    """Returns, by the name of an XML without its ending, its split and the file that says it."""
    main = top / "ImageSets" / "Main"
    files = {}
    for folder in (main, top):
        for path in records.with_ending(folder, ".txt"):
            split = listing.SPLITS.get(path.stem.casefold())
            if split:
                files.setdefault(split, path)
        # Of VOC this is train and validation together.
        if "train" not in files and (folder / "trainval.txt").is_file():
            files["train"] = folder / "trainval.txt"
        if files:
            break
    given = {}
    for split, path in files.items():
        for line in records.text_of(path).splitlines():
            stem = _without_ending(line.strip())
            before = given.setdefault(stem, (split, listing.shown(path)))
            if before[0] != split:
                found.faults.append(f"{listing.shown(path)} ({stem!r} is in {before[1]} too)")
    given.pop("", None)
    return given


def _without_ending(text):
    path = pathlib.PurePosixPath(text.replace("\\", "/"))
    return path.stem if path.suffix.lower() in (*records.IMAGES, ".xml") else path.name


class _Images:
    """The images of some XMLs.

    Args:
        top: `pathlib.Path`, the folder of the dataset.
        beside: `pathlib.Path`, the folder of the XMLs.
    """

    def __init__(self, top, beside):
        folder = records.subfolder(top, "jpegimages", "images")
        self._folders = [x for x in dict.fromkeys([folder, top, beside]) if x is not None]
        self._stems = collections.defaultdict(list)
        for path in self.all():
            self._stems[path.stem].append(path)

    def all(self):
        """Returns the paths of what is named as an image."""
        return [x for folder in self._folders for x in records.with_ending(folder, *records.IMAGES)]

    def of(self, root, path):
        """Returns the path of the image of an XML, a str."""
        name = (root.findtext("filename") or "").strip().replace("\\", "/")
        name = pathlib.PurePosixPath(name).name
        if pathlib.PurePosixPath(name).suffix.lower() in records.IMAGES:
            places = [folder / name for folder in self._folders]
            places = [place for place in places if place.is_file()][:1]
        else:
            name = name or path.stem
            places = self._stems[name]
        if not places:
            raise _Fault(f"its image {name!r} is not there")
        if len(places) > 1:
            raise _Fault(
                f"its image may be {listing.enumerated([listing.shown(x) for x in places])}"
            )
        return str(places[0])


def _parsed(path):
    """Returns the root of an XML; the attribute "line" of each element says where it begins.

    No document type is taken, as it could define entities that are endlessly large.
    """
    builder = xml.etree.ElementTree.TreeBuilder()
    parser = expat.ParserCreate()

    def start(tag, _):
        builder.start(tag, {_LINE: str(parser.CurrentLineNumber)})

    def refuse(*_):
        raise _Fault(
            f"line {parser.CurrentLineNumber}: it has a document type (<!DOCTYPE), which is refused"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise _Fault(
            f"line {error.lineno}, column {error.offset + 1}: it is no whole XML "
            f"({expat.ErrorString(error.code)})"
        ) from error
    except (LookupError, ValueError) as error:
        raise _Fault(f"it cannot be decoded ({error}); save it as UTF-8") from error
    root = builder.close()
    if root.tag != "annotation":
        raise _Fault(f"line {root.get(_LINE)}: it must be <annotation>, and is <{root.tag}>")
    return root


def _size(root):
    """Returns (height, width), or None where the XML does not say it; tools write 0 then."""
    size = root.find("size")
    if size is None:
        return None
    sides = tuple(int(_number(size, side)) for side in ("height", "width"))
    return sides if all(sides) else None


def _object(item):
    """Returns the class, the box, whether it is difficult, and the line of an <object>."""
    line = item.get(_LINE)
    name = (item.findtext("name") or "").strip()
    if not name:
        raise _Fault(f"line {line}: an object must have a <name>")
    box = item.find("bndbox")
    if box is None:
        raise _Fault(f"line {line}: an object must have a <bndbox>")
    difficult = item.find("difficult")
    is_difficult = difficult is not None and _number(item, "difficult") != 0
    return name, [_number(box, edge) for edge in _EDGES], is_difficult, line


def _number(element, tag):
    text = (element.findtext(tag) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        found = element.find(tag)
        line = (element if found is None else found).get(_LINE)
        raise _Fault(f"line {line}: <{tag}> must be a number, and is {text!r}")
    return value
