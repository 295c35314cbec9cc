"""What a run refuses as its folder, and what it does when the disk is full."""

import errno
import json

import keras
import numpy as np
import pytest

from keras_fmm import training
from tests.test_files import WRITE_AND_DIE, killed
from tests.training import small


def test_another_runs_folder_names_the_settings_that_differ(tmp_path):
    run = training.Run(tmp_path, {"learning_rate": 0.1, "seed": 0, "old": 1}, monitor="loss")
    small.fit(small.make_model(), run, epochs=1)
    expected = (
        r"differs in learning_rate \(0.1 there, 0.2 here\), old \(1 there, 'not set' here\), "
        r"monitor \('loss' there, 'val_loss' here\). Choose another workdir, or delete"
    )
    with pytest.raises(ValueError, match=expected):
        training.Run(tmp_path, {"learning_rate": 0.2, "seed": 0}, monitor="val_loss")


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"must be a folder.*Choose another path"):
        training.Run(path, small.SEED)
    assert path.read_text() == "mine"


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"\['thesis.tex'\] and no run.json"):
        training.Run(tmp_path, small.SEED)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_record_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match="must be the record of a run"):
        training.Run(tmp_path, small.SEED)


def test_what_a_kill_left_in_a_new_folder_is_cleared(tmp_path):
    killed(WRITE_AND_DIE, tmp_path / "run.json")
    killed("lock = locks.Lock(sys.argv[1])\ndie()", tmp_path / ".run.lock")
    assert len(list(tmp_path.iterdir())) == 2
    training.Run(tmp_path, small.SEED)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"a": object()}, TypeError),
        ({"a": float("nan")}, ValueError),
        ({"a": 1j}, TypeError),
        ({"a": np.array([np.inf])}, ValueError),
        ({"a": {1}}, TypeError),
    ],
)
def test_a_config_json_cannot_hold_is_refused(tmp_path, config, error):
    with pytest.raises(error, match="`config` must be a dict that JSON can hold"):
        training.Run(tmp_path, config)
    run = training.Run(tmp_path, small.SEED)
    with pytest.raises(error, match="`metrics` must be a dict that JSON can hold"):
        run.finish(config)
    assert run.record["status"] == "created"
    run.finish({"a": np.float32(0.5), "b": [keras.ops.ones(2)], "c": {"d": None}})
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["metrics"] == {"a": 0.5, "b": [[1.0, 1.0]], "c": {"d": None}}


@pytest.mark.parametrize("value", [3, [], [1], "abc"])
def test_what_is_no_dict_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match="`config` must be a dict. Received"):
        training.Run(tmp_path, value)
    with pytest.raises(TypeError, match="`metrics` must be a dict. Received"):
        training.Run(tmp_path, small.SEED).finish(value)


def test_the_record_is_json_where_a_metric_is_nan(tmp_path):
    def refuse(text):
        raise AssertionError(text)

    run = training.Run(tmp_path, small.SEED, "loss")
    model = small.make_model()
    first = run.restore(model)
    spoil = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: logs.update(odd=np.nan))
    model.fit(small.X, small.Y, initial_epoch=first, callbacks=[spoil, *run.callbacks()], verbose=0)
    record = json.loads((tmp_path / "run.json").read_text(), parse_constant=refuse)
    assert record["history"]["odd"] == [None]
    again = training.Run(tmp_path, small.SEED, "loss")
    assert again.restore(small.make_model()) == 1


@pytest.mark.parametrize(
    ("workdir", "error"),
    [("", ValueError), (None, TypeError), (3, TypeError), (b"x", TypeError), ("a\0", ValueError)],
)
def test_what_is_no_path_is_refused(tmp_path, monkeypatch, workdir, error):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match="`workdir` must be a str .* Received: workdir="):
        training.Run(workdir, small.SEED)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_known_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="Choose a folder to write into"):
        training.Run(tmp_path / "file" / "run", small.SEED)


def test_a_full_disk_is_known_before_training(tmp_path):
    with small.unlimited_after():
        small.limit_files(10)
        with pytest.raises(OSError, match="Choose a folder that can be written and has room"):
            training.Run(tmp_path / "run", small.SEED)


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("monitor", ["loss", "accuracy"])
def test_a_disk_that_fills_up_keeps_the_last_whole_epoch(tmp_path, monitor):
    model = small.make_model()
    run = training.Run(tmp_path, small.SEED, monitor)
    full = small.Call(1, lambda: small.limit_files(2000))
    with (
        small.unlimited_after(),
        pytest.raises(OSError, match=r"could not be written .* has room") as error,
    ):
        small.fit(model, run, epochs=3, before=[full])
    assert error.value.errno == errno.EFBIG
    again = training.Run(tmp_path, small.SEED, monitor)
    other = small.make_model()
    assert again.restore(other) == 1
    small.fit(other, again, epochs=3)
    assert len(again.record["history"]["loss"]) == 3
