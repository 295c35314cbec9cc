import os
import re
import shutil
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_fmm import data
from keras_fmm.data import tfrecords

SHARD = "fmm_tiny-train.tfrecord-00000-of-00001"


@pytest.mark.parametrize(
    ("name", "near"),
    [("fashionmnist", "fashion_mnist"), ("cifar1O", "cifar10"), ("digit", "digits")],
)
def test_unknown_name(name, near, tmp_path):
    with pytest.raises(
        ValueError, match=f"'digits', which.*Received: name='{name}'.*{near}"
    ) as info:
        data.load(name, data_dir=tmp_path)
    assert len(str(info.value)) < 400
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["fmm_tiny:9.9.9", "imagenette/tiny"])
def test_unknown_version_or_configuration(name, prepared):
    with pytest.raises(ValueError, match=f"'name/config'.*Received: name='{name}'"):
        data.load(name, data_dir=prepared)


@pytest.mark.parametrize("name", ["fmm_tiny_text", "imdb_reviews", "voc"])
def test_not_images_with_one_class_each(name, prepared, tmp_path):
    with pytest.raises(
        ValueError, match=f"8-bit images with one class each. Received: name='{name}'"
    ):
        data.load(name, data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_train_split(prepared):
    with pytest.raises(ValueError, match=r"must have a train split. Received: splits \['test'\]"):
        data.load("fmm_tiny_eval", data_dir=prepared)


def test_a_dataset_that_needs_no_download_is_prepared(prepared, tmp_path):
    assert data.load("fmm_tiny", data_dir=tmp_path).sizes["test"] == 7
    assert data.load("fmm_tiny", data_dir=tmp_path).sizes["test"] == 7


def test_no_network(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    start = time.monotonic()
    with pytest.raises(
        ConnectionError, match=r"'fmm_tiny_remote' is not in.*set TFDS_DATA_DIR"
    ) as info:
        data.load("fmm_tiny_remote", data_dir=tmp_path)
    assert time.monotonic() - start < 20
    assert str(tmp_path) in str(info.value)
    assert info.value.__cause__ is not None
    assert not (tmp_path / "fmm_tiny_remote").exists()


def test_a_preparation_that_fails_leaves_no_folder(prepared, tmp_path):
    with pytest.raises(OSError, match=r"'fmm_tiny_broken' is not in.*the disk is on fire") as info:
        data.load("fmm_tiny_broken", data_dir=tmp_path)
    assert not isinstance(info.value, ConnectionError)
    assert not (tmp_path / "fmm_tiny_broken").exists()


def test_a_preparation_that_fails_leaves_a_folder_that_was_there(prepared, tmp_path):
    notes = tmp_path / "fmm_tiny_broken" / ".config" / "thesis.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(OSError, match="preparing it there failed"):
        data.load("fmm_tiny_broken", data_dir=tmp_path)
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("name", ["fmm_tiny", "fmm_tiny_remote"])
def test_a_folder_that_cannot_be_made(name, prepared, tmp_path):
    (tmp_path / "file").write_text("")
    match = "preparing it there failed: .*file cannot be written.*Set TFDS_DATA_DIR or `data_dir`"
    with pytest.raises(OSError, match=match) as info:
        data.load(name, data_dir=tmp_path / "file" / "in")
    assert not isinstance(info.value, ConnectionError)


@pytest.mark.skipif(os.access("/", os.W_OK), reason="root can write everywhere")
def test_a_folder_that_cannot_be_written(prepared, tmp_path):
    (tmp_path / "folder").mkdir(mode=0o500)
    with pytest.raises(OSError, match="folder cannot be written") as info:
        data.load("fmm_tiny_remote", data_dir=tmp_path / "folder")
    assert not isinstance(info.value, ConnectionError)


@pytest.mark.parametrize(("folder", "kind"), [("", ValueError), (3, TypeError)])
def test_a_folder_that_is_none(folder, kind, prepared):
    with pytest.raises(kind, match="`data_dir` must be .* Received: data_dir="):
        data.load("fmm_tiny", data_dir=folder)


def damage_truncate(folder):
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-30])


def damage_flip(folder):
    content = bytearray((folder / SHARD).read_bytes())
    content[200] ^= 255
    (folder / SHARD).write_bytes(content)


def damage_count(folder):
    path = folder / "dataset_info.json"
    path.write_text(path.read_text().replace('"40"', '"41"'))


def damage_count_less(folder):
    path = folder / "dataset_info.json"
    path.write_text(path.read_text().replace('"40"', '"39"'))


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_truncate, "truncated record"),
        pytest.param(damage_flip, "corrupted record", marks=pytest.mark.slow),
        (damage_count, "expected to contain 41 elements but contained only 40"),
        pytest.param(
            damage_count_less,
            "expected to contain 39 elements but contained at least 40",
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.parametrize("in_memory", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_damage_found_while_reading(copy, damage, reason, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(tfrecords, "IN_MEMORY_BYTES", 0)
    root, folder = copy
    damage(folder)
    dataset = data.load("fmm_tiny", data_dir=root)
    match = f"'fmm_tiny' in .*1.0.0 is damaged: .*{reason}.*Delete that folder"
    with pytest.raises(OSError, match=match) as info:
        dataset.arrays("train")
    assert isinstance(info.value.__cause__, tf.errors.OpError)
    if in_memory:
        with pytest.raises(OSError, match="is damaged"):
            dataset.pipeline("train", 4)
    else:
        with pytest.raises(tf.errors.OpError):
            list(dataset.pipeline("train", 4, epochs=1))
    assert len(dataset.arrays("test")[0]) == 7


def break_image(folder, number, content):
    """Puts other bytes in the place of one image; the files stay whole."""
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(folder / SHARD))]
    example = tf.train.Example.FromString(records[number])
    example.features.feature["image"].bytes_list.value[0] = content
    records[number] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(folder / SHARD)) as writer:
        for record in records:
            writer.write(record)
    info = folder / "dataset_info.json"
    info.write_text(re.sub('"numBytes": "[0-9]*"', '"numBytes": "1"', info.read_text()))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Input is empty"),
        (b"a cat", "Unknown image file format"),
        (tf.io.encode_png(np.zeros((4, 5, 1), "uint8")).numpy()[:40], "Invalid PNG"),
        (tf.io.encode_png(np.zeros((9, 9, 1), "uint8")).numpy(), r"\[9,9,1\]"),
    ],
    ids=["empty", "text", "cut", "size"],
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_broken_image_is_named(copy, content, reason, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(tfrecords, "IN_MEMORY_BYTES", 0)
    root, folder = copy
    break_image(folder, 17, content)
    dataset = data.load("fmm_tiny", data_dir=root, validation_fraction=0)
    match = rf"'fmm_tiny' in .*damaged: image 17 of train, in {SHARD}: .*{reason}[^{{}}]*Delete"
    with pytest.raises(OSError, match=match):
        dataset.arrays("train")


def relabelled(folder, **value):
    """Writes another label into the sixth record of train."""
    shard = str(folder / SHARD)
    records = [record.numpy() for record in tf.data.TFRecordDataset(shard)]
    example = tf.train.Example.FromString(records[5])
    example.features.feature["label"].CopyFrom(tf.train.Feature(**value))
    # As many bytes at the least as the dataset is said to have.
    example.features.feature["more"].bytes_list.value.append(b"-" * 50)
    records[5] = example.SerializeToString()
    with tf.io.TFRecordWriter(shard) as writer:
        for record in records:
            writer.write(record)


@pytest.mark.parametrize("in_memory", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "label", [3, -1, *(pytest.param(n, marks=pytest.mark.slow) for n in (99, 2**40, 2**32))]
)
def test_a_label_that_is_no_class(copy, label, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(tfrecords, "IN_MEMORY_BYTES", 0)
    root, folder = copy
    relabelled(folder, int64_list=tf.train.Int64List(value=[label]))
    dataset = data.load("fmm_tiny", data_dir=root)
    match = rf"damaged: .*a label must be of the classes 0 to\] \[2\] \[and is\] \[{label}\]\. Del"
    with pytest.raises(OSError, match=match):
        dataset.arrays("train")
    if not in_memory:
        with pytest.raises(tf.errors.OpError, match=str(label)):
            list(dataset.pipeline("train", 4, epochs=1))


@pytest.mark.parametrize(
    "value",
    [
        {"float_list": tf.train.FloatList(value=[1.0])},
        {"bytes_list": tf.train.BytesList(value=[b"1"])},
        {"int64_list": tf.train.Int64List(value=[1, 1])},
        {"int64_list": tf.train.Int64List()},
    ],
    ids=str,
)
def test_a_label_that_is_no_integer(copy, value):
    root, folder = copy
    relabelled(folder, **value)
    dataset = data.load("fmm_tiny", data_dir=root)
    with pytest.raises(OSError, match="damaged: .*label.* Delete that folder"):
        dataset.arrays("train")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / SHARD).unlink(), f"it lacks {SHARD}"),
        (lambda f: (f / SHARD).write_bytes(b""), "its train files have 0 bytes of"),
        (lambda f: (f / "dataset_info.json").unlink(), "it has no dataset_info.json"),
        (lambda f: [path.unlink() for path in f.iterdir()], "it has no dataset_info.json"),
        (lambda f: (f / "dataset_info.json").write_text("{"), "dataset_info.json cannot be read"),
        (
            lambda f: (f / "dataset_info.json").write_bytes(b"\xff\xfe\x00"),
            "dataset_info.json cannot",
        ),
    ],
)
def test_damage_found_by_load(copy, damage, reason):
    root, folder = copy
    damage(folder)
    with pytest.raises(OSError, match=f"'fmm_tiny' in .*damaged: .*{reason}.*Delete that folder"):
        data.load("fmm_tiny", data_dir=root)


def test_the_cure_cures(copy):
    root, folder = copy
    damage_truncate(folder)
    shutil.rmtree(folder)
    images, _ = data.load("fmm_tiny", data_dir=root).arrays("train")
    assert len(np.unique(images)) == 36
