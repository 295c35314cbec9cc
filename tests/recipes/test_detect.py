"""`recipes.detect` from end to end: a run, the run again, and its scores on other images."""

import json

import keras
import numpy as np
import pytest

from keras_fmm import training
from recipes import detect, train
from recipes.lab.settings import WRITTEN, start

XML = """<annotation><filename>{0}.png</filename>
<size><width>96</width><height>96</height><depth>1</depth></size>
<object><name>7</name>
<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>30</xmax><ymax>50</ymax></bndbox></object></annotation>
"""


def run(*words):
    return start(detect.main, detect.Settings, "", [*words, "--verbose", "0"])


@pytest.mark.slow
def test_runs_end_to_end(tmp_path, capsys):
    workdir = tmp_path / "run"
    words = ("--smoke", "--attention", "eca", "--width", "4", "--filters", "8")
    record = run(*words, "--workdir", str(workdir))
    assert record["status"] == "finished"
    assert len(record["history"]["val_loss"]) == 1
    assert record["metrics"]["images"] == 8
    assert record["config"]["learning_rate"] == 0.004
    names = {path.name for path in workdir.iterdir()}
    assert {"best.keras", "detector.keras", "gallery.png", "run.json"} <= names
    assert run(*words, "--workdir", str(workdir))["history"] == record["history"]

    folder = tmp_path / "other"
    for part in ("JPEGImages", "Annotations"):
        (folder / part).mkdir(parents=True)
    for name in ("a", "b", "c"):
        noise = np.random.default_rng(0).integers(0, 255, (96, 96, 1)).astype("uint8")
        keras.utils.save_img(folder / "JPEGImages" / f"{name}.png", noise, scale=False)
        (folder / "Annotations" / f"{name}.xml").write_text(XML.format(name), encoding="utf-8")
    of_others = ("--workdir", str(workdir), "--evaluate", str(folder), "--format", "voc")
    with pytest.raises(SystemExit, match="Received: --no-zoom --epochs 3, and .* otherwise"):
        run(*words, *of_others, "--epochs", "3", "--no-zoom")
    run(*words, *of_others)
    capsys.readouterr()
    scores = run(*of_others)
    assert json.loads(capsys.readouterr().out) == scores
    assert scores["images"] == 3
    assert list(scores["by_class"]) == ["7"]


@pytest.mark.parametrize(
    ("given", "side", "rate"),
    [
        ({}, 96, 0.004),
        ({}, 256, 0.002),
        ({"batch_size": 8}, 96, 0.002),
        ({"detector": "ssd300"}, 96, 0.002),
        ({"learning_rate": 0.0}, 96, 0.0),
    ],
)
def test_the_rate_is_by_batch_and_detector_where_none_is_given(given, side, rate):
    assert detect.learning_rate_of(detect.Settings(**given), (side, side)) == rate


@pytest.mark.parametrize(
    ("widths", "more", "match"),
    [
        (range(96, 104), (), "Add --image-size 256."),
        (8 * [64], ("--detector", "ssd300"), "images of 64x96 of 'voc'. Add --image-size 300."),
        (2 * [96], (), "voc', without any for test. Add images to train on"),
        ([96], (), "voc', without any for validation, test. Add images to train on"),
    ],
)
def test_a_folder_that_cannot_be_trained_on(tmp_path, widths, more, match):
    folder = tmp_path / "voc"
    for part in ("JPEGImages", "Annotations"):
        (folder / part).mkdir(parents=True)
    for index, width in enumerate(widths):
        image = np.zeros((96, width, 1), "uint8")
        keras.utils.save_img(folder / "JPEGImages" / f"{index}.png", image, scale=False)
        text = XML.format(index).replace("<width>96", f"<width>{width}")
        (folder / "Annotations" / f"{index}.xml").write_text(text, encoding="utf-8")
    words = ("--dataset", str(folder), "--format", "voc", "--workdir", str(tmp_path / "run"))
    with pytest.raises(SystemExit, match=match):
        run(*words, "--smoke", "--width", "4", "--filters", "4", *more)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "text", "rule"),
    [
        ("--learning-rate", "-1", "at least 0.0"),
        ("--smallest", "-3", "at least 1.0"),
        ("--smallest", "nan", "at least 1.0"),
        ("--smallest", "1e30", "at most 10000.0"),
        ("--box-weight", "nan", "at least 0.0"),
        ("--seed", "5000000000", "at most 4294967295"),
    ],
)
def test_a_number_out_of_range_is_refused(flag, text, rule, capsys):
    with pytest.raises(SystemExit):
        run(flag, text, "--evaluate", "images")
    assert f"{flag}: must be {rule}. Received: {text}" in capsys.readouterr().err


def test_images_that_are_too_narrow_once_they_are_smaller():
    dataset = type("Dataset", (), {"input_shape": (4000, 60, 3), "name": "strips"})
    with pytest.raises(ValueError, match=r"sides of 32 .* 60x4000 of 'strips'. Add --image-size"):
        detect.size_of(detect.Settings(), dataset)
    assert detect.size_of(detect.Settings(image_size=64), dataset) == (64, 64)


def test_crowds_are_not_missed():
    annotation = {"boxes": np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60.0]])}
    annotation |= {"labels": np.zeros(3, int), "crowd": np.array([False, True, False])}
    found = detect.missed(annotation, np.array([[0, 0, 10, 10.0]]), np.array([0]))
    assert found.tolist() == [[50, 50, 60, 60]]


@pytest.mark.parametrize(
    ("words", "received"),
    [
        ("--detector ssd300 --box-loss giou --smallest 8", "--box-loss giou --smallest 8.0"),
        ("--detector ssd300 --box-weight 2", "--box-weight 2.0"),
        ("--detector faster_rcnn --box-loss giou", "--box-loss giou"),
    ],
)
def test_a_flag_of_no_use_is_refused(tmp_path, monkeypatch, words, received):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"Received: {received}. Leave it out."):
        run(*words.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"status": "finished", "config": {}}'])
def test_a_damaged_record_is_one_clear_line(tmp_path, record):
    (tmp_path / "run.json").write_text(record, encoding="utf-8")
    with pytest.raises(SystemExit, match="run.json must be the record of a run. Received: a file"):
        run("--workdir", str(tmp_path), "--evaluate", "images")


def test_a_run_that_has_not_finished_is_not_scored(tmp_path):
    with pytest.raises(SystemExit, match="whose run is none. Train it first"):
        run("--workdir", str(tmp_path), "--evaluate", "images")


@pytest.mark.parametrize(
    ("config", "name", "match"),
    [
        ({}, "digits_on_canvas", "must be a folder of .* that is there. Received: name='digits_on"),
        ({"format": "voc"}, ".", "with 0 images and 1 classes, read as voc. .*--format"),
        (None, ".", "Received: .*detector.keras, which cannot be read as a model"),
    ],
)
def test_what_is_wrong_with_other_images(tmp_path, monkeypatch, config, name, match):
    monkeypatch.chdir(tmp_path)
    record = {"status": "finished", "config": config or {}, "metrics": {"class_names": ["7"]}}
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    detector = tmp_path / "detector.keras"
    keras.Sequential([keras.Input((96, 96, 1)), keras.layers.Flatten()]).save(detector)
    if config is None:
        detector.write_bytes(detector.read_bytes()[:1000])
    with pytest.raises(SystemExit, match=match):
        run("--workdir", str(tmp_path), "--evaluate", name)


@pytest.mark.parametrize(("recipe", "dataset"), [(detect, "digits_on_canvas"), (train, "digits")])
def test_what_recipes_write_is_no_change_of_the_code(recipe, dataset, tmp_path, monkeypatch):
    def begun(*args, ignored=(), **kwargs):
        raise InterruptedError(*ignored)

    monkeypatch.setattr(training, "Run", begun)
    with pytest.raises(InterruptedError) as found:
        recipe.main(recipe.Settings(dataset, workdir=str(tmp_path / "run")))
    assert found.value.args == WRITTEN
