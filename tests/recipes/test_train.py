"""The recipes run end to end, on the embedded digits."""

import dataclasses
import json
import math
import pathlib
import types

import keras
import numpy as np
import pytest

from keras_fmm import data, export, training
from keras_fmm.export.compare import Agreement
from recipes import demo, publish, train
from recipes.lab.artefacts import check_manifest
from recipes.lab.settings import parse

if keras.backend.backend() != "tensorflow":
    pytest.skip("the recipes export", allow_module_level=True)

SMOKE = train.Settings(smoke=True, attention="squeeze_excite", preprocessing="scale")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of one epoch: its settings and its record."""
    folder = tmp_path_factory.mktemp("runs") / "se"
    settings = dataclasses.replace(SMOKE, smoke=False, epochs=1, workdir=str(folder))
    return settings, train.main(settings)


@pytest.mark.slow_on_tensorflow
def test_a_run_leaves_record_curves_and_exports_that_agree(finished, tmp_path):
    settings, record = finished
    folder = tmp_path / settings.workdir
    assert record == json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["config"]["attention"] == "squeeze_excite"
    assert len(record["history"]["val_accuracy"]) == 1
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    metrics = record["metrics"]
    for row in metrics["exports"].values():
        assert row["max_difference"] < 1e-5
        assert row["images"] == 359
    page = (folder / "report.html").read_text()
    right = round(metrics["test_accuracy"] * 359)
    assert f"{right} of 359)" in page
    assert page.count("data:image/png") > 2
    # The score is that of the exported file, which takes raw images.
    images, labels = data.load("digits").arrays("test")
    outputs = export.run_tflite(folder / "export" / "model.tflite", images)
    assert np.mean(outputs.argmax(axis=1) == labels) == pytest.approx(metrics["test_accuracy"])


@pytest.mark.slow_on_tensorflow
def test_a_finished_run_is_not_trained_again_and_another_is_refused(finished, capsys):
    settings, record = finished
    capsys.readouterr()
    run, _, _, metrics = train.train(settings)
    assert run.record["history"] == record["history"]
    assert metrics["test_accuracy"] == record["metrics"]["test_accuracy"]
    assert "has its 1 epochs already" in capsys.readouterr().out
    with pytest.raises(
        ValueError, match=r"run differs in attention \('squeeze_excite' there, None here\)"
    ):
        train.main(dataclasses.replace(settings, attention=None))


@pytest.mark.slow_on_tensorflow
def test_fewer_epochs_than_there_are_change_nothing(tmp_path):
    settings = dataclasses.replace(
        SMOKE, smoke=False, attention=None, epochs=2, workdir=str(tmp_path)
    )
    train.train(settings)
    before = (tmp_path / "run.json").read_text()
    message = "must not be fewer than the run already has. Received: epochs=1 for .* which has 2"
    with pytest.raises(ValueError, match=message):
        train.main(dataclasses.replace(settings, epochs=1))
    assert json.loads((tmp_path / "run.json").read_text())["config"]["epochs"] == 2
    assert (
        json.loads(before)["history"] == json.loads((tmp_path / "run.json").read_text())["history"]
    )


@pytest.mark.slow_on_tensorflow
def test_a_run_in_two_parts_is_the_run_in_one(tmp_path):
    """The recipe hands the epoch to the data and to fit, and takes the score of the best epoch."""
    settings = dataclasses.replace(
        SMOKE, smoke=False, seed=1, attention=None, batch_size=128, learning_rate=0.5
    )

    def run(name, epochs):
        keras.utils.set_random_seed(99)
        given = dataclasses.replace(settings, epochs=epochs, workdir=str(tmp_path / name))
        run, best, _, metrics = train.train(given)
        with np.load(tmp_path / name / "backup.npz") as backup:
            arrays = {key: backup[key] for key in backup.files if key != "content"}
        return run.record["history"], arrays, best, metrics

    history, arrays, best, metrics = run("whole", 4)
    run("parts", 1)
    again, parts, _, score = run("parts", 4)
    assert again == history
    assert score == metrics
    for name, array in arrays.items():
        np.testing.assert_array_equal(parts[name], array)
    # The data are cut by the seed, and the best epoch is not the last.
    assert np.argmax(history["val_accuracy"]) < 3
    dataset = data.load("digits", settings.validation_fraction, seed=1)
    _, accuracy = best.evaluate(*dataset.arrays("validation"), verbose=0)
    assert accuracy == pytest.approx(max(history["val_accuracy"]))
    _, accuracy = best.evaluate(*dataset.arrays("test"), verbose=0)
    assert metrics["test_accuracy"] == pytest.approx(accuracy)


@pytest.mark.slow
def test_a_stopped_run_of_all_options_is_the_run_in_one(tmp_path, monkeypatch):
    """The schedule, the loss scale, what is drawn and the patience go on where they were."""
    settings = dataclasses.replace(
        SMOKE,
        smoke=False,
        attention=None,
        epochs=4,
        batch_size=431,
        precision="mixed_float16",
        augmentation="RandomRotation(0.05), MixUp",
        class_weights="balanced",
        schedule="cosine",
        warmup_epochs=0.5,
        patience=3,
    )

    def run(name):
        given = dataclasses.replace(settings, workdir=str(tmp_path / name))
        run, best, _, metrics = train.train(given)
        with np.load(tmp_path / name / "backup.npz") as backup:
            arrays = {key: backup[key] for key in backup.files if key != "content"}
        return run.record, arrays, best, metrics

    record, arrays, best, metrics = run("whole")
    begin = training.Run._begin_epoch

    def stop(self, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        begin(self, epoch)

    monkeypatch.setattr(training.Run, "_begin_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        run("parts")
    monkeypatch.undo()
    again, parts, _, score = run("parts")
    assert again["history"] == record["history"]
    assert len(again["history"]["loss"]) == 4
    assert score == metrics
    for name, array in arrays.items():
        np.testing.assert_array_equal(parts[name], array)
    # The settings are the run's; labels that are whole are what it is scored on.
    for name in train.LATER[:5]:
        assert record["config"][name] == getattr(settings, name)
    _, accuracy = best.evaluate(*data.load("digits").arrays("test"), verbose=0)
    assert accuracy == pytest.approx(metrics["test_accuracy"], abs=1e-6)
    longer = dataclasses.replace(settings, epochs=6, workdir=str(tmp_path / "whole"))
    with pytest.raises(ValueError, match="differs in epochs"):
        train.train(longer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": "RandomFlop"}, "Received: 'RandomFlop'. Did you mean RandomFlip"),
        ({"augmentation": "RandomCrop(4, 4)"}, "of the same size. Received: RandomCrop"),
        ({"class_weights": "ten=2"}, "must name classes of the dataset. Received: 'ten'"),
        ({"class_weights": ("1=2", "1=3")}, "NAME=NUMBER once for each class"),
        ({"class_weights": ("1=2", "2=many")}, "weight must be a number"),
        ({"batch_size": 1295}, "Received: 1295, for 1294 of 'digits'. Give a smaller --batch-size"),
        ({"warmup_epochs": 30.0}, "shorter than the run. Received: warmup_epochs=30 for 30"),
    ],
)
def test_wrong_options_leave_no_folder(changes, message, tmp_path):
    given = dataclasses.replace(SMOKE, smoke=False, workdir=str(tmp_path / "run"), **changes)
    with pytest.raises(ValueError, match=message):
        train.main(given)
    assert not (tmp_path / "run").exists()


def test_a_run_without_later_options_has_the_settings_that_it_had(finished):
    _, record = finished
    assert not {*train.LATER} & {*record["config"]}


@pytest.mark.parametrize("name", ["seed", "precision", "attention", "batch_size"])
def test_what_a_run_is_made_of_may_not_change(name, finished):
    settings, _ = finished
    other = {"seed": 7, "precision": "mixed_float16", "attention": "eca", "batch_size": 32}[name]
    with pytest.raises(ValueError, match=f"whose run differs in {name}"):
        train.train(dataclasses.replace(settings, **{name: other}))


def test_the_workdir_is_named_for_the_run_where_none_is_given():
    assert str(train.default_workdir(SMOKE)) == "runs/toy_cnn_squeeze_excite_digits_smoke"
    settings = train.Settings(dataset="imagenette/160px-v2")
    assert str(train.default_workdir(settings)) == "runs/toy_cnn_plain_imagenette_160px_v2"


@pytest.mark.slow
def test_two_replicas_and_half_precision(tmp_path):
    settings = dataclasses.replace(
        SMOKE,
        # Seven steps, in a graph.
        smoke=False,
        epochs=1,
        attention="eca",
        workdir=str(tmp_path / "run"),
        strategy="mirrored",
        precision="mixed_bfloat16",
        # 145 images to validate on leave a last batch of one, for two replicas.
        validation_fraction=0.101,
        batch_size=144,
    )
    assert data.load("digits", 0.101).sizes["validation"] % 144 == 1
    record = train.main(settings)
    assert record["environment"]["device"]["replicas"] == 2
    assert np.isfinite(record["history"]["val_loss"]).all()
    assert record["metrics"]["exports"]["tflite"]["max_difference"] < 0.02


@pytest.mark.slow_on_tensorflow
def test_the_learning_rate_is_scaled_on_request(tmp_path):
    settings = dataclasses.replace(
        SMOKE, attention=None, workdir=str(tmp_path), scale_learning_rate=True, batch_size=128
    )
    _, best, _, _ = train.train(settings)
    assert float(best.optimizer.learning_rate.numpy()) == pytest.approx(0.05 * 128 / 256)


def test_an_unknown_dataset_leaves_no_folder(tmp_path):
    settings = dataclasses.replace(SMOKE, dataset="didgits", workdir=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="didgits"):
        train.main(settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_publish_measures_the_file_and_lists_it(finished, tmp_path):
    settings, record = finished
    given = publish.Settings(settings.workdir, "toy", folder=str(tmp_path))
    entry = publish.main(given)
    assert check_manifest(tmp_path) == [entry]
    assert list(entry["files"]) == ["toy.tflite"]
    expected = record["metrics"]["test_accuracy"]
    assert entry["score"]["test_accuracy"] == pytest.approx(expected, abs=1e-5)
    # The command makes the same run again.
    trained, _, published = entry["command"].partition(" && ")
    again, _ = parse(train.Settings, "", trained.split()[3:])
    workdir = f"runs/{pathlib.Path(settings.workdir).name}"
    assert again == dataclasses.replace(settings, workdir=workdir)
    again, _ = parse(publish.Settings, "", published.split()[3:])
    assert again == publish.Settings(workdir, "toy")

    with pytest.raises(ValueError, match="`name` must be new. Received: name='toy'"):
        publish.main(given)
    # In its place, of another kind.
    entry = publish.main(dataclasses.replace(given, replace=True, quantization="int8"))
    assert check_manifest(tmp_path) == [entry]
    assert entry["command"].endswith("--name toy --quantization int8")
    assert entry["score"]["test_accuracy"] == pytest.approx(expected, abs=0.05)
    found = export.read_metadata(tmp_path / "toy.tflite")
    assert found["quantization"] == "int8"
    assert found["class_names"] == list("0123456789")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, "`run` must be the folder of a run"),
        ({"status": "running", "config": {"smoke": False}}, "which is running. Give its command"),
        ({"status": "finished", "config": {"smoke": True}}, "which is a smoke test"),
        ({"status": "finished", "config": {"smoke": False}}, "must be a run of recipes.train"),
        ({"status": "finished", "config": {"seed": 0}}, "must be a run of recipes.train"),
        ({"status": "finished"}, "cannot be read as a record"),
        ([3], "cannot be read as a record"),
    ],
)
def test_publish_refuses_what_is_no_finished_run(record, message, tmp_path):
    if record:
        (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message):
        publish.main(publish.Settings(str(tmp_path), "toy", folder=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_publish_refuses_a_name_that_leads_elsewhere(finished, tmp_path):
    settings, _ = finished
    with pytest.raises(ValueError, match=r"small letters, digits and underscores. Received: name="):
        publish.main(publish.Settings(settings.workdir, "../toy", folder=str(tmp_path / "out")))


@pytest.mark.slow
def test_the_demo_exports_the_better_one_and_says_that_it_agrees(tmp_path, capsys):
    folder = tmp_path / "demo"
    demo.main(demo.Settings(folder=str(folder), smoke=True))
    shown = capsys.readouterr().out
    assert "The exported files agree with Keras." in shown
    assert "plain                 56,394        461,440" in shown
    assert "squeeze_excite        57,716        465,920" in shown
    files = {path.name for path in folder.iterdir()}
    exported = {"curves.png", "model.keras", "model.tflite", "saved_model"}
    assert files == exported | {"plain", "squeeze_excite", "demo.json"}
    # The next one begins with an empty folder, unless something of the user's is in it.
    for name in ("thesis.txt", "plain/thesis.txt", "curves.png"):
        before = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_text("mine")
        with pytest.raises(ValueError, match=f"which holds {name}. Choose another folder"):
            demo.remove_earlier(folder)
        assert (folder / name).read_text() == "mine"
        (folder / name).unlink()
        if before:
            (folder / name).write_bytes(before)
    demo.remove_earlier(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["thesis.txt", "curves.png", "demo.json", "plain/run.json"])
def test_the_demo_refuses_a_folder_that_it_did_not_write(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"files": {}, "plain": "a folder"}')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="must be new, empty or as an earlier demo left it"):
        demo.main(demo.Settings(folder=str(tmp_path), smoke=True))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_demo_leaves_an_empty_folder_and_a_link_of_the_users(tmp_path):
    (tmp_path / "demo").mkdir()
    demo.remove_earlier(tmp_path / "demo")
    assert (tmp_path / "demo").is_dir()
    (tmp_path / "demo" / "saved_model").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="which holds saved_model"):
        demo.remove_earlier(tmp_path / "demo")


def test_the_demo_takes_the_better_one_and_sees_a_disagreement():
    histories = {"a": {"val_accuracy": [0.5, 0.8]}, "b": {"val_accuracy": [0.9, 0.1]}}
    assert demo.better_on_validation(histories) == "b"
    assert demo.better_on_validation({"a": histories["a"], "c": histories["a"]}) == "a"
    row = types.SimpleNamespace(name="tflite", max_difference=1e-6, same_class=1.0)
    demo.check_agreement([row])
    for wrong in ({"max_difference": 1e-2}, {"max_difference": float("nan")}, {"same_class": 0.9}):
        with pytest.raises(RuntimeError, match="must say what Keras says. Received: namespace"):
            demo.check_agreement([types.SimpleNamespace(**{**vars(row), **wrong})])


LARGE = ("resnet34", "resnet50")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
        for name in train.MODELS
    ],
)
def test_every_backbone_can_be_named(name):
    settings = dataclasses.replace(SMOKE, model=name, attention="eca")
    digits = data.load("digits")
    if name.startswith("mobilenet"):
        with pytest.raises(ValueError, match="at least 32"):
            train.build(settings, digits, 0.1)
        settings = dataclasses.replace(settings, image_size=32)
    model = train.build(settings, digits, 0.1)
    assert model.output_shape == (None, 10)
    assert any("_attention" in layer.name for layer in model.layers)


def test_an_artefact_that_gives_nan_is_recorded_without_numbers(tmp_path, monkeypatch, capsys):
    row = Agreement("tflite", math.nan, math.nan, 0.0, 2)
    monkeypatch.setattr(train, "export_all", lambda *given: [row])
    run = training.Run(tmp_path, {})
    metrics = {"parameters": 1, "multiply_adds": 1, "test_accuracy": 0.5}
    record = train.conclude(run, None, None, None, metrics, tmp_path)
    assert record["metrics"]["exports"]["tflite"]["max_difference"] is None
    assert "differs by at most nan" in capsys.readouterr().out


def test_a_class_with_a_comma_has_its_weight():
    names = ["cat, black", "dog"]
    for words in (["--class-weights", "cat, black=2", "--class-weights", "dog=0.5"], []):
        given, _ = parse(train.Settings, "", words)
        assert given.class_weights == tuple(words[1::2])
    assert train.class_weights(("cat, black=2", "dog=0.5"), names) == {
        "cat, black": 2.0,
        "dog": 0.5,
    }
    assert train.class_weights(("cat, black=2",), names) == {"cat, black": 2.0}
    assert train.class_weights(("cat=2, dog=1",), ["cat", "dog"]) == "cat=2, dog=1"
    assert train.class_weights("balanced", names) == "balanced"
