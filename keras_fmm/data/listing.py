"""Which image files a folder or a CSV names, and of which class and split each one is."""

import collections
import csv
import dataclasses
import io
import os
import pathlib
import unicodedata

# The folders' names that mean a split.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# The columns' names of a CSV.
_FILES = ("file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_path")
_LABELS = ("label", "class", "class_name", "category")
_SPLIT = ("split", "subset")
# What systems leave in folders; hidden files are passed over too.
_LEFT = ("__macosx", "@eadir", "thumbs.db", "desktop.ini")
# Text beside images; Keras passes over all but a few endings, which hides photographs too.
_TEXTS = (".txt", ".md", ".json", ".xml", ".csv", ".tsv", ".yaml", ".yml", ".html")
_NAMED_AT_MOST = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """One image file.

    Attributes:
        path: str, where to open it.
        name: str, what it is called whatever the machine: its path from the folder or the CSV on,
            with "/".
        label: str, its class.
        split: str or None, where the folder or the CSV says it.
    """

    path: str
    name: str
    label: str
    split: str | None = None


def listed(directory, class_names=None, follow_links=False):
    """Returns the images of a folder or of a CSV, and the names of their classes in order.

    Args:
        directory: `pathlib.Path`.
        class_names: list of str or None, which classes in which order.
        follow_links: bool, whether folders that are links are looked into.

    Returns:
        List of `Image`, and list of str.

    Raises:
        FileNotFoundError: there is nothing at `directory`.
        OSError: a folder or the CSV cannot be read.
        ValueError: it is not built as it must be; the message names what is not.
    """
    if directory.is_dir():
        images, known = _of_folder(directory, class_names, follow_links)
    elif directory.is_file() and directory.suffix.lower() == ".csv":
        images, known = _of_csv(directory)
    elif directory.exists():
        raise ValueError(
            "`directory` must be a folder, or a CSV of files and labels that ends in .csv. "
            f"Received: directory={shown(directory)}, which is neither"
        )
    else:
        raise FileNotFoundError(
            "`directory` must be a folder of images, or a CSV of them, that is there. "
            f"Received: directory={shown(directory)}"
        )
    names = _checked_classes(directory, known, class_names)
    if class_names is not None:
        place = {name: number for number, name in enumerate(names)}
        images = [image for image in images if image.label in place]
        images.sort(key=lambda image: place[image.label])
    return images, names


def shown(path):
    """Returns a path in quotes, as a message can show it."""
    return repr(str(path))


def enumerated(items):
    """Returns names, a sequence of str, as a message lists them."""
    more = len(items) - _NAMED_AT_MOST
    return ", ".join(items[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _of_folder(directory, class_names, follow_links):
    folders, files = _entries(directory)
    splits = _splits(directory, folders, class_names)
    images, classes, empty = [], {}, []
    for split, top in splits.items():
        prefix = "" if split is None else f"{top.name}/"
        folders, files = (folders, files) if split is None else _entries(top)
        _check_no_images(top, folders, files)
        classes[split] = []
        for folder in folders:
            label = folder.name
            found = list(_files(folder, follow_links))
            if not found and split in (None, "train") and label in (class_names or [label]):
                empty.append(shown(folder))
            if found:
                classes[split].append(label)
            for path in found:
                name = prefix + f"{label}/{pathlib.Path(path).relative_to(folder).as_posix()}"
                images.append(Image(path, name, label, split))
    if empty:
        raise ValueError(
            "A class must have an image at least. Received: folders without one, "
            f"{enumerated(empty)}. Remove them, or put their images there"
            + ("." if follow_links else "; of folders that are links give follow_links=True.")
        )
    known = classes[next(iter(classes))]
    for split, there in classes.items():
        others = [name for name in there if name not in known]
        if class_names is not None:
            others = [name for name in others if name in class_names]
        if others:
            raise ValueError(
                "The splits must have the classes of train. Received: "
                f"{enumerated([shown(splits[split] / name) for name in others])}, and in train "
                f"the classes {enumerated(list(map(repr, known)))}"
            )
        if split is not None and not there:
            raise ValueError(
                "The folder of a split must have images of a class. Received: "
                f"{shown(splits[split])}, which has none. Remove it, or fill it."
            )
    return images, known


def _splits(directory, folders, class_names):
    """Returns the folder of each split, by split; by None where the folders are classes."""
    named = {folder: SPLITS.get(folder.name.casefold()) for folder in folders}
    if class_names is not None and {folder.name for folder in folders} >= set(class_names):
        named = {}
    # A class may be called "train": of vehicles.
    of_classes = {x: split for x, split in named.items() if split and _entries(x)[0]}
    others = [folder for folder in folders if folder not in of_classes]
    if not of_classes:
        if folders and all(named.get(folder) for folder in folders):
            raise ValueError(
                "The folder of a split must have a folder for each class. Received: "
                f"{enumerated(list(map(shown, folders)))}, which have none. Put the images into "
                "folders of their classes, or give `class_names` if these are the classes."
            )
        return {None: directory}
    if others:
        raise ValueError(
            "Beside the folders of splits there must be no other, and each must have a folder for "
            f"each class. Received: {enumerated(list(map(shown, of_classes)))}, and beside them "
            f"{enumerated(list(map(shown, others)))}. Move those away, or give `class_names`, in "
            "their order, if all of them are classes."
        )
    count = collections.Counter(of_classes.values())
    twice = [folder for folder, split in of_classes.items() if count[split] > 1]
    if twice:
        raise ValueError(
            "A split must have one folder. Received: "
            f"{enumerated(list(map(shown, twice)))}. Put them together."
        )
    if "train" not in count:
        raise ValueError(
            "Among the folders of splits there must be one for train. Received: "
            f"{enumerated(list(map(shown, of_classes)))}"
        )
    order = {split: folder for folder, split in of_classes.items()}
    return {split: order[split] for split in ("train", "validation", "test") if split in order}


def _check_no_images(top, folders, files):
    images = [path for path in files if _is_named_as_image(path)]
    if folders and not images:
        return
    tables = [path for path in files if path.suffix.lower() == ".csv"]
    cure = "Move them away or into the folders of their classes."
    if not folders:
        cure = "Give the folder above it, put each class into a folder, or give a CSV of labels."
    if tables:
        cure += f" There is a CSV: {shown(tables[0])}."
    told = f"{len(images) or 'no'} images " + ("beside them" if folders else "and no folder")
    if images:
        told += f": {enumerated([shown(path.name) for path in images])}"
    raise ValueError(
        "`directory` must have a folder for each class, and the images in those. "
        f"Received: {shown(top)} with {told}. {cure}"
    )


def _is_named_as_image(path):
    from PIL import Image as pillow

    ending = path.suffix.lower()
    # Pillow also has a place for .h5, .pdf and .mpg.
    kind = pillow.MIME.get(pillow.registered_extensions().get(ending), "")
    return kind.startswith("image/") or ending in (".heic", ".heif", ".dng")


def _entries(folder):
    """Returns the folders and the files of a folder, without what is passed over, both sorted."""
    try:
        paths = [pathlib.Path(folder, name) for name in sorted(os.listdir(folder))]
        paths = [path for path in paths if not _is_passed_over(path.name)]
        folders, files = [], []
        for path in paths:
            (folders if path.is_dir() else files).append(path)
        nowhere = [path for path in files if not path.exists()]
    except OSError as error:
        raise _not_read(error) from error
    if nowhere:
        # It may have been the folder of a class.
        raise ValueError(
            "What is beside the folders of classes must be there. Received: links to nothing, "
            f"{enumerated(list(map(shown, nowhere)))}. Mend or remove them."
        )
    return folders, files


def _is_passed_over(name):
    return name.startswith(".") or name.casefold() in _LEFT


def _files(folder, follow_links):
    """Yields the paths of all files in a folder of one class, in Keras' order, as str."""

    def fail(error):
        raise _not_read(error) from error

    found, seen = [], {os.path.realpath(folder)}
    for root, folders, names in os.walk(folder, onerror=fail, followlinks=follow_links):
        # A link to a folder above would be walked for ever.
        real = {name: os.path.realpath(os.path.join(root, name)) for name in folders}
        folders[:] = [
            name for name in folders if not _is_passed_over(name) and real[name] not in seen
        ]
        seen.update(real[name] for name in folders)
        names = (name for name in names if not _is_passed_over(name))
        found.append((root, sorted(x for x in names if not x.lower().endswith(_TEXTS))))
    for root, names in sorted(found):
        yield from (os.path.join(root, name) for name in names)


def _not_read(error):
    return type(error)(
        error.errno,
        "`directory` must be a folder that can be read, and so must be those in it. Received: "
        f"{error.filename!r} ({error.strerror}). Give yourself the right to read it, or move it "
        "away.",
    )


def _checked_classes(directory, known, wanted):
    if wanted is not None:
        absent = [name for name in wanted if name not in known]
        if absent or len(set(wanted)) < len(wanted):
            raise ValueError(
                "`class_names` must be names of classes that are there, each once. "
                f"Received: class_names={wanted}, for {enumerated(list(map(repr, known)))}"
            )
        known = wanted
    if len(known) < 2:
        raise ValueError(
            "`directory` must have two classes at least. Received: "
            f"directory={shown(directory)}, of the one class {enumerated(list(map(repr, known)))}. "
            "Give the folder that has the folders of all classes."
        )
    check_names(directory, known, wanted is not None)
    return known


def check_names(directory, known, are_given):
    """Raises ValueError where the names of classes are no lines, or differ in too little.

    Args:
        directory: path, for the message.
        known: list of str.
        are_given: bool, whether the user named them, and so may name two that are nearly the same.
    """
    for name in known:
        if len(name.splitlines()) != 1 or _is_no_text(name):
            raise ValueError(
                "The name of a class must be of one line, that UTF-8 can hold. "
                f"Received: {name!r} in {shown(directory)}. Rename it."
            )
    same = collections.defaultdict(list)
    for name in known:
        same[unicodedata.normalize("NFC", name).casefold().strip()].append(repr(name))
    twice = [name for names in same.values() if len(names) > 1 for name in names]
    if twice and not are_given:
        raise ValueError(
            "The names of classes must differ in more than capitals, spaces at the ends and how "
            f"accents are written. Received: {enumerated(twice)} in {shown(directory)}. Put them "
            "together, or name all classes in `class_names` if they are different ones."
        )


def _is_no_text(name):
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _of_csv(path):
    rows = _rows(path)
    columns = _columns(path, rows)
    images, absent, labels = {}, [], {}
    for line, row in rows:
        if len(row) <= max(columns.values()):
            raise _bad_row(path, line, f"{row}", "must have the columns of the first")
        values = {key: row[column].strip() for key, column in columns.items()}
        file, label, split = (values.get(key) for key in ("file", "label", "split"))
        if not file or not label or "\0" in file:
            raise _bad_row(path, line, f"{row}", "must have a file and a label")
        if split is not None and split.casefold() not in SPLITS:
            rule = f"must have one of {', '.join(SPLITS)} as its split"
            raise _bad_row(path, line, repr(split), rule)
        split = split and SPLITS[split.casefold()]
        place = _place(path.parent, file)
        if place is None:
            absent.append(f"{file!r} (line {line})")
            continue
        name = _name(path.parent, place)
        before = labels.setdefault(name, (label, split, line))
        if before[:2] != (label, split):
            raise _bad_row(
                path,
                line,
                f"{file!r} of {label!r}" + (f" in {split}" if split else ""),
                f"must not contradict line {before[2]}, where it is of {before[0]!r}"
                + (f" in {before[1]}" if before[1] else ""),
            )
        images[name] = Image(place, name, label, split)
    if absent:
        raise ValueError(
            f"A CSV must name files that are there, by their path from its folder on or by a whole "
            f"path. Received: {shown(path)} with {len(absent)} that are not: {enumerated(absent)}"
        )
    if not images:
        raise ValueError(f"A CSV must have a file and a label. Received: {shown(path)}, of no rows")
    images = sorted(images.values(), key=lambda image: image.name)
    known = sorted({image.label for image in images})
    splits = {image.split for image in images}
    if splits != {None}:
        if "train" not in splits:
            raise ValueError(
                "Among the splits of a CSV there must be train. Received: "
                f"{shown(path)} with {sorted(splits)}"
            )
        trained = {image.label for image in images if image.split == "train"}
        others = [repr(label) for label in known if label not in trained]
        if others:
            raise ValueError(
                "The splits must have the classes of train. Received: "
                f"{shown(path)} with {enumerated(others)}, of which train has none"
            )
    return images, known


def _rows(path):
    """Returns the rows of a CSV that hold something, a list of pairs (line, list of str)."""
    content = path.read_bytes()
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"A CSV must be written in UTF-8. Received: {shown(path)}, which is not on line "
            f"{line} ({error.reason}). Save it as CSV UTF-8."
        ) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        return [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(
            "A CSV must be written as spreadsheets write it. Received: "
            f"{shown(path)} with line {reader.line_num} ({error})"
        ) from error


def _columns(path, rows):
    """Returns in which column files, labels and splits are, by "file", "label" and "split".

    A first row that names them is taken out of `rows`; without one there are two columns.
    """
    if not rows:
        return {"file": 0, "label": 1}
    head = [cell.strip().casefold() for cell in rows[0][1]]
    columns = {
        key: next(column for column, cell in enumerate(head) if cell in names)
        for key, names in (("file", _FILES), ("label", _LABELS), ("split", _SPLIT))
        if any(cell in names for cell in head)
    }
    if {"file", "label"} <= {*columns}:
        del rows[0]
        return columns
    if len(head) != 2:
        raise ValueError(
            "A CSV must have two columns, file and label, or a first row that names them "
            f"({', '.join(_FILES)}; {', '.join(_LABELS)}; and for splits {', '.join(_SPLIT)}). "
            f"Received: {shown(path)} with the first row {rows[0][1]}"
        )
    return {"file": 0, "label": 1}


def _place(folder, file):
    """Returns where a file of a CSV is, or None; Windows' paths are tried too."""
    for text in (file, file.replace("\\", "/")):
        path = os.path.normpath(folder / text)
        if os.path.lexists(path):
            return path
    return None


def _name(folder, place):
    """Returns the name of a file of a CSV: from the CSV's folder on where it is on that drive."""
    try:
        return pathlib.Path(os.path.relpath(place, folder)).as_posix()
    except ValueError:  # another drive, on Windows
        return pathlib.Path(place).as_posix()


def _bad_row(path, line, received, rule):
    return ValueError(f"A row of a CSV {rule}. Received: {received} in {shown(path)}, line {line}")
