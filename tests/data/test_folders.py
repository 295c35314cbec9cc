"""People's own images: folders of classes, of splits, CSVs; what is odd is read or named."""

import gc
import os
import pathlib
import struct
import subprocess
import sys
import weakref
import zlib

import keras
import numpy as np
import pytest
from PIL import Image

from keras_fmm import data
from keras_fmm.data import image_source, listing

SIZE = (8, 8)


def photograph(path, value=None, size=(12, 10)):
    """Writes an image file; without a value one of noise that follows from its class and name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = list(os.fsencode(f"{path.parent.name}/{path.name}"))
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3))
    picture = noise if value is None else np.full_like(noise, value)
    Image.fromarray(picture.astype("uint8")).save(path, format="PNG")
    return path


def folder(top, classes=("cat", "dog"), count=6):
    for name in classes:
        for number in range(count):
            photograph(top / name / f"{number}.png")
    return top


def placed(dataset, top):
    """Returns by split which files are in it, a dict of sets."""
    return {
        split: {
            pathlib.Path(path).relative_to(top).as_posix() for path in dataset.file_paths(split)
        }
        for split in dataset.sizes
    }


def test_what_is_odd_is_read_as_load_image_reads_it(tmp_path):
    """Training and use must see the same pixels, whatever kind of file they come from."""
    photograph(tmp_path / "a" / "plain.png")
    photograph(tmp_path / "a" / "deep" / "er" / "with space, 'quote' \"two\"\nline \U0001f408.jpg")
    grey = np.arange(120).reshape(10, 12)
    Image.fromarray((grey * 257).astype("uint16")).save(tmp_path / "a" / "sixteen.png")
    Image.fromarray(grey.astype("uint8")).save(tmp_path / "a" / "no ending", format="PNG")
    colour = np.stack([grey, grey[::-1], grey * 2], -1).astype("uint8")
    picture = Image.fromarray(colour)
    exif = Image.Exif()
    exif[0x0112] = 6
    os.makedirs(tmp_path / "b")
    picture.resize((300, 200)).save(tmp_path / "b" / "TURNED.JPG", exif=exif)
    picture.convert("CMYK").save(tmp_path / "b" / "ink.tif")
    picture.quantize(9).save(tmp_path / "b" / "palette.png", transparency=2)
    picture.quantize(9).save(tmp_path / "b" / "still.gif")
    photograph(tmp_path / "b" / os.fsdecode(b"latin-\xe9.png"))
    hidden = ("a/._plain.png", "a/.DS_Store", "b/Thumbs.db", "__MACOSX/a/plain.png", "a/a.txt")
    for name in (*hidden, "notes.md", ".git/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    for fit in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", None):
        how = {fit: True} if fit else {}
        dataset = data.load_folder(tmp_path, (6, 9), 0, 0, **how)
        images, labels = dataset.arrays("train")
        paths = dataset.file_paths("train")
        assert len(paths) == 9
        for path, image, label in zip(paths, images, labels, strict=True):
            np.testing.assert_array_equal(image, data.load_image(path, (6, 9), **how))
            assert dataset.class_names[label] == pathlib.Path(path).relative_to(tmp_path).parts[0]
    grey = data.load_folder(tmp_path, SIZE, 0, 0, color_mode="grayscale")
    assert grey.arrays("train")[0].shape == (9, 8, 8, 1)
    # Upright: of a photograph stored 300 wide and 200 high.
    ragged = data.load_folder(tmp_path, None, 0, 0)
    assert ragged.input_shape == (None, None, 3)
    sizes = {images.shape[1:3] for images, _ in ragged.chunks("train")}
    assert sizes == {(10, 12), (300, 200)}
    with pytest.raises(ValueError, match="differ in size.*Give a size to resize them to"):
        ragged.arrays("train")


def test_classes_labels_and_order_are_keras_s(tmp_path):
    tf = pytest.importorskip("tensorflow")
    folder(tmp_path, ("b", "a", "10", "9"), 3)
    photograph(tmp_path / "b" / "deep" / "a.png")
    dataset = data.load_folder(tmp_path, None, 0, 0)
    expected = keras.utils.image_dataset_from_directory(
        tmp_path, shuffle=False, batch_size=None, image_size=(10, 12), verbose=False
    )
    assert list(dataset.class_names) == expected.class_names
    assert dataset.file_paths("train") == expected.file_paths
    images, labels = dataset.arrays("train")
    found = list(expected.as_numpy_iterator())
    np.testing.assert_array_equal(images, [image for image, _ in found])
    np.testing.assert_array_equal(labels, [label for _, label in found])
    chosen = data.load_folder(tmp_path, None, 0, 0, class_names=["b", "10"])
    named = keras.utils.image_dataset_from_directory(
        tmp_path, class_names=["b", "10"], shuffle=False, image_size=(10, 12), verbose=False
    )
    assert chosen.file_paths("train") == named.file_paths
    np.testing.assert_array_equal(
        chosen.arrays("train")[1], np.concatenate([labels for _, labels in named])
    )
    # How images get another ratio of sides.
    path = photograph(tmp_path / "wide.png", size=(40, 21))
    stored = np.asarray(Image.open(path), "float32")
    np.testing.assert_allclose(
        data.load_image(path, (9, 12), pad_to_aspect_ratio=True),
        tf.image.resize_with_pad(stored, 9, 12, antialias=True),
        atol=0.01,
    )
    window = keras.preprocessing.image.smart_resize(stored, (21, 28))  # 28 of the 40 columns
    np.testing.assert_allclose(
        data.load_image(path, (9, 12), crop_to_aspect_ratio=True),
        tf.image.resize(window, (9, 12), antialias=True),
        atol=0.01,
    )


@pytest.mark.slow_on_tensorflow
def test_files_that_are_added_move_no_other(tmp_path):
    folder(tmp_path, ("a", "b", "c"), 60)
    first = data.load_folder(tmp_path, SIZE)
    before = placed(first, tmp_path)
    # The parts are disjoint, cover all, and have of each class about what they shall.
    assert sum(map(len, before.values())) == len(set().union(*before.values())) == 180
    for split, (low, high) in {"test": (5, 20), "validation": (1, 12)}.items():
        counts = np.bincount(first.arrays(split)[1], minlength=3)
        assert low <= counts.min()
        assert counts.max() <= high
    for name in ("a", "b", "c"):
        for number in range(100):
            photograph(tmp_path / name / f"new {number}.png")
    after = placed(data.load_folder(tmp_path, SIZE), tmp_path)
    assert all(before[split] <= after[split] for split in before)
    assert sum(map(len, after.values())) == 480
    other = placed(data.load_folder(tmp_path, SIZE, seed=1), tmp_path)
    assert other["test"] == after["test"]
    assert other["validation"] != after["validation"]


def test_every_class_is_in_every_split_where_it_has_three_images(tmp_path):
    folder(tmp_path, [f"class {number}" for number in range(12)], 3)
    folder(tmp_path, ["single"], 1)
    dataset = data.load_folder(tmp_path, SIZE)
    for split in dataset.sizes:
        counts = np.bincount(dataset.arrays(split)[1], minlength=13)
        assert counts[12] == (split == "train")
        assert counts[:12].min() >= 1
    assert data.load_folder(tmp_path, SIZE, 0, 0).sizes["train"] == 37


def test_folders_of_splits(tmp_path):
    for split, count in (("Train", 5), ("val", 2), ("testing", 3)):
        folder(tmp_path / split, ("cat", "dog"), count)
    for top in ("Train", "testing"):
        photograph(tmp_path / top / "emu" / "e.png")
    dataset = data.load_folder(tmp_path, SIZE)
    assert dataset.sizes == {"train": 11, "validation": 4, "test": 7}
    assert dataset.class_names == ("cat", "dog", "emu")
    assert {path.split("/")[0] for path in placed(dataset, tmp_path)["test"]} == {"testing"}
    (tmp_path / "val").rename(tmp_path / ".val")
    (tmp_path / "testing").rename(tmp_path / ".testing")
    alone = placed(data.load_folder(tmp_path, SIZE), tmp_path)
    assert all(alone.values())
    assert sum(map(len, alone.values())) == 11
    photograph(tmp_path / "test" / "fox" / "f.png")
    photograph(tmp_path / "test" / "cat" / "f.png")
    with pytest.raises(ValueError, match="splits must have the classes of train.*test/fox'"):
        data.load_folder(tmp_path)


def test_classes_called_as_splits_are(tmp_path):
    folder(tmp_path, ("train", "bus", "test"), 3)
    assert data.load_folder(tmp_path, SIZE).class_names == ("bus", "test", "train")
    folder(tmp_path / "two", ("train", "test"), 3)
    with pytest.raises(ValueError, match="a folder for each class.*`class_names` if these are"):
        data.load_folder(tmp_path / "two")
    two = data.load_folder(tmp_path / "two", SIZE, class_names=["train", "test"])
    assert two.class_names == ("train", "test")


CSV = {
    "comma.csv": "file,label\na/1.png,cat\nb/2.png,dog\nb/3.png,dog\n",
    "no head.csv": "a/1.png,cat\nb/2.png,dog\n\nb/3.png,dog\n",
    "bom.CSV": "\ufefffile;label\r\na\\1.png; cat\r\nb\\2.png;dog \r\n.\\b\\3.png;dog\r\n",
    "tab.csv": "id\tClass\tFilename\n1\tcat\ta/1.png\n2\tdog\tb/2.png\n3\tdog\tb/3.png\n",
    "up.csv": "../{here}/a/1.png,cat\n{whole}/b/2.png,dog\nb/../b/3.png,dog\nb/3.png,dog\n",
}


@pytest.mark.parametrize("name", CSV)
def test_csv(tmp_path, name):
    for path in ("a/1.png", "b/2.png", "b/3.png"):
        photograph(tmp_path / path)
    text = CSV[name].format(here=tmp_path.name, whole=tmp_path)
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    dataset = data.load_folder(tmp_path / name, SIZE, 0, 0)
    assert (dataset.name, dataset.class_names) == (name[:-4], ("cat", "dog"))
    images, labels = dataset.arrays("train")
    assert labels.tolist() == [0, 1, 1]
    for image, path in zip(images, ("a/1.png", "b/2.png", "b/3.png"), strict=True):
        np.testing.assert_array_equal(image, data.load_image(tmp_path / path, SIZE))


def test_csv_of_splits(tmp_path):
    rows = ["image,class,split"]
    for number in range(8):
        photograph(tmp_path / f"{number}.png")
        split = ("train", "Training", "valid", "test")[number % 4]
        rows.append(f"{number}.png,{'ab'[number // 4]},{split}")
    (tmp_path / "x.csv").write_text("\n".join(rows))
    dataset = data.load_folder(tmp_path / "x.csv", SIZE)
    assert placed(dataset, tmp_path)["validation"] == {"2.png", "6.png"}
    assert dataset.sizes == {"train": 4, "validation": 2, "test": 2}


BAD_CSV = {
    "": "`directory`|A CSV must have a file and a label",
    "file,label\n": "A CSV must have a file and a label.*of no rows",
    "a/1.png,cat\na/1.png,dog\n": "must not contradict line 1.*'a/1.png' of 'dog'.*line 2",
    "a/1.png,cat\n./a/1.png,dog\n": "must not contradict line 1",
    "a/1.png,cat\nno.png,dog\nC:\\x\\2.jpg,dog\n": "2 that are not: 'no.png' .line 2., 'C:",
    "a/1.png,cat\nb/2.png,\n": "must have a file and a label.*line 2",
    "a/1.png,cat\nb/2.png\n": "must have the columns of the first.*line 2",
    "img,species,x\na/1.png,cat,3\n": "two columns, file and label, or a first row that names",
    "img,species\na/1.png,cat\nb/2.png,dog": "1 that are not: 'img' .line 1.",
    "a/1.png,cat\nb/2.png,Cat\n": "differ in more than capitals.*'Cat', 'cat'",
    "a/1.png,cat\nb/2.png,cat\n": "two classes at least.*'cat'",
    "file,label,split\na/1.png,cat,train\nb/2.png,dog,dev\n": "must have one of train, .*'dev'",
    "file,label,split\na/1.png,cat,val\nb/2.png,dog,val\n": "there must be train",
    "file,label,split\na/1.png,cat,train\nb/2.png,dog,test\n": "classes of train.*'dog'",
    'a/1.png,"cat\nb/2.png,dog\n': "as spreadsheets write it.*line 2",
    "a/1.png,cat\n\x00,dog\n": "must have a file and a label",
}


@pytest.mark.parametrize("text", BAD_CSV)
def test_csv_that_is_refused(tmp_path, text):
    photograph(tmp_path / "a" / "1.png")
    photograph(tmp_path / "b" / "2.png")
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=f"(?s){BAD_CSV[text]}") as caught:
        data.load_folder(tmp_path / "x.csv")
    assert "Received: " in str(caught.value)


def test_csv_that_is_no_utf_8(tmp_path):
    (tmp_path / "x.csv").write_bytes("a.png,k\xe4se".encode("latin-1"))
    with pytest.raises(ValueError, match="written in UTF-8.*on line 1.*Save it as CSV UTF-8"):
        data.load_folder(tmp_path / "x.csv")


def two(top, **others):
    folder(top, ("cat", "dog"), 2)
    for name in others.values():
        photograph(top / name)


BAD_FOLDERS = {
    "must have a folder for each class.*with no images and no folder": lambda top: None,
    "two classes at least.*'cat'": lambda top: folder(top, ["cat"]),
    "with 2 images beside them: 'one.png', 'two.png'": lambda top: two(
        top, one="one.png", two="two.png"
    ),
    "with 1 images and no folder: '1.png'.*There is a CSV: .*x.csv": lambda top: (
        photograph(top / "1.png"),
        (top / "x.csv").write_text("1.png,a"),
    ),
    "A class must have an image.*/emu', .*/fox'": lambda top: (
        two(top),
        (top / "fox").mkdir(),
        (top / "emu").mkdir(),
        (top / "emu" / "notes.txt").write_text("none"),
    ),
    "differ in more than capitals.*'Cat', 'cat'": lambda top: two(top, other="Cat/1.png"),
    "differ in more than capitals.*'cat', 'cat '": lambda top: two(top, other="cat /1.png"),
    "how accents.*'caf\xe9', 'cafe\u0301'|how accents.*'cafe\u0301', 'caf\xe9'": lambda top: two(
        top, other="caf\xe9/1.png", another="cafe\u0301/1.png"
    ),
    "one line, that UTF-8 can hold.*'two\\\\nlines'": lambda top: two(top, x="two\nlines/1.png"),
    "one line, that UTF-8 can hold.*udce9": lambda top: two(top, x=os.fsdecode(b"\xe9/1.png")),
    "A split must have one folder.*'.*/train', .*/training'": lambda top: (
        two(top / "train"),
        two(top / "training"),
    ),
    "must be one for train.*val'": lambda top: two(top / "val"),
    "must be no other.*/train'.*and beside them.*/extra'": lambda top: (
        two(top / "train"),
        photograph(top / "extra" / "1.png"),
    ),
    "links to nothing, '.*/emu'. Mend or remove": lambda top: (
        two(top),
        (top / "emu").symlink_to(top / "nowhere"),
    ),
    "images of a class.*/test', which has none": lambda top: (
        two(top / "train"),
        (top / "test" / "cat").mkdir(parents=True),
    ),
}


@pytest.mark.parametrize("message", BAD_FOLDERS)
def test_folders_that_are_refused(tmp_path, message):
    BAD_FOLDERS[message](tmp_path)
    with pytest.raises(ValueError, match="Received") as caught:
        data.load_folder(tmp_path)
    caught.match(f"(?s){message}")
    assert "Received: " in str(caught.value)


def bomb(path):
    """Writes a small file that says it is an image of 400 million pixels."""
    content = bytearray(photograph(path).read_bytes())
    content[16:24] = struct.pack(">2I", 20000, 20000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def test_files_that_cannot_be_read_are_named_all_at_once(tmp_path):
    folder(tmp_path, count=3)
    whole = photograph(tmp_path / "whole.png").read_bytes()
    (tmp_path / "whole.png").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype("uint8")
    Image.fromarray(noise).save(tmp_path / "cat" / "cut.jpg")
    content = (tmp_path / "cat" / "cut.jpg").read_bytes()
    (tmp_path / "cat" / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "cat" / "empty.jpg").touch()
    (tmp_path / "cat" / "text.jpg").write_text("no image")
    (tmp_path / "cat" / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cat" / "film.mp4").write_bytes(bytes(99))
    (tmp_path / "dog" / "gone.jpg").symlink_to(tmp_path / "absent.jpg")
    os.mkfifo(tmp_path / "dog" / "pipe.jpg")
    bomb(tmp_path / "dog" / "bomb.png")
    (tmp_path / "dog" / "x\x1b[2J.png").write_bytes(b"")
    bad = {
        "cat/cut.jpg": "image file is truncated",
        "cat/empty.jpg": "it is empty",
        "cat/text.jpg": "cannot identify image file",
        "cat/half.png": "truncated",
        "cat/film.mp4": "cannot identify",
        "dog/gone.jpg": "a link to nothing",
        "dog/pipe.jpg": "it is no file",
        "dog/bomb.png": "exceeds limit",
    }
    for size in (None, SIZE):
        with pytest.raises(ValueError, match="9 of 15 files that cannot: ") as caught:
            data.load_folder(tmp_path, size)
        told = str(caught.value)
        assert told.isprintable()
        for name, why in bad.items():
            assert why in told.partition(f"'{name}' (")[2].partition("), '")[0]
    dataset = data.load_folder(tmp_path, SIZE, 0, 0, skip_unreadable=True)
    assert dataset.sizes["train"] == 6
    assert len(dataset.left_out) == 9
    assert [name for name in bad if not any(name in one for one in dataset.left_out)] == []
    np.testing.assert_array_equal(
        dataset.arrays("train")[0][4], data.load_image(tmp_path / "dog" / "1.png", SIZE)
    )
    for number in range(3):
        (tmp_path / "cat" / f"{number}.png").write_bytes(b"")
    with pytest.raises(ValueError, match="Received: 'cat' .* Save them as PNG or JPEG"):
        data.load_folder(tmp_path, skip_unreadable=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_what_may_not_be_read(tmp_path):
    folder(tmp_path)
    (tmp_path / "cat" / "1.png").chmod(0)
    with pytest.raises(ValueError, match=r"'cat/1.png' \(Permission denied\)"):
        data.load_folder(tmp_path)
    (tmp_path / "dog").chmod(0)
    try:
        with pytest.raises(PermissionError, match="that can be read.*dog'"):
            data.load_folder(tmp_path)
    finally:
        (tmp_path / "dog").chmod(0o700)


def test_links(tmp_path):
    folder(tmp_path / "real", ("cat", "dog", "more"), 2)
    top = tmp_path / "linked"
    top.mkdir()
    (top / "cat").symlink_to(tmp_path / "real" / "cat")
    (top / "dog").mkdir()
    (top / "dog" / "a.png").symlink_to(tmp_path / "real" / "dog" / "0.png")
    (top / "dog" / "below").symlink_to(tmp_path / "real" / "more")
    (top / "dog" / "for ever").symlink_to(top / "dog")
    assert data.load_folder(top, SIZE, 0, 0).sizes["train"] == 3
    assert data.load_folder(top, SIZE, 0, 0, follow_links=True).sizes["train"] == 5


def test_a_path_is_no_name(tmp_path, monkeypatch):
    folder(tmp_path / "photographs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = ("./photographs", "photographs/", "~/photographs", str(tmp_path / "photographs"))
    for path in (*paths, pathlib.Path("photographs")):
        assert data.is_path(path)
        dataset = data.load(path, image_size=SIZE, validation_fraction=0.3)
        assert (dataset.name, dataset.input_shape) == ("photographs", (8, 8, 3))
    with pytest.raises((ValueError, ImportError), match="of this name give './photographs'"):
        data.load("photographs")
    with pytest.raises(TypeError, match="`image_size` is of paths.*give './photographs'"):
        data.load("photographs", image_size=SIZE)
    with pytest.raises(ValueError, match="`data_dir` is the folder of datasets"):
        data.load("./photographs", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="`directory` must be .*Received: .*absent.csv"):
        data.load("absent.csv")
    (tmp_path / "x.zip").touch()
    with pytest.raises(ValueError, match="ends in .csv. Received: .*x.zip"):
        data.load("./x.zip")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"directory": 3}, TypeError, "`directory` must be a str or"),
        ({"directory": ""}, ValueError, "`directory` must be a str or"),
        ({"image_size": 8}, TypeError, "`image_size` must be a pair"),
        ({"validation_fraction": 1}, ValueError, "`validation_fraction` must be"),
        ({"test_fraction": -1}, ValueError, "`test_fraction` must be"),
        ({"seed": -1}, ValueError, "`seed` must be"),
        ({"class_names": "cat"}, TypeError, "`class_names` must be a list"),
        ({"class_names": ["cat", "emu"]}, ValueError, "names of classes that are there"),
        ({"class_names": ["cat", "cat"]}, ValueError, "each once"),
        ({"color_mode": "rgba"}, ValueError, "`color_mode` must be one of 'rgb', 'grayscale'"),
        (
            {"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True},
            ValueError,
            "cropped or padded, not both",
        ),
        ({"verbose": 3}, ValueError, "`verbose` must be"),
    ],
)
def test_arguments_that_are_refused(tmp_path, given, error, message):
    folder(tmp_path)
    with pytest.raises(error, match=message):
        data.load_folder(**{"directory": tmp_path, **given})


@pytest.mark.parametrize("memory", [2**30, 5 * 8 * 8 * 3 * 2, 0])
def test_streams_give_what_arrays_do(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(image_source, "IN_MEMORY_BYTES", memory)
    folder(tmp_path, ("a", "b", "c"), 15)
    dataset = data.load_folder(tmp_path, SIZE)
    images, labels = dataset.arrays("train")
    steps = dataset.steps("train", 8)
    batches = dataset.batches("train", 8, shuffle=False)
    streams = [[batches[i] for i in range(steps)]]
    shuffled = dataset.batches("train", 8, seed=1, initial_epoch=2)
    epochs = [[shuffled[i] for i in range(steps)]]
    if keras.backend.backend() == "tensorflow":
        streams.append(list(dataset.pipeline("train", 8, shuffle=False).as_numpy_iterator()))
        pipeline = dataset.pipeline("train", 8, seed=1, epochs=2)
        both = list(pipeline.as_numpy_iterator())
        resumed = dataset.pipeline("train", 8, seed=1, initial_epoch=1, epochs=2)
        epochs += [both[:steps], both[steps:], list(resumed.as_numpy_iterator())]
        for one, other in zip(epochs[-2], epochs[-1], strict=True):
            np.testing.assert_array_equal(one[0], other[0])
    for stream in streams:
        for place, array in enumerate((images, labels)):
            np.testing.assert_array_equal(np.concatenate([x[place] for x in stream]), array)
    keys = sorted(
        image.tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True)
    )
    for epoch in epochs:
        assert not (epoch[0][0] == images[:8]).all()
        found = [x.tobytes() + bytes([y]) for xs, ys in epoch for x, y in zip(xs, ys, strict=True)]
        assert sorted(found) == keys
    # Another size takes its turn, and the first comes again.
    assert dataset.arrays("test", (4, 5))[0].shape[1:] == (4, 5, 3)
    at = [7, 2, 20]
    np.testing.assert_array_equal(dataset.arrays("train", at=at)[0], images[at])
    np.testing.assert_array_equal(dataset.arrays("train", at=at)[1], labels[at])
    with pytest.raises(ValueError, match="`at` must hold each number once"):
        dataset.arrays("train", at=[1, 1])
    with pytest.raises(ValueError, match="`at` must be an integer from 0 to"):
        dataset.arrays("train", at=[999])


def test_what_was_read_is_freed_with_the_dataset(tmp_path):
    dataset = data.load_folder(folder(tmp_path), SIZE)
    source = weakref.ref(dataset._part("train")[0])
    batches = dataset.batches("train", 4)
    assert len(batches[0]) == 2
    if keras.backend.backend() == "tensorflow":
        pipeline = dataset.pipeline("train", 4, epochs=1).map(lambda images, labels: images)
        del dataset, batches
        gc.collect()
        # The pipeline alone reads on.
        assert len(list(pipeline)) > 0
        del pipeline
    dataset = batches = None
    gc.collect()
    assert source() is None


def test_a_file_that_goes_meanwhile_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(image_source, "IN_MEMORY_BYTES", 0)
    dataset = data.load_folder(folder(tmp_path), SIZE, 0, 0)
    (tmp_path / "dog" / "3.png").unlink()
    with pytest.raises(FileNotFoundError, match="dog/3.png"):
        dataset.arrays("train")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with pytest.raises(tf.errors.OpError, match="dog/3.png"):
            list(dataset.pipeline("train", 4, shuffle=False))


def test_identity_follows_from_the_files_alone(tmp_path):
    one = data.load_folder(folder(tmp_path / "one" / "photographs"), SIZE).identity
    again = data.load_folder(folder(tmp_path / "two" / "photographs"), SIZE)
    assert again.identity == one
    assert one["class_names"] == ["cat", "dog"]
    assert one["files"].startswith("12 files, ")
    seen = {one["files"]}
    top = tmp_path / "two" / "photographs"
    changes = (
        lambda: photograph(top / "cat" / "1.png", value=3),
        lambda: (top / "cat" / "1.png").rename(top / "cat" / "7.png"),
        lambda: (top / "cat" / "7.png").rename(top / "dog" / "7.png"),
        lambda: (top / "dog" / "7.png").unlink(),
    )
    for change in changes:
        change()
        seen.add(data.load_folder(top, SIZE).identity["files"])
    assert len(seen) == 5


def test_every_name_of_a_split_is_listed():
    assert set(listing.SPLITS.values()) == {"train", "validation", "test"}


@pytest.mark.slow
def test_without_tensorflow_the_splits_and_pixels_are_the_same(tmp_path):
    folder(tmp_path, count=20)
    script = (
        "import sys, zlib\n"
        "sys.modules['tensorflow'] = None\n"
        "from keras_fmm import data\n"
        f"dataset = data.load_folder({str(tmp_path)!r}, (8, 8))\n"
        "print(zlib.crc32(dataset.arrays('validation')[0].tobytes()), dataset.identity['files'])\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    dataset = data.load_folder(tmp_path, SIZE)
    expected = zlib.crc32(dataset.arrays("validation")[0].tobytes()), dataset.identity["files"]
    assert done.stdout.split(maxsplit=1) == [str(expected[0]), f"{expected[1]}\n"]


def test_the_same_image_in_two_classes_is_named(tmp_path):
    folder(tmp_path)
    content = (tmp_path / "cat" / "0.png").read_bytes()
    for name in ("cat/copy.png", "dog/other name.png"):
        (tmp_path / name).write_bytes(content)
    with pytest.warns(UserWarning, match="same image in several: '.*cat/.*' and 'dog/other"):
        data.load_folder(tmp_path, SIZE)
