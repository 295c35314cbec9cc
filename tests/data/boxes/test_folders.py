"""Folders of each form, and what is wrong in them."""

import itertools

import numpy as np
import pytest
from PIL import Image

from keras_fmm import data, detection
from tests.data.boxes import made

pytestmark = pytest.mark.filterwarnings("error")
EXAMPLES = {
    "a": [("dog", 1, 2, 30, 20), ("cat", 10.5, 0, 20, 40)],
    "b": [],
    "c": [("cat", 0, 0, 60, 40)],
}
EXPECTED = {f"{name}.png": [(x[0], *map(float, x[1:])) for x in EXAMPLES[name]] for name in "abc"}
ALL = {"test_fraction": 0, "validation_fraction": 0}


def error_of(folder, error=ValueError, **given):
    with pytest.raises(error) as info:
        data.load_boxes(folder, **given)
    return str(info.value)


def one_xml(folder, text, name="a.png", **image):
    made.image(folder / "JPEGImages" / name, **image)
    made.write(folder / "Annotations" / "a.xml", text)
    return folder


def one_json(folder, text):
    for name in "ab":
        made.image(folder / f"{name}.png")
    made.write(folder / "boxes.json", text)
    return folder


def one_text(folder, text, yaml=None):
    made.image(folder / "images" / "a.png")
    made.write(folder / "labels" / "a.txt", text)
    if yaml is None:
        made.write(folder / "classes.txt", "cat\ndog\n\n")
    else:
        made.write(folder / "data.yaml", yaml)
    return folder


def test_voc(tmp_path):
    dataset = data.load_boxes(made.voc(tmp_path / "pets", EXAMPLES), **ALL)
    assert (dataset.name, dataset.class_names) == ("pets", ("cat", "dog"))
    assert made.boxes_of(dataset) == EXPECTED
    assert dataset.input_shape == (40, 60, 3)
    assert dataset.sizes == {"train": 3, "validation": 0, "test": 0}
    images, annotations = dataset.arrays("train", (20, 120))
    assert images.shape == (3, 20, 120, 3)
    assert (images == 128).all()
    assert annotations[0]["boxes"][0].tolist() == [2, 1, 60, 10]
    # As measures and detectors take them.
    detection.targets(annotations, classes=2)
    grey = data.load_boxes(tmp_path / "pets", "voc", (8, 8), color_mode="grayscale", **ALL)
    assert grey.batches("train", 3)[0][0].shape == (3, 8, 8, 1)


def test_a_folder_without_images_of_one_size(tmp_path):
    made.voc(tmp_path, EXAMPLES)
    made.image(tmp_path / "JPEGImages" / "c.png", (80, 60))
    made.write(tmp_path / "Annotations" / "c.xml", made.xml("c", [("cat", 0, 0, 6, 8)], None))
    dataset = data.load_boxes(tmp_path, **ALL)
    assert dataset.input_shape == (None, None, 3)
    with pytest.raises(ValueError, match="differ in size"):
        dataset.batches("train")
    targets = dataset.batches("train", image_size=(40, 40))[0][1]
    np.testing.assert_allclose(targets[2, 0], [0, 0, 4, 4, 0])


@pytest.mark.parametrize("place", ["ImageSets/Main/", ""])
@pytest.mark.parametrize("validation", ["val", "valid"])
def test_voc_lists(place, validation, tmp_path):
    made.voc(tmp_path, {f"{n}": EXAMPLES["c"] for n in range(6)})
    made.write(tmp_path / f"{place}train.txt", "0\n1.png\n3.xml\n")
    made.write(tmp_path / f"{place}{validation}.txt", "4\n\n")
    made.write(tmp_path / f"{place}test.txt", "5\n")
    made.write(tmp_path / f"{place}cat_train.txt", "0 -1\n")
    dataset = data.load_boxes(tmp_path)
    names = {split: [*made.boxes_of(dataset, split)] for split in dataset.sizes}
    assert names == {
        "train": ["0.png", "1.png", "3.png"],
        "validation": ["4.png"],
        "test": ["5.png"],
    }


def test_what_is_not_divided_is_divided_by_name(tmp_path):
    made.voc(tmp_path, {f"{n}": EXAMPLES["c"] for n in range(30)})
    dataset = data.load_boxes(tmp_path, validation_fraction=0.2, test_fraction=0.3)
    assert sum(dataset.sizes.values()) == 30
    assert min(dataset.sizes.values()) >= 2
    test = dataset.file_paths("test")
    made.voc(tmp_path, {"more": EXAMPLES["a"]})
    more = data.load_boxes(tmp_path, test_fraction=0.3, seed=5)
    assert [path for path in more.file_paths("test") if "more" not in path] == test
    made.write(tmp_path / "train.txt", "\n".join(f"{n}" for n in range(20)))
    made.write(tmp_path / "val.txt", "\n".join(f"{n}" for n in range(20, 30)))
    assert data.load_boxes(tmp_path, test_fraction=0).sizes == {
        "train": 20,
        "validation": 10,
        "test": 0,
    }


def test_voc_beside_and_in_folders_of_splits(tmp_path):
    for split in ("train", "valid", "test"):
        made.image(tmp_path / split / "a.png")
        made.write(tmp_path / split / "a.xml", made.xml("a.png", EXAMPLES["a"]))
    dataset = data.load_boxes(tmp_path)
    assert dataset.sizes == {"train": 1, "validation": 1, "test": 1}
    assert made.boxes_of(dataset, "validation") == {"a.png": EXPECTED["a.png"]}


def test_difficult_is_a_crowd(tmp_path):
    more = "<difficult>1</difficult>"
    one_xml(tmp_path, made.xml("a", [("cat", 1, 1, 5, 5)], more=more))
    dataset = data.load_boxes(tmp_path, **ALL)
    assert dataset.annotations("train")[0]["crowd"].tolist() == [True]
    assert dataset.batches("train", 1)[0][1][0, 0, 4] == -1


def test_boxes_that_are_clipped_or_left_out(tmp_path):
    objects = [("cat", -5, 3, 10, 99), ("cat", 4, 4, 4, 9), ("dog", 60, 5, 70, 5)]
    one_xml(tmp_path, made.xml("a.png", objects))
    with pytest.warns(UserWarning, match=r"a\.xml' \(line 5: the box 4, 4, 4, 9 has no area"):
        dataset = data.load_boxes(tmp_path, **ALL)
    assert made.boxes_of(dataset) == {"a.png": [("cat", 0, 3, 10, 40)]}
    assert len(dataset.left_out) == 2


def test_images_are_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    # The file has 60x40 pixels, and is 40x60 as upright.
    (tmp_path / "JPEGImages").mkdir()
    Image.new("L", (60, 40)).save(tmp_path / "JPEGImages" / "a.jpg", exif=exif)
    text = made.xml("a.jpg", [("cat", 0, 0, 30, 60)], (60, 40))
    made.write(tmp_path / "Annotations" / "a.xml", text)
    dataset = data.load_boxes(tmp_path, **ALL)
    assert dataset.image_sizes("train").tolist() == [[60, 40]]
    made.write(tmp_path / "Annotations" / "a.xml", made.xml("a.jpg", [("cat", 0, 0, 30, 40)]))
    assert "it is for 60x40 pixels, and 'JPEGImages/a.jpg' has 40x60" in error_of(tmp_path)


ENTITIES = (
    '<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>\n'
    "<annotation><filename>&b;</filename></annotation>"
)
CAT = [("cat", 1, 1, 5, 5)]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (made.xml("z.png", CAT), "a.xml' (its image 'z.png' is not there)"),
        (made.xml("z", CAT), "a.xml' (its image 'z' is not there)"),
        (made.xml("a.png", CAT, (41, 60)), "(it is for 60x41 pixels, and 'JPEGImages/a.png' has"),
        (made.xml("a.png", [("cat", 70, 1, 80, 5)]), "(line 4: the box 70, 1, 80, 5 is outside of"),
        (made.xml("a.png", [("cat", 9, 1, 5, 5)]), "the box 9, 1, 5, 5 ends before it begins"),
        (
            made.xml("a.png", [("cat", 1, 1, "x", 5)]),
            "(line 4: <xmax> must be a number, and is 'x'",
        ),
        (made.xml("a.png", [("cat", 1, 1, "inf", 5)]), "<xmax> must be a number, and is 'inf'"),
        (made.xml("a.png", [("", 1, 1, 2, 5)]), "(line 4: an object must have a <name>)"),
        (made.xml("a.png", [*CAT, ("Cat", 1, 1, 5, 5)]), "differ in more than capitals"),
        ("<annotation><object><name>a</name></object></annotation>", "must have a <bndbox>"),
        ("<annotation>\n<object>\n</annotation>", "a.xml' (line 3, column 3: it is no whole XML"),
        ("", "line 1, column 1: it is no whole XML"),
        ("<html></html>", "line 1: it must be <annotation>, and is <html>"),
        (ENTITIES, "a.xml' (line 1: it has a document type (<!DOCTYPE), which is refused)"),
        ('<?xml version="1.0" encoding="x"?><annotation/>', "unknown encoding"),
        (
            made.xml("a.png", []),
            "with 1 images and 0 classes, read as voc. Add boxes, or name cl",
        ),
    ],
)
def test_bad_xml(text, match, tmp_path):
    message = error_of(one_xml(tmp_path, text), format="voc")
    assert match in message
    assert "Received: " in message


def test_bad_folders_of_voc(tmp_path):
    made.voc(tmp_path, EXAMPLES)
    made.write(tmp_path / "Annotations" / "d.xml", made.xml("a.png", CAT))
    assert "d.xml' (it is one of 2 XMLs of 'JPEGImages/a.png')" in error_of(tmp_path)
    (tmp_path / "Annotations" / "d.xml").unlink()
    assert "line 4: the class 'cat' is none of 'dog'" in error_of(tmp_path, class_names=["dog"])
    dataset = data.load_boxes(tmp_path, class_names=["dog", "owl", "cat"], **ALL)
    assert dataset.annotations("train")[0]["labels"].tolist() == [0, 2]
    made.write(tmp_path / "train.txt", "a\nz\n")
    made.write(tmp_path / "val.txt", "a\n")
    message = error_of(tmp_path)
    assert "train.txt' (it names 'z', of which there is no XML)" in message
    assert "('a' is in " in message
    (tmp_path / "train.txt").unlink()
    (tmp_path / "val.txt").unlink()
    made.image(tmp_path / "JPEGImages" / "e.png")
    with pytest.warns(UserWarning, match=r"e\.png' \(it has no XML\)"):
        data.load_boxes(tmp_path)
    made.write(tmp_path / "JPEGImages" / "e.png", "no image")
    made.write(tmp_path / "Annotations" / "e.xml", made.xml("e.png", CAT))
    assert "'JPEGImages/e.png' (cannot identify" in error_of(tmp_path)
    with pytest.warns(UserWarning, match=r"JPEGImages/e\.png' \(cannot identify"):
        dataset = data.load_boxes(tmp_path, skip_unreadable=True, **ALL)
    assert dataset.sizes["train"] == 3
    for name in "abc":
        made.write(tmp_path / "JPEGImages" / f"{name}.png", "no image")
    assert "Save them as PNG or JPEG." in error_of(tmp_path, skip_unreadable=True)


BOXES = [
    (0, 7, [1, 2, 29, 18], {"area": 99.5}),
    (0, 3, [10.5, 0, 9.5, 40], {"iscrowd": 1, "area": 7}),
]


def test_coco(tmp_path):
    dataset = data.load_boxes(one_json(tmp_path, made.coco(BOXES)), **ALL)
    assert dataset.class_names == ("cat", "dog")
    assert made.boxes_of(dataset) == {"a.png": EXPECTED["a.png"], "b.png": []}
    first = dataset.annotations("train")[0]
    assert first["area"].tolist() == [99.5, 7]
    assert first["crowd"].tolist() == [False, True]
    np.testing.assert_allclose(dataset.annotations("train", (20, 30))[0]["area"], [99.5 / 4, 7 / 4])
    again = data.load_boxes(tmp_path / "boxes.json", **ALL)
    assert made.boxes_of(again) == made.boxes_of(dataset)
    # The file says more than boxes; a run whose files change is another.
    assert again.identity["files"] == dataset.identity["files"]
    one_json(tmp_path, made.coco(BOXES[:1]))
    assert data.load_boxes(tmp_path, **ALL).identity["files"] != dataset.identity["files"]


def test_coco_layouts(tmp_path, monkeypatch):
    own = tmp_path / "own"
    for split in ("train", "val"):
        made.image(own / f"{split}2017" / "a.png")
        text = made.coco(BOXES, ["a.png"])
        made.write(own / "annotations" / f"instances_{split}2017.json", text)
        made.write(own / "annotations" / f"captions_{split}2017.json", '{"images": []}')
    dataset = data.load_boxes(own, test_fraction=0)
    assert dataset.sizes == {"train": 1, "validation": 1, "test": 0}
    assert "/val2017/" in dataset.file_paths("validation")[0].replace("\\", "/")
    alone = data.load_boxes(own / "annotations" / "instances_train2017.json", **ALL)
    assert alone.file_paths("train") == dataset.file_paths("train")
    monkeypatch.chdir(own / "annotations")
    assert data.load_boxes("instances_val2017.json", **ALL).sizes["train"] == 1
    other = tmp_path / "other"
    for split in ("train", "valid", "test"):
        made.image(other / split / "a.png")
        text = made.coco(BOXES, ["a.png"])
        made.write(other / split / "_annotations.coco.json", text)
    assert data.load_boxes(other).sizes == {"train": 1, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            made.coco([(5, 3, [0, 0, 2, 2], {})]),
            "(annotation 0: it is of the image 5, which is not",
        ),
        (made.coco([(True, 3, [0, 0, 2, 2], {})]), "it is of the image True, which is not"),
        (made.coco([([1], 3, [0, 0, 2, 2], {})]), "it is of the image [1], which is not"),
        (made.coco([(0, 5, [0, 0, 2, 2], {})]), "(annotation 0: it is of the category 5, which is"),
        (made.coco([(0, [3], [0, 0, 2, 2], {})]), "it is of the category [3], which is none"),
        (made.coco([(0, 3, [60, 0, 2, 2], {})]), "(annotation 0: the box 60, 0, 62, 2 is outside"),
        (made.coco([(0, 3, [5, 0, -2, 2], {})]), "the box 5, 0, 3, 2 ends before it begins"),
        (made.coco([(0, 3, [5, 0, 2], {})]), "numbers as its area and as its bbox"),
        (made.coco([(0, 3, [5, 0, 2, float("nan")], {})]), "as its bbox"),
        (made.coco([(0, 3, [5, 0, 2, 2], {"area": "x"})]), "as its area"),
        (made.coco([(0, 3, [5, 0, 2, 2], {"area": 10**400})]), "(annotation 0: it must have"),
        (made.coco([(0, 3, [5, 0, 2, 10**400], {})]), "(annotation 0: it must have numbers"),
        (made.coco([(0, 3, [5, 0, 2, 2], {"iscrowd": 2})]), "iscrowd 0 or 1, and is 2"),
        (made.coco([*BOXES, (1, 3, [0, 0, 2, 2], {"id": 1})]), "(annotations[2] has the id 1 of"),
        (made.coco([], categories=[(3, "cat"), (3, "dog")]), "(categories[1] has the id 3 of"),
        (made.coco([], categories=[(1, "cat"), (2, "cat")]), "two of its categories have one name"),
        (made.coco([], ("a.png", "a.png")), "'a.png' (it is there 2 times"),
        (made.coco([], ("a.png", "z.png")), "(image 1: 'z.png' is not there)"),
        (made.coco([], categories=[(1, "cat"), (2, "Cat")]), "differ in more than capitals"),
        (
            made.coco([], images=[]),
            "with 0 images and 2 classes, read as coco. Add images, or",
        ),
        (made.coco([], categories=[(1, 5)]), "its name must be a text, and is 5"),
        (made.coco([]).replace('"height": 40', '"height": 44'), "(it is for 60x44 pixels"),
        (
            made.coco([]).replace('"height": 40', f'"height": {10**400}'),
            "(image 0: its height and width must be numbers)",
        ),
        (made.coco([]).replace('"height": 40', '"height": ' + "9" * 5000), "be read (Exceeds the"),
        ('{"images": [],\n "annotations": [1,,]}', "no whole JSON: line 2, column 20"),
        ('{"images": [], "annotations": []}', "has no list of categories"),
        ('{"images": ' + "[" * 10**5, "Received: "),
    ],
)
def test_bad_json(text, match, tmp_path):
    message = error_of(one_json(tmp_path, text))
    assert match in message
    assert "boxes.json" in message or str(tmp_path) in message


@pytest.mark.parametrize("content", [b"", b"[]", made.coco([]).encode("utf-16")])
def test_a_json_that_is_none_is_named(content, tmp_path):
    made.write(tmp_path / "annotations" / "x.json", "").write_bytes(content)
    message = error_of(tmp_path, format="coco")
    assert "x.json'. Add it, or give another `format`" in message


@pytest.mark.parametrize("name", ["../../other/images/a.png", "{}/other/images/a.png"])
def test_an_image_outside_of_the_folder_is_refused(name, tmp_path):
    made.image(tmp_path / "other" / "images" / "a.png")
    name = name.format(tmp_path.as_posix())
    made.write(tmp_path / "own" / "annotations" / "x.json", made.coco([], [name]))
    for given in ("own", "own/annotations/x.json"):
        message = error_of(tmp_path / given)
        assert f"x.json' (image 0: {name!r} is outside of the folder, where all" in message


def test_jsons_that_contradict_each_other(tmp_path):
    for split, names in (("train", "cd"), ("val", "dc")):
        made.image(tmp_path / split / "a.png")
        categories = enumerate(names)
        made.write(tmp_path / f"{split}.json", made.coco([], ["a.png"], categories))
    assert "val.json' (its categories are others than in" in error_of(tmp_path)
    made.write(tmp_path / "train2.json", made.coco([]))
    assert "Of several JSONs each must be of one split" in error_of(tmp_path)


def test_yolo(tmp_path):
    dataset = data.load_boxes(one_text(tmp_path, "1 0.5 0.25 0.5 .5\n\n0 1.0 1 .5 .5\n"), **ALL)
    assert dataset.class_names == ("cat", "dog")
    expected = [("dog", 15, 0, 45, 20), ("cat", 45, 30, 60, 40)]
    assert made.boxes_of(dataset) == {"a.png": expected}
    (tmp_path / "classes.txt").unlink()
    made.image(tmp_path / "images" / "b.png")
    assert "a data.yaml with names, or a classes.txt" in error_of(tmp_path)
    dataset = data.load_boxes(tmp_path, class_names=["x", "y"], **ALL)
    # Without a text it has no boxes.
    assert [len(x["labels"]) for x in dataset.annotations("train")] == [2, 0]
    for blank in ("", "\n \n"):
        made.write(tmp_path / "classes.txt", blank)
        assert "classes.txt' is blank. Add one, or give `class_names`" in error_of(tmp_path)
    assert data.load_boxes(tmp_path, class_names=["x", "y"], **ALL).classes == 2
    made.write(tmp_path / "classes.txt", "cat\n\ndog\n")
    assert "classes.txt', whose line 2 is blank" in error_of(tmp_path)


def test_a_text_beside_an_image_of_its_name_is_no_list(tmp_path):
    made.image(tmp_path / "test.png")
    made.write(tmp_path / "test.txt", "0 .5 .5 .5 .5")
    made.write(tmp_path / "classes.txt", "cat")
    dataset = data.load_boxes(tmp_path, **ALL)
    assert made.boxes_of(dataset) == {"test.png": [("cat", 15, 10, 45, 30)]}


YAMLS = {
    "flow": "names: ['cat', 'dog']\nnc: 2\n",
    "block": "names:\n- cat\n- dog\n",
    "numbers": "path: .\ntrain: images/train\nval: images/val\ntest:\nnames: {0: cat, 1: dog}\n",
    "elsewhere": "train: ../images/train\nval: [images/val]\nnames: [cat, dog]\n",
    "lists": "train: train.txt\nval: val.txt\nnames: [cat, dog]\n",
    "none": None,
}


@pytest.mark.parametrize("yaml", YAMLS)
def test_yolo_layouts(yaml, tmp_path):
    if YAMLS[yaml]:
        pytest.importorskip("yaml")
        made.write(tmp_path / "data.yaml", YAMLS[yaml])
    else:
        made.write(tmp_path / "classes.txt", "cat\ndog")
    for split in ("train", "val"):
        made.image(tmp_path / "images" / split / "a.png")
        made.write(tmp_path / "labels" / split / "a.txt", "0 .5 .5 .5 .5")
        made.write(tmp_path / f"{split}.txt", f"./images/{split}/a.png\n")
    dataset = data.load_boxes(tmp_path, test_fraction=0)
    assert dataset.sizes == {"train": 1, "validation": 1, "test": 0}
    assert made.boxes_of(dataset, "validation") == {"a.png": [("cat", 15, 10, 45, 30)]}


def test_yolo_in_folders_of_splits(tmp_path):
    for split in ("train", "valid", "test"):
        one_text(tmp_path / split, "0 .5 .5 .5 .5")
    made.write(tmp_path / "classes.txt", "cat\ndog\n")
    assert data.load_boxes(tmp_path).sizes == {"train": 1, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("2 .5 .5 .5 .5", "a.txt' (line 1: the class must be an integer from 0 to 1, and is 2)"),
        ("0.5 .5 .5 .5 .5", "the class must be an integer from 0 to 1, and is 0.5"),
        ("\n0 .5 .5 .5", "(line 2: it must have 5 numbers, class, centre and sides, and has 4)"),
        ("0 .5 .5 .5 x", "it must have numbers"),
        ("0 30 20 10 10", "in parts of the image's sides, 0 to 1, and is ['30', '20', '10', '10']"),
        ("0 .5 .5 nan .5", "in parts of the image's sides"),
    ],
)
def test_bad_text(text, match, tmp_path):
    assert match in error_of(one_text(tmp_path, text))


ALIASES = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * ['*' + of])}]\n"
    for of, name in itertools.pairwise("abcdefgh")
)


@pytest.mark.parametrize(
    ("yaml", "match"),
    [
        ("names: [cat, dog", "a YAML of names and folders. Received"),
        ("- cat", "which has no names"),
        ("names: {1: cat, 2: dog}", "must have the numbers from 0 on"),
        ("names: [yes, no]", "Put each in quotes"),
        ("names: [cat, dog]\nnc: 3", "with nc: 3, and 2 names"),
        ("names: [cat, Cat]", "differ in more than capitals"),
        ("names: [cat, dog]\ntrain: nowhere", "with train: 'nowhere'. Correct it"),
        ("names: [cat, dog]\nnc: " + "9" * 5000, "data.yaml', which is none (Exceeds the limit"),
        ("names: [0x" + "f" * 5000 + "]", "data.yaml', which is none (Exceeds the limit"),
        ("names: [2001-13-01]", "data.yaml', which is none (month must be"),
        ("names: [!!timestamp x]", "data.yaml', which is none ("),
        ("names: &a [cat, *a]", "data.yaml', which stands for more than 4,000,000 characters"),
        (ALIASES, "data.yaml', which stands for more than 4,000,000 characters"),
        (
            f"a: &a {50_000 * 'x'}\nnames: [{', '.join(100 * ['*a'])}]",
            "data.yaml', which stands for more than 4,000,000 characters",
        ),
    ],
)
def test_bad_yaml(yaml, match, tmp_path):
    pytest.importorskip("yaml")
    assert match in error_of(one_text(tmp_path, "0 .5 .5 .5 .5", yaml))


def test_classes_that_contradict_each_other(tmp_path):
    pytest.importorskip("yaml")
    one_text(tmp_path, "0 .5 .5 .5 .5", "names: [dog, cat]")
    made.write(tmp_path / "labels" / "classes.txt", "cat\ndog\n")
    message = error_of(tmp_path)
    assert "data.yaml' with dog, cat, and " in message
    assert "classes.txt' with cat, dog. Correct one" in message
    # Blank lines shift no number where data.yaml gives those; what it names once may be an alias.
    made.write(tmp_path / "data.yaml", "of: &us farm\nby: *us\nnames: [dog, cat]")
    made.write(tmp_path / "labels" / "classes.txt", "dog\n\ncat\n")
    assert data.load_boxes(tmp_path, **ALL).class_names == ("dog", "cat")


def test_bad_folders_of_yolo(tmp_path):
    one_text(tmp_path, "0 .5 .5 .5 .5")
    made.write(tmp_path / "labels" / "z.txt", "0 .5 .5 .5 .5")
    assert "z.txt' (there is no image of it)" in error_of(tmp_path)
    (tmp_path / "labels" / "z.txt").unlink()
    made.image(tmp_path / "images" / "a.jpg")
    assert "a.txt' (it is of " in error_of(tmp_path)
    made.write(tmp_path / "train.txt", "images/z.png\nimages/a.png")
    assert "train.txt' ('images/z.png' is not there)" in error_of(tmp_path)


def test_which_form(tmp_path):
    made.voc(tmp_path, EXAMPLES)
    assert "which looks like none" in error_of(tmp_path / "JPEGImages")
    made.write(tmp_path / "more.json", made.coco([]))
    assert "which looks like voc and coco" in error_of(tmp_path)
    assert data.load_boxes(tmp_path, format="voc", **ALL).sizes["train"] == 3
    assert "must be one of 'voc', 'coco', 'yolo'" in error_of(tmp_path, format="csv")
    assert str(tmp_path / "no") in error_of(tmp_path / "no", FileNotFoundError)
    assert "`image_size` is of folders" in error_of("digits_on_canvas", image_size=(8, 8))
    assert "each once" in error_of(tmp_path, format="voc", class_names=["a", "a"])
