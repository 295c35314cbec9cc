"""The page of a run: its numbers, that names are only shown, and what it does without."""

import html.parser
import math
import re

import keras
import numpy as np
import pytest

pytest.importorskip("matplotlib")

from keras_fmm.plots import save_report

NAMES = ["cat", "dog", "owl"]


def told(channels=3):
    """Returns a model that says of an image how its channels share its brightness."""
    inputs = keras.Input((None, None, channels))
    means = keras.layers.GlobalAveragePooling2D(dtype="float32")(inputs)
    total = keras.ops.sum(means, axis=-1, keepdims=True)
    return keras.Model(inputs, means / total)


def image(*shares, side=6):
    return np.broadcast_to(np.array(shares, "float32") * 100, (side, side, len(shares)))


class Page(html.parser.HTMLParser):
    """The text of each cell, picture and heading; raises where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.images, self.tags = [], [], [], set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attributes))
        if tag in ("td", "th", "figcaption", "h1"):
            self.cells.append("")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th", "figcaption", "h1"} & set(self.open):
            self.cells[-1] += data


def wilson(hits, n, z=1.959964):
    middle = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return f"{hits / n:.1%} ({middle - half:.1%} to {middle + half:.1%}; {hits} of {n})"


# Of three cats two are found; the dog is taken for an owl, more surely than the cat is for a dog.
BATCHES = [
    (np.stack([image(0.8, 0.1, 0.1), image(0.3, 0.6, 0.1)]), np.array([0, 0])),
    (np.stack([image(0.6, 0.2, 0.2), image(0.1, 0.1, 0.8)]), np.array([0, 1])),
    (np.stack([image(0.2, 0.1, 0.7)]), np.array([2])),
]


def written(tmp_path, **changes):
    given = {"model": told(), "batches": BATCHES, "class_names": NAMES, **changes}
    path = save_report(tmp_path / "report.html", verbose=0, **given)
    return path.read_text(encoding="utf-8")


def test_it_has_the_numbers_and_the_worst_first(tmp_path):
    history = {"loss": [2.0, 1.0], "val_accuracy": [0.1, 0.2]}
    page = Page(written(tmp_path, history=history, settings={"seed": 7}))
    cells = page.cells
    assert cells[:3] == ["Results", "Right", wilson(3, 5)]
    # The hardest class first: images, found, right, taken for.
    dog = cells.index("Most often taken for") + 1
    assert cells[dog : dog + 5] == ["dog", "1", wilson(0, 1), wilson(0, 1), "owl (1)"]
    assert cells[dog + 5 : dog + 10] == ["cat", "3", wilson(2, 3), wilson(2, 2), "dog (1)"]
    assert cells[dog + 10 : dog + 15] == ["owl", "1", wilson(1, 1), wilson(1, 2), ""]
    captions = [cell for cell in cells if cell.startswith("image ")]
    assert captions == [
        "image 3is dog (10.0%), was taken for owl (80.0%)",
        "image 1is cat (30.0%), was taken for dog (60.0%)",
    ]
    assert cells[-2:] == ["seed", "7"]
    assert all(picture["alt"] for picture in page.images)
    assert all(picture["src"].startswith("data:image/") for picture in page.images)
    assert "svg" in page.tags
    assert "script" not in page.tags


def test_the_picture_of_confusions_counts(tmp_path):
    titles = re.findall(r"<g><title>(.*?)</title>", written(tmp_path))
    assert sorted(titles) == [
        "cat taken for cat: 2 of 3",
        "cat taken for dog: 1 of 3",
        "dog taken for owl: 1 of 1",
        "owl taken for owl: 1 of 1",
    ]


def test_without_images_none_is_there(tmp_path):
    with_images, without = written(tmp_path), written(tmp_path, images=False)
    assert "This page contains photographs" in with_images
    assert with_images.count("data:image") >= 2
    assert "data:image" not in without
    assert "photographs:" not in without
    assert "The images are left out" in without
    assert "was taken for" in without


def test_names_are_shown_and_do_nothing(tmp_path):
    evil = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>\x1b[2J\udc80"
    text = written(
        tmp_path,
        class_names=[evil, "dog", evil + "2"],
        title=evil,
        names=[f"{evil}{i}.jpg" for i in range(5)],
        settings={evil: evil},
        history={"loss": [1.0], evil: [1.0]},
    )
    page = Page(text)
    assert "script" not in page.tags
    assert not any("onerror" in picture for picture in page.images)
    assert "\x1b" not in text
    assert page.cells[0] == evil.replace("\x1b", "\\x1b").replace("\udc80", "\\udc80")
    assert any(cell.startswith("<script>") and ".jpgis" in cell for cell in page.cells)


def test_images_that_come_one_by_one_in_many_sizes(tmp_path):
    sides = {3: 70, 1: 5}
    stream = (
        (image(*images[i, 0, 0] / 100, side=sides.get(i, 9))[None], labels[i : i + 1])
        for images, labels in [[np.concatenate(x) for x in zip(*BATCHES, strict=True)]]
        for i in range(5)
    )
    page = Page(written(tmp_path, batches=stream))
    assert page.cells[2] == wilson(3, 5)
    kinds = [picture["src"].split(";")[0] for picture in page.images]
    # Photographs are JPEG; what is smaller keeps its pixels.
    assert {"data:image/jpeg", "data:image/png"} == set(kinds)


def test_a_model_without_a_feature_map_has_no_grad_cam(tmp_path):
    inputs = keras.Input((6, 6, 3))
    flat = keras.layers.Flatten()(inputs)
    outputs = keras.layers.Dense(3, "softmax", kernel_initializer="zeros")(flat)
    text = written(tmp_path, model=keras.Model(inputs, outputs))
    assert "There is no Grad-CAM of this model" in text
    assert text.count("data:image") == 2
    subclassed = type("Own", (keras.Model,), {"call": lambda self, x: keras.ops.mean(x, (1, 2))})
    ones = [(images / 100, labels) for images, labels in BATCHES]
    text = written(tmp_path, model=subclassed(), batches=ones)
    assert "There is no Grad-CAM of this model" in text
    assert text.count("data:image") == 2


def test_grey_images_two_classes_and_none_wrong(tmp_path):
    inputs = keras.Input((4, 4, 1))
    bright = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Concatenate()([1 - bright, bright]))
    images = np.stack([np.full((4, 4, 1), value, "uint8") for value in (0, 255, 204)])
    right = written(tmp_path, model=model, batches=[(images, [0, 1, 1])], class_names=["a", "b"])
    assert "There are none" in right
    assert "None is listed" in right
    text = written(tmp_path, model=model, batches=[(images, [0, 1, 0])], class_names=["a", "b"])
    assert "is <b>a</b> (20.0%), was taken for <b>b</b> (80.0%)" in text
    assert Page(text).cells[2] == wilson(2, 3)


@pytest.mark.slow_on_tensorflow
def test_a_thousand_classes_make_a_page_of_some_size(tmp_path):
    count = 1000
    rng = np.random.default_rng(0)
    inputs = keras.Input((count,))
    model = keras.Model(inputs, keras.layers.Softmax()(inputs))
    names = [f"class {i}" for i in range(count)]
    batches = [
        (rng.normal(size=(500, count)).astype("float32"), rng.integers(count, size=500))
        for _ in range(4)
    ]
    text = written(tmp_path, model=model, batches=batches, class_names=names, images=False)
    page = Page(text)
    assert len(text) < 500_000
    assert "Of the 1000 classes the 30 with the most mistakes" in text
    assert len([cell for cell in page.cells if "was taken for" in cell]) == 24
    assert "Among the first five" in page.cells


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ["a.jpg"]}, "Received: 1 names for 5 images"),
        ({"class_names": ["cat"]}, "must be two or more"),
        ({"batches": [(BATCHES[0][0], np.array([0, 3]))]}, "Labels must be of the 3 classes"),
        ({"class_names": [*NAMES, "bat"]}, "a probability for each of the 4 classes"),
        ({"batches": []}, "must give an image. Received: none"),
        ({"batches": [(BATCHES[0][0], np.eye(3)[:2])]}, "an integer label for each image"),
        ({"batches": [(BATCHES[0][0] * np.nan, np.array([0, 0]))]}, "a probability for each"),
    ],
)
def test_what_it_refuses_leaves_the_page_of_before(tmp_path, changes, message):
    (tmp_path / "report.html").write_text("before")
    with pytest.raises(ValueError, match=message):
        written(tmp_path, **changes)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "before"
