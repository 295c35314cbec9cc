import os
import subprocess
import sys
import zlib

import numpy as np
import pytest

from keras_fmm import data


def examples(dataset, split):
    """Set of (pixels, label) of the split."""
    images, labels = dataset.arrays(split)
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


def test_digits():
    dataset = data.load("digits")
    assert dataset.name == "digits"
    assert dataset.input_shape == (8, 8, 1)
    assert dataset.classes == 10
    assert dataset.class_names == tuple("0123456789")
    assert sum(dataset.sizes.values()) == 1797
    for split, size in dataset.sizes.items():
        images, labels = dataset.arrays(split)
        assert images.shape == (size, 8, 8, 1)
        assert images.dtype == "uint8"
        assert labels.dtype == "int32"
        assert set(labels) == set(range(10))


def test_a_subset_has_examples_of_its_split_and_of_each_class_its_share():
    dataset = data.load("digits")
    some = dataset.subset(train=200, validation=40)
    assert some.sizes == {"train": 200, "validation": 40, "test": 359}
    for split in some.sizes:
        assert examples(some, split) <= examples(dataset, split)
        share = some.sizes[split] / dataset.sizes[split]
        wanted = np.bincount(dataset.labels(split), minlength=10) * share
        assert np.abs(np.bincount(some.labels(split), minlength=10) - wanted).max() <= 1
    whole = dataset.arrays("train")[0].tolist()
    places = [whole.index(image) for image in some.arrays("train")[0].tolist()]
    assert places == sorted(places)
    # What follows from it is not taken for the whole dataset's.
    assert some.identity != dataset.identity
    assert some.identity != dataset.subset(train=201, validation=40).identity


def test_a_subset_is_the_same_for_good_and_another_for_another_seed():
    dataset = data.load("digits")
    labels = dataset.subset(train=12).labels("train").tolist()
    assert labels == [5, 7, 6, 4, 9, 0, 3, 4, 0, 1, 2, 8]
    some, others = (dataset.subset(train=200, seed=seed) for seed in (0, 1))
    assert examples(some, "train") != examples(others, "train")


def test_a_subset_of_more_than_there_is_is_all(prepared):
    dataset = data.load("fmm_tiny", data_dir=prepared)
    some = dataset.subset(train=10**6, test=3)
    assert some.sizes == {**dataset.sizes, "test": 3}
    assert dataset.subset(train=10**6, seed=7).identity == dataset.identity
    # A part of a part, by a pipeline too; it is not that part of the whole.
    less = some.subset(test=2)
    assert examples(less, "test") < examples(some, "test")
    assert less.identity != dataset.subset(test=2).identity
    batch = next(iter(less.pipeline("test", 2, shuffle=False)))
    np.testing.assert_array_equal(batch[0], less.arrays("test")[0])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"train": 0}, ValueError),
        ({"test": 2.5}, TypeError),
        ({"validation": True}, TypeError),
        ({"train": 3, "seed": -1}, ValueError),
    ],
)
def test_a_subset_of_no_size_is_refused(arguments, error):
    name = "seed" if "seed" in arguments else next(iter(arguments))
    with pytest.raises(error, match=f"`{name}`.*Received: {name}={arguments[name]}"):
        data.load("digits").subset(**arguments)


def test_digits_levels_are_rounded_to_0_255():
    # Level k of 16 is 255 k / 16: 15.9375 is 16, 127.5 is 128 (to even).
    levels = np.unique(data.load("digits").arrays("train")[0]).tolist()
    assert levels == [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]


def test_seed_moves_validation_and_never_test():
    one, other = (data.load("digits", seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(one.arrays("test")[0], other.arrays("test")[0])
    assert one.sizes == other.sizes
    assert examples(one, "validation") != examples(other, "validation")
    again = data.load("digits", seed=1)
    np.testing.assert_array_equal(again.arrays("validation")[0], other.arrays("validation")[0])


@pytest.mark.parametrize("name", ["fmm_tiny", "fmm_tiny_train", "fmm_tiny_valid", "fmm_tiny:1.0.0"])
def test_splits_of_a_prepared_dataset_are_disjoint_and_cover(prepared, name):
    dataset = data.load(name, validation_fraction=0.25, data_dir=prepared)
    values = {s: dataset.arrays(s)[0][:, 0, 0, 0] for s in dataset.sizes}
    assert {s: len(v) for s, v in values.items()} == dataset.sizes
    trained = values["train"].tolist() + values["validation"].tolist()
    if name == "fmm_tiny_train":
        trained += values["test"].tolist()
    else:
        assert sorted(values["test"]) == list(range(dataset.sizes["test"]))
    assert sorted(trained) == list(range(len(trained)))
    for split in dataset.sizes:
        images, labels = dataset.arrays(split)
        np.testing.assert_array_equal(images[:, 0, 0, 0] % 3, labels)
    assert dataset.class_names == ("a", "b", "c")


def test_sizes_of_the_kinds_of_datasets(prepared):
    sizes = {
        name: data.load(name, 0.25, data_dir=prepared).sizes
        for name in ("fmm_tiny", "fmm_tiny_train", "fmm_tiny_valid")
    }
    assert sizes == {
        "fmm_tiny": {"train": 30, "validation": 10, "test": 7},
        "fmm_tiny_train": {"train": 12, "validation": 4, "test": 4},
        "fmm_tiny_valid": {"train": 9, "validation": 3, "test": 5},
    }


def test_a_test_split_of_hidden_labels_gives_way_to_validation(prepared):
    dataset = data.load("fmm_tiny_hidden", data_dir=prepared)
    images, labels = dataset.arrays("test")
    assert len(images) == 5
    assert sorted(labels) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("name", ["fmm_tiny_train", "fmm_tiny_valid", "fmm_tiny"])
def test_the_test_split_never_depends_on_the_seed(name, prepared):
    one, other = (data.load(name, seed=seed, data_dir=prepared) for seed in (0, 1))
    np.testing.assert_array_equal(one.arrays("test")[0], other.arrays("test")[0])
    assert (one.arrays("validation")[0] != other.arrays("validation")[0]).any()


def test_no_validation(prepared):
    dataset = data.load("fmm_tiny", validation_fraction=0, data_dir=prepared)
    assert dataset.sizes == {"train": 40, "validation": 0, "test": 7}
    assert dataset.arrays("validation")[0].shape == (0, 4, 5, 1)


def test_the_environment_names_the_folder(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert data.load("fmm_tiny").sizes["test"] == 7


@pytest.mark.parametrize("fraction", [1, 1.0, -0.1, float("nan")])
def test_refused_fractions(fraction):
    with pytest.raises(ValueError, match="`validation_fraction` must be a number from 0 to less"):
        data.load("digits", validation_fraction=fraction)


def test_refused_types():
    with pytest.raises(TypeError, match=r"`validation_fraction` must be a number.*Received.*'0.1'"):
        data.load("digits", validation_fraction="0.1")
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        data.load("digits", seed=0.5)
    with pytest.raises(ValueError, match="`seed` must be an integer from 0 to 4294967295"):
        data.load("digits", seed=-1)
    with pytest.raises(TypeError, match="`name` must be a string"):
        data.load(7)


def test_absent_packages_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"'digits' needs sklearn.*'keras-fmm\[data\]'"):
        data.load("digits")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"'mnist' needs tensorflow_datasets.*fmm\[data\]'"):
        data.load("mnist")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"'mnist' needs tensorflow\. .*fmm\[tensorflow\]'"):
        data.load("mnist")


@pytest.mark.slow
def test_another_process_without_tensorflow_gives_the_same():
    # A machine with only JAX: nothing here imports TensorFlow, and the splits are the same.
    code = (
        "import sys, zlib\n"
        "sys.modules['tensorflow'] = None\n"
        "from keras_fmm import data\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        "images, labels = data.load('digits', seed=3).arrays('train')\n"
        "data.load('digits').arrays('test', image_size=(6, 10))\n"
        "print(zlib.crc32(images.tobytes() + labels.tobytes()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    images, labels = data.load("digits", seed=3).arrays("train")
    assert int(done.stdout) == zlib.crc32(images.tobytes() + labels.tobytes())


PARTS = dict.fromkeys(("train", "validation", "test"), (None, range(2)))
GOOD = {"name": "x", "input_shape": (None, 8, 3), "class_names": ["a"], "parts": PARTS}


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ({"name": None}, TypeError),
        ({"input_shape": 3}, TypeError),
        ({"input_shape": None}, TypeError),
        ({"input_shape": "883"}, TypeError),
        ({"input_shape": (8.0, 8, 3)}, TypeError),
        ({"input_shape": (0, 8, 3)}, ValueError),
        ({"input_shape": (8, 8)}, ValueError),
        ({"input_shape": (8, 8, None)}, ValueError),
        ({"class_names": "ab"}, TypeError),
        ({"parts": None}, TypeError),
        ({"parts": []}, TypeError),
        ({"parts": {}}, ValueError),
        ({"parts": {**PARTS, "test": None}}, ValueError),
        ({"parts": {**PARTS, "train": (None,)}}, ValueError),
    ],
    ids=str,
)
def test_what_no_dataset_is_made_of(other, error):
    assert data.ImageDataset(**GOOD).sizes == {"train": 2, "validation": 2, "test": 2}
    with pytest.raises(error, match=rf"`{next(iter(other))}(\[\d\])?` must .* Received: "):
        data.ImageDataset(**{**GOOD, **other})
