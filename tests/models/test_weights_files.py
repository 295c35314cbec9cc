"""Files that hold weights otherwise than at one level, and files that are damaged or claim much."""

import json
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_fmm import layers, models
from tests.support.weights import randomise

SHAPE = (6, 6, 8)
IMAGES = np.random.default_rng(0).uniform(size=(2, *SHAPE)).astype("float32")


def inner(name, number="", last=None):
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(8, 3, padding="same", name=f"conv{number}")(inputs)
    x = keras.layers.BatchNormalization(name=f"bn{number}")(x)
    x = layers.SqueezeExcite(2, name=f"gate{number}")(x)
    return keras.Model(inputs, last(x) if last else x, name=name)


def whole(*parts):
    inputs = x = keras.Input(SHAPE)
    for part in parts:
        x = part(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="predictions")(x))


def sequential():
    parts = [keras.layers.Conv2D(8, 1, name="conv"), layers.CBAM(2, 3, name="gate")]
    return keras.Sequential([keras.Input(SHAPE), *parts], name="sequential")


def shared():
    part = inner("part")
    return whole(part, part)


def frozen():
    model = whole(inner("part"))
    for name in ("conv", "bn"):
        model.get_layer("part").get_layer(name).trainable = False
    model.get_layer("part").get_layer("gate").squeeze.kernel.trainable = False
    return model


def upgraded():
    stem = keras.layers.Conv2D(8, 3, padding="same", name="stem")
    return models.upgrade(whole(stem, inner("part")), convolution="aw")


NESTED = {
    "functional in functional": lambda: whole(inner("part")),
    "sequential in functional": lambda: whole(sequential()),
    "functional in sequential": lambda: keras.Sequential([keras.Input(SHAPE), inner("part")]),
    "twice nested": lambda: whole(inner("outer", "2", inner("part"))),
    "sequential twice nested": lambda: whole(inner("outer", "2", sequential())),
    "two": lambda: whole(inner("one", "1"), inner("two", "2")),
    "shared": shared,
    "frozen": frozen,
    "named as a layer in it": lambda: whole(inner("conv")),
    "named as a gate in it": lambda: whole(inner("gate")),
    "upgraded": upgraded,
}
QUICK = ("two", "shared", "frozen", "sequential twice nested", "upgraded")


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in NESTED],
)
def test_nested_models_load_from_every_format(kind, tmp_path):
    model = NESTED[kind]()
    randomise(model)
    expected = np.asarray(model(IMAGES))
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    model.save_weights(tmp_path / "model.weights.h5")
    for name in ("model.keras", "model.h5", "model.weights.h5"):
        other = keras.models.clone_model(model)
        report = models.load_weights(other, tmp_path / name)
        assert report.initialised == report.skipped == ()
        np.testing.assert_array_equal(other(IMAGES), expected)


def test_a_legacy_file_of_weights_alone_of_a_nested_model(tmp_path):
    for kind in ("functional in functional", "sequential in functional", "two"):
        model = NESTED[kind]()
        randomise(model)
        model.save(tmp_path / "model.h5")
        with h5py.File(tmp_path / "model.h5", "a") as file:
            del file.attrs["model_config"]
            for name in list(file["model_weights"].attrs):
                file.attrs[name] = file["model_weights"].attrs[name]
            for name in list(file["model_weights"]):
                file.move(f"model_weights/{name}", name)
            del file["model_weights"]
        other = keras.models.clone_model(model)
        models.load_weights(other, tmp_path / "model.h5")
        np.testing.assert_array_equal(other(IMAGES), model(IMAGES))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = whole(inner("part"))
    folder = tmp_path_factory.mktemp("saved")
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    return model, folder


def refused(model, path, error=OSError):
    before = model.get_weights()
    with pytest.raises(error, match="^`source` must .* Received: ") as caught:
        models.load_weights(model, path)
    # A terminal can show it, in one line.
    assert str(caught.value).encode()
    assert "\x1b" not in str(caught.value)
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


FORMATS = ("model.keras", "model.h5", "model.weights.h5")


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_such_file(name, saved, tmp_path):
    model, _ = saved
    path = tmp_path / name
    refused(model, path)
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("config.json", "{")
    h5py.File(tmp_path / "empty", "w").close()
    zipped, empty = ((tmp_path / file).read_bytes() for file in ("zip", "empty"))
    for content in (b"", b"no weights", rng.bytes(5000), zipped):
        path.write_bytes(content)
        refused(model, path)
    path.write_bytes(empty)
    refused(model, path, (OSError, ValueError))
    path.unlink()
    path.mkdir()
    refused(model, path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_cut_or_has_a_hole(name, saved, tmp_path):
    """A file with a hole where HDF5 keeps its texts lets its library read for ever."""
    model, folder = saved
    content = (folder / name).read_bytes()
    path = tmp_path / name
    for part in (0.1, 0.5, 0.99):
        path.write_bytes(content[: int(len(content) * part)])
        refused(model, path)
    found = content.find(b"GCOL")
    assert found > 0
    path.write_bytes(content[: found + 200] + bytes(300) + content[found + 500 :])
    refused(model, path)


@pytest.mark.parametrize("name", FORMATS)
def test_names_that_are_no_text(name, saved, tmp_path):
    model, folder = saved
    path = tmp_path / name
    for text in (b"part\xff\xfe", b"pa\x1b[2J"):
        path.write_bytes((folder / name).read_bytes().replace(b"conv", text[:4]))
        refused(model, path, (OSError, ValueError))


def test_a_path_that_is_no_text(saved):
    refused(saved[0], "absent\udcff.h5")
    with pytest.raises(ValueError, match="`source` must be a str or `os.PathLike`"):
        models.load_weights(saved[0], "absent\0.h5")


@pytest.mark.parametrize("config", ["{", "null", "[" * 100_000, '{"config": 3}', b"\xff\xfe"])
def test_a_legacy_file_whose_config_is_damaged(config, saved, tmp_path):
    model, folder = saved
    path = tmp_path / "model.h5"
    path.write_bytes((folder / "model.h5").read_bytes())
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
        file.create_dataset("long", data=0)
        file.attrs["model_config"] = config if len(config) < 60_000 else config[:60_000]
    refused(model, path)


def arrays_of(file):
    found = []

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            found.append(name)

    file.visititems(note)
    return [name for name in found if "optimizer" not in name]


@pytest.mark.parametrize("name", FORMATS[1:])
@pytest.mark.parametrize("kind", ["text", "external link", "soft link", "external", "virtual"])
def test_what_is_no_array_of_the_file_is_refused(kind, name, saved, tmp_path):
    model, folder = saved
    path = tmp_path / name
    path.write_bytes((folder / name).read_bytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones((3, 3, 8, 8), "float32")
    with h5py.File(path, "a") as file:
        place = next(name for name in arrays_of(file) if file[name].shape == (3, 3, 8, 8))
        del file[place]
        if kind == "text":
            file[place] = np.full((3, 3, 8, 8), b"text", dtype=h5py.string_dtype())
        elif kind == "external link":
            file[place] = h5py.ExternalLink("other.h5", "secret")
        elif kind == "soft link":
            file[place] = h5py.SoftLink("/elsewhere")
        elif kind == "external":
            outside = [(str(tmp_path / "other.h5"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset(place, (3, 3, 8, 8), "float32", external=outside)
        else:
            layout = h5py.VirtualLayout((3, 3, 8, 8), "float32")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", (3, 3, 8, 8))
            file.create_virtual_dataset(place, layout)
    refused(model, path)


def peak(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_small_archive_that_unpacks_to_much_is_refused_unread(saved, tmp_path):
    path = tmp_path / "model.keras"
    size = 2**27
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("model.weights.h5", "w") as member,
    ):
        for _ in range(size // 2**20):
            member.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    assert peak(lambda: refused(saved[0], path)) < size / 50


@pytest.mark.parametrize("name", FORMATS[1:])
def test_a_small_file_that_claims_large_arrays_is_refused_unread(name, saved, tmp_path):
    model, folder = saved
    path = tmp_path / name
    path.write_bytes((folder / name).read_bytes())
    with h5py.File(path, "a") as file:
        for place in arrays_of(file):
            shape = file[place].shape
            if shape:
                del file[place]
                # 4 GB at most are claimed by each, nothing is stored.
                file.create_dataset(place, (2**30, *shape[1:]), "float32", chunks=True)
    assert peak(lambda: refused(model, path, ValueError)) < 2**24


def test_a_packed_archive_of_trained_weights_loads(saved, tmp_path):
    model, folder = saved
    with (
        zipfile.ZipFile(folder / "model.keras") as old,
        zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        assert json.loads(old.read("config.json"))
        for member in old.namelist():
            new.writestr(member, old.read(member))
    other = keras.models.clone_model(model)
    models.load_weights(other, tmp_path / "model.keras")
    np.testing.assert_array_equal(other(IMAGES), model(IMAGES))
