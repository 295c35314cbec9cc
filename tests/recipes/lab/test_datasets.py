"""How recipes read a folder of images: the same in training, calibration and use."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

if keras.backend.backend() != "tensorflow":
    pytest.skip("recipes export", allow_module_level=True)

from keras_fmm import data
from recipes import classify, export_model, fine_tune, train
from recipes.benchmarks import quantization
from recipes.lab import datasets


@pytest.fixture
def photographs(tmp_path):
    """A folder of ten photographs each of two classes, of two sizes, some lying on their side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 256, (40 + number % 2, 60, 3))
        path = tmp_path / "photographs" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.astype("uint8")).save(path, exif=exif if number % 3 else b"")
    return tmp_path / "photographs"


@pytest.mark.parametrize("recipe", [train, fine_tune, quantization, export_model, classify])
@pytest.mark.parametrize("aspect_ratio", ["stretch", "crop", "pad"])
def test_the_same_pixels_everywhere(photographs, recipe, aspect_ratio):
    how = {} if aspect_ratio == "stretch" else {f"{aspect_ratio}_to_aspect_ratio": True}
    paths = sorted(map(str, photographs.glob("*/*")))
    expected = {path: data.load_image(path, (16, 24), **how) for path in paths}
    given = {"dataset": str(photographs)}
    if recipe is classify:
        given = {"images": tuple(paths), "model": ""}
    elif recipe is export_model:
        given["checkpoint"] = ""
    settings = recipe.Settings(aspect_ratio=aspect_ratio, **given)
    if recipe is classify:
        fitting = datasets.fitting(settings)
        found = {path: classify.read(path, (16, 24, 3), True, fitting) for path in paths}
    else:
        dataset = datasets.load(settings, (16, 24))
        found = {
            path: image
            for split in dataset.sizes
            for path, image in zip(dataset.file_paths(split), dataset.arrays(split)[0], strict=True)
        }
        sample = export_model.sample(dataset)
        assert {x.tobytes() for x in sample} == {
            expected[path].tobytes() for path in dataset.file_paths("train")
        }
    assert found.keys() == expected.keys()
    for path, image in found.items():
        np.testing.assert_array_equal(image, expected[path])


def test_what_only_folders_take_and_need(photographs, capsys):
    settings = train.Settings(dataset=str(photographs))
    with pytest.raises(ValueError, match="`image_size` must be given.* Give e.g. --image-size"):
        datasets.load(settings)
    for name, value in {"aspect_ratio": "crop", "skip_unreadable": True}.items():
        with pytest.raises(ValueError, match=f"`{name}` is of folders.*Received: {name}={value}"):
            datasets.load(train.Settings(**{name: value}))
    (photographs / "a" / "bad.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"'a/bad.jpg' \(it is empty\).*--skip-unreadable"):
        datasets.load(settings, (8, 8))
    settings = dataclasses.replace(settings, skip_unreadable=True, color_mode="grayscale")
    assert datasets.load(settings, (8, 8)).input_shape == (8, 8, 1)
    assert capsys.readouterr().out == "left out: 'a/bad.jpg' (it is empty)\n"


def test_each_split_needs_an_image(photographs):
    for path in sorted(photographs.glob("*/*"))[::-1]:
        if len(list(path.parent.iterdir())) > 2:
            path.unlink()
    with pytest.raises(ValueError, match="without any for test. Add images, three a class"):
        datasets.load(train.Settings(dataset=str(photographs)), (16, 16))


@pytest.mark.slow_on_tensorflow
def test_a_run_goes_on_with_the_same_files_alone(photographs, tmp_path):
    settings = train.Settings(dataset=str(photographs), image_size=8)

    def run(where=photographs):
        dataset = datasets.load(dataclasses.replace(settings, dataset=str(where)), (8, 8))
        return train.new_run(settings, tmp_path / "run", dataset), dataset

    first, dataset = run()
    assert first.record["config"]["class_names"] == ["a", "b"]
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(inputs)))
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    first.restore(model)
    validation = dataset.arrays("validation")
    model.fit(
        *dataset.arrays("train"), validation_data=validation, callbacks=first.callbacks(), verbose=0
    )
    first.finish()
    # Wherever they lie.
    moved = tmp_path / "elsewhere" / "photographs"
    shutil.copytree(photographs, moved)
    assert run(moved)[0].restore(model) == 1
    (photographs / "b" / "1.jpg").rename(photographs / "b" / "one.jpg")
    with pytest.raises(ValueError, match="whose run differs in files .'20 files, .* there, '20"):
        run()
