"""The artefacts in saved_models/ are what their manifest says, score included."""

import os
import pathlib

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

import tensorflow_datasets as tfds

from keras_fmm import data, export
from recipes.lab.artefacts import check_manifest

FOLDER = pathlib.Path(__file__).parents[1] / "saved_models"
ENTRIES = check_manifest(FOLDER)


def test_there_are_both_networks_with_both_attentions_as_floats_and_integers():
    expected = {
        f"{network}_{attention}_fashion_mnist{kind}"
        for network in ("toy_cnn", "mobilenet_025")
        for attention in ("se", "aw")
        for kind in ("", "_int8")
    }
    assert {entry["name"] for entry in ENTRIES} >= expected


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_an_artefact_is_small_and_names_its_classes(entry):
    (path,) = (FOLDER / file for file in entry["files"])
    found = export.inspect(path)
    assert found.file_bytes < 2_000_000
    assert len(found.metadata["class_names"]) == found.outputs[0].shape[-1] == 10
    assert found.metadata["input_range"] == [0, 255]
    assert found.metadata["quantization"] == ("int8" if entry["name"].endswith("int8") else None)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_an_artefact_scores_what_its_manifest_says(entry):
    name = entry["dataset"]
    builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR") or None)
    if not builder.data_path.exists():
        pytest.skip(f"{name} is not prepared here; TFDS_DATA_DIR says where it is")
    (path,) = (FOLDER / file for file in entry["files"])
    size = export.inspect(path).inputs[0].shape[1:3]
    images, labels = data.load(name).arrays("test", image_size=size)
    accuracy = np.mean(export.run_tflite(path, images).argmax(axis=-1) == labels)
    assert entry["score"]["test_images"] == len(images)
    # Another processor may round three images to the other side.
    assert accuracy == pytest.approx(entry["score"]["test_accuracy"], abs=3e-4)
