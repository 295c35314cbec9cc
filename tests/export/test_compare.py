import dataclasses
import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_fmm import export
from keras_fmm.export.compare import _agreement
from tests.export import toys


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    model, folder = toys.cnn(), tmp_path_factory.mktemp("compare")
    saved_model = export.to_saved_model(model, folder / "toy")
    return model, saved_model, export.to_tflite(model, folder / "toy.tflite", batch_size=3)


@pytest.mark.slow_on_tensorflow
def test_both_artefacts_say_what_keras_says(written):
    model, saved_model, tflite = written
    report = export.compare(model, toys.images(7), saved_model, tflite, batch_size=2)
    assert [row.name for row in report] == ["saved_model", "tflite"]
    for row in report:
        assert row.max_difference <= 1e-5
        assert row.mean_difference <= row.max_difference
        assert (row.same_class, row.images) == (1.0, 7)
    assert report["tflite"] is report.rows[1]
    with pytest.raises(KeyError):
        report["onnx"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.rows = ()


def test_a_changed_model_is_seen(written):
    _, saved_model, tflite = written
    keras.utils.set_random_seed(1)
    report = export.compare(toys.cnn(), toys.images(7), saved_model, tflite)
    assert all(row.max_difference > 1e-3 for row in report)


def test_the_table_has_a_line_for_each_artefact(written):
    report = export.compare(written[0], toys.images(), written[1])
    heading, line = str(report).splitlines()
    assert heading.split()[:2] == ["artefact", "images"]
    assert line.split()[0] == "saved_model"
    assert line.endswith("100.00%")


def test_numbers_by_hand():
    expected = np.array([[0.0, 1.0], [2.0, 0.0]])
    row = _agreement("tflite", expected, np.array([[0.0, 1.5], [2.0, 2.5]], "float32"))
    assert row == export.Agreement("tflite", 2.5, 0.75, 0.5, 2)


@pytest.mark.parametrize("both", [True, False])
def test_nan_is_not_dropped(both):
    broken = np.array([[0.0, 1.0], [np.nan, 0.0]])
    whole = np.array([[0.0, 1.0], [2.0, 0.0]])
    for expected, received in ((broken, broken),) if both else ((broken, whole), (whole, broken)):
        row = _agreement("tflite", expected, received)
        assert math.isnan(row.max_difference)
        assert math.isnan(row.mean_difference)
        assert row.same_class == 0.5
        assert "nan" in export.Report((row,)).table()


def test_a_model_that_gives_nan_is_reported(tmp_path):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, ops.log(ops.mean(inputs, axis=(1, 2)) - 9))
    path = export.to_saved_model(model, tmp_path / "toy")
    assert math.isnan(export.compare(model, toys.images(), path)["saved_model"].max_difference)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_an_output_without_classes_has_no_class_agreement(shape):
    row = _agreement("tflite", np.ones(shape), np.ones(shape))
    assert row.same_class is None
    assert str(export.Report((row,))).endswith("-")


def test_a_dense_prediction_is_compared_position_by_position():
    expected = np.zeros((1, 2, 2, 3))
    received = expected.copy()
    received[0, 1, 1, 2] = 1
    assert _agreement("tflite", expected, received).same_class == 0.75


def test_refused_arguments(written, tmp_path):
    model, saved_model, tflite = written
    with pytest.raises(ValueError, match="`saved_model` or `tflite` must be given"):
        export.compare(model, toys.images())
    with pytest.raises(ValueError, match=r"have the shape \(None, 8, 8, 3\).*\(5, 9, 9, 3\)"):
        export.compare(model, toys.images(size=9), saved_model)
    inputs = keras.Input((8, 8, 3))
    other = keras.Model(inputs, layers.Flatten()(inputs))
    with pytest.raises(ValueError, match="shape of the model's"):
        export.compare(other, toys.images(), saved_model, tflite)
    pair = keras.Model(inputs, [inputs, layers.Flatten()(inputs)])
    with pytest.raises(ValueError, match="must be those of the model: output_0, output_1. Rec"):
        export.compare(pair, toys.images(), saved_model)
    with pytest.raises(FileNotFoundError):
        export.compare(model, toys.images(), tmp_path / "nothing")
