import zipfile

import numpy as np
import pytest

from keras_fmm import data
from keras_fmm.data.arrays import ArraySource


@pytest.mark.parametrize("name", ["digits", "fmm_tiny"])
def test_what_was_saved_is_loaded(name, prepared, tmp_path):
    dataset = data.load(name, data_dir=prepared)
    path = tmp_path / "new" / "saved.npz"
    data.save_arrays(dataset, path)
    loaded = data.load_arrays(path)
    assert repr(loaded) == repr(dataset)
    assert loaded.class_names == dataset.class_names
    for split in ("train", "validation", "test"):
        for array, expected in zip(loaded.arrays(split), dataset.arrays(split), strict=True):
            np.testing.assert_array_equal(array, expected)
            assert array.dtype == expected.dtype
    shuffled, expected = (list(d.pipeline("train", 8, epochs=1)) for d in (loaded, dataset))
    if name == "digits":  # held in memory as one array or as another, the order is one
        np.testing.assert_array_equal(shuffled[0][1], expected[0][1])


def test_images_that_differ_in_size_are_resized(prepared, tmp_path):
    dataset = data.load("fmm_tiny_ragged", data_dir=prepared)
    with pytest.raises(ValueError, match="differ in size"):
        data.save_arrays(dataset, tmp_path / "saved.npz")
    data.save_arrays(dataset, tmp_path / "saved.npz", image_size=(4, 4))
    loaded = data.load_arrays(tmp_path / "saved.npz")
    assert loaded.input_shape == (4, 4, 3)
    np.testing.assert_array_equal(
        loaded.arrays("test")[0][:, 0, 0, 0] % 3, loaded.arrays("test")[1]
    )


def damaged_files(path, good):
    path.write_bytes(good[: len(good) // 2])
    yield
    path.write_bytes(good[:60] + b"?????" + good[65:])
    yield
    path.write_bytes(b"")
    yield
    path.write_bytes(b"text")
    yield
    np.savez(path, name="x")
    yield
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    yield
    np.savez(path, name=np.array([{}], dtype=object))
    yield
    content = {
        f"{s}_images": np.zeros((2, 1, 1, 1), "uint8") for s in ("train", "validation", "test")
    }
    content |= {f"{s}_labels": np.zeros(2, "int32") for s in ("train", "validation", "test")}
    np.savez(path, name="x", class_names=["a"], **{**content, "test_labels": np.array([0, 1])})
    yield
    np.savez(path, name="x", class_names=["a"], **{**content, "test_labels": np.array([0])})
    yield


def test_damaged_files(tmp_path):
    path = tmp_path / "saved.npz"
    data.save_arrays(data.load("digits"), path)
    for _ in damaged_files(path, path.read_bytes()):
        with pytest.raises(
            ValueError, match=r"saved.npz is damaged or was not.*Save the dataset ag"
        ):
            data.load_arrays(path)


@pytest.mark.parametrize(
    "content", [b"a text", np.zeros(3), {"class_names.npy": b"a text"}], ids=["text", "npy", "zip"]
)
def test_what_is_no_dataset_is_no_advice_to_read_it_unsafely(content, tmp_path):
    path = tmp_path / "saved.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, name="x")
        with zipfile.ZipFile(path, "a") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
    else:
        with open(path, "wb") as file:
            np.save(file, content)
    with pytest.raises(ValueError, match=r"saved.npz is damaged or was not.*Save the") as caught:
        data.load_arrays(path)
    assert "allow_pickle" not in str(caught.value)
    assert isinstance(content, dict) or "(it is no .npz archive)" in str(caught.value)


@pytest.mark.parametrize("path", [".", "..", "folder", "file/below"])
def test_where_no_file_can_be(path, tmp_path, monkeypatch):
    (tmp_path / "here" / "folder").mkdir(parents=True)
    (tmp_path / "here" / "file").touch()
    monkeypatch.chdir(tmp_path / "here")
    cure = "Choose a folder to write into" if "/" in path else "Choose another name"
    with pytest.raises(OSError, match=rf"could not be written \(.*\). {cure}") as caught:
        data.save_arrays(data.load("digits"), path)
    assert "keras_fmm" not in str(caught.value)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "folder", "here"]


def test_a_small_file_that_unpacks_to_much(tmp_path):
    np.savez_compressed(tmp_path / "saved.npz", train_images=np.zeros(2**27, "uint8"))
    with pytest.raises(ValueError, match="bytes that unpack to"):
        data.load_arrays(tmp_path / "saved.npz")


GOOD = {
    **{f"{s}_images": np.zeros((2, 3, 4, 1), "uint8") for s in ("train", "validation", "test")},
    **{f"{s}_labels": np.array([0, 1], "int64") for s in ("train", "validation", "test")},
    "name": "x",
    "class_names": ["a", "b"],
}


@pytest.mark.parametrize(
    "other",
    [
        {"train_labels": np.array([0.0, 0.5])},
        {"test_labels": np.array([0.0, 1.0])},
        {"train_labels": np.array([False, True])},
        {"train_labels": np.array(["0", "1"])},
        {"train_labels": np.array([0, 2])},
        {"train_labels": np.array([0, -1])},
        {"train_labels": np.array([0, 2**40])},
        {"train_labels": np.eye(2, dtype="int32")},
        {"test_images": np.zeros((2, 4, 4, 1), "uint8")},
        {"validation_images": np.zeros((2, 3, 4, 3), "uint8")},
        {"train_images": np.zeros((2, 3, 4), "uint8")},
        {"train_images": np.zeros((0, 3, 4, 1), "uint8"), "train_labels": np.zeros(0, "int32")},
        {f"{s}_images": np.zeros((2, 3, 4, 0), "uint8") for s in ("train", "validation", "test")},
        {f"{s}_images": np.zeros((2, 0, 4, 1), "uint8") for s in ("train", "validation", "test")},
        {"train_images": np.full((2, 3, 4, 1), np.nan, "float32")},
        {"train_images": np.ones((2, 3, 4, 1), "complex64")},
        {"class_names": [0, 1]},
        {"class_names": "ab"},
        {"class_names": [["a"], ["b"]]},
        {"class_names": np.array([b"a", b"b"])},
    ],
    ids=lambda other: "-".join(f"{k}-{np.asarray(v).dtype.name}" for k, v in other.items()),
)
def test_contents_that_no_dataset_has(other, tmp_path):
    path = tmp_path / "saved.npz"
    np.savez(path, **GOOD)
    loaded = data.load_arrays(path)
    assert loaded.sizes == {"train": 2, "validation": 2, "test": 2}
    assert loaded.arrays("train")[1].dtype == "int32"
    assert [str(labels.dtype) for _, labels in loaded.chunks("train")] == ["int32"]
    np.savez(path, **{**GOOD, **other})
    with pytest.raises(ValueError, match=r"saved.npz is damaged or was not.*Save the dataset ag"):
        data.load_arrays(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.load_arrays(tmp_path / "none.npz")


@pytest.mark.slow
def test_images_that_are_all_the_same_are_loaded(tmp_path):
    """More than 64 MB that would pack to less than a 200th, as only made-up files do."""
    images = np.zeros((70, 1000, 1000, 1), "uint8")
    source = ArraySource(images, np.zeros(70, "int32"))
    parts = {"train": (source, np.arange(70))}
    parts |= {split: (source, np.arange(0)) for split in ("validation", "test")}
    data.save_arrays(data.ImageDataset("dark", (1000, 1000, 1), ["night"], parts), tmp_path / "d")
    assert data.load_arrays(tmp_path / "d").sizes == {"train": 70, "validation": 0, "test": 0}
