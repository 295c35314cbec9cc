"""The recipes run end to end, on the embedded digits."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_fmm import data, export
from recipes import demo, publish, train

if keras.backend.backend() != "tensorflow":
    pytest.skip("the recipes export", allow_module_level=True)

SMOKE = train.Settings(smoke=True, attention="cbam", preprocessing="scale")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of one epoch: its settings and its record."""
    settings = dataclasses.replace(SMOKE, workdir=str(tmp_path_factory.mktemp("runs") / "cbam"))
    return settings, train.main(settings)


def test_a_run_leaves_record_curves_and_exports_that_agree(finished, tmp_path):
    settings, record = finished
    folder = tmp_path / settings.workdir
    assert record == json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["config"]["attention"] == "cbam"
    assert len(record["history"]["val_accuracy"]) == 1
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    metrics = record["metrics"]
    for row in metrics["exports"].values():
        assert row["max_difference"] < 1e-5
        assert row["images"] == 359
    # The score is that of the exported file, which takes raw images.
    images, labels = data.load("digits").arrays("test")
    outputs = export.run_tflite(folder / "export" / "model.tflite", images)
    assert np.mean(outputs.argmax(axis=1) == labels) == pytest.approx(metrics["test_accuracy"])


def test_a_finished_run_is_not_trained_again_and_another_is_refused(finished):
    settings, record = finished
    again = train.main(settings)
    assert again["history"] == record["history"]
    assert again["metrics"]["test_accuracy"] == record["metrics"]["test_accuracy"]
    with pytest.raises(ValueError, match=r"run differs in attention \('cbam' there, None here\)"):
        train.main(dataclasses.replace(settings, attention=None))


def test_two_replicas_and_half_precision(tmp_path):
    settings = dataclasses.replace(
        SMOKE,
        workdir=str(tmp_path / "run"),
        strategy="mirrored",
        precision="mixed_bfloat16",
        # 145 images to validate on leave a last batch of one, for two replicas.
        validation_fraction=0.101,
        batch_size=18,
    )
    assert data.load("digits", 0.101).sizes["validation"] % 18 == 1
    record = train.main(settings)
    assert record["environment"]["device"]["replicas"] == 2
    assert np.isfinite(record["history"]["val_loss"]).all()
    assert record["metrics"]["exports"]["tflite"]["max_difference"] < 0.02


def test_an_unknown_dataset_leaves_no_folder(tmp_path):
    settings = dataclasses.replace(SMOKE, dataset="didgits", workdir=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="didgits"):
        train.main(settings)
    assert not (tmp_path / "run").exists()


def test_publish_measures_the_file_and_lists_it(finished, tmp_path):
    settings, record = finished
    entry = publish.main(publish.Settings(settings.workdir, "toy", str(tmp_path)))
    assert export.check_manifest(tmp_path) == [entry]
    assert list(entry["files"]) == ["toy.tflite"]
    expected = record["metrics"]["test_accuracy"]
    assert entry["score"]["test_accuracy"] == pytest.approx(expected, abs=1e-5)
    assert entry["command"] == (
        "python -m recipes.train --preprocessing scale --attention cbam --smoke"
    )


def test_publish_refuses_a_run_that_is_not_finished(tmp_path):
    (tmp_path / "run.json").write_text('{"status": "running"}')
    with pytest.raises(ValueError, match=r"`run` must be finished. Received: .*which is running"):
        publish.main(publish.Settings(str(tmp_path), "toy", str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_the_demo_exports_the_better_one_and_says_that_it_agrees(tmp_path, capsys):
    assert demo.main(tmp_path / "demo", smoke=True)
    shown = capsys.readouterr().out
    assert "The exported files agree with Keras." in shown
    assert "plain                 56,394        461,440" in shown
    assert "squeeze_excite        57,716        465,920" in shown
    files = {path.name for path in (tmp_path / "demo").iterdir()}
    exported = {"curves.png", "model.keras", "model.tflite", "saved_model"}
    assert files == exported | {"plain", "squeeze_excite"}
