"""A run ends when its patience has run out, also where it was stopped on the way."""

import json

import keras
import numpy as np
import pytest

from keras_fmm import training
from tests.training import small

# The second is best; the fourth is as good and no better.
SCORES = [1.0, 3.0, 2.0, 3.0, 2.5, 9.0]


class Scores(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs):
        logs["score"] = SCORES[epoch]


def trained(workdir, epochs, patience=3, min_delta=0.0):
    keras.utils.set_random_seed(0)
    model = small.make_model()
    run = training.Run(workdir, small.SEED, "score", "max", (), patience, min_delta)
    small.fit(model, run, epochs, before=[Scores()])
    return model, run


@pytest.mark.slow_on_tensorflow
def test_it_ends_where_it_would_have_ended(tmp_path):
    model, run = trained(tmp_path / "whole", 6)
    assert run.record["history"]["score"] == SCORES[:5]
    assert run.stopped
    _, part = trained(tmp_path / "parts", 3)
    assert not part.stopped
    resumed, run = trained(tmp_path / "parts", 6)
    assert run.record["history"]["score"] == SCORES[:5]
    small.assert_same_state(model, resumed)
    # What has stopped is not gone on with, though epochs are left.
    again = training.Run(tmp_path / "parts", small.SEED, "score", "max", patience=3)
    assert again.restore(small.make_model()) == 5
    assert again.stopped
    before = (tmp_path / "parts" / "run.json").read_text()
    with pytest.raises(ValueError, match="was not better for 3 epochs. Ask `run.stopped`"):
        trained(tmp_path / "parts", 6)
    assert (tmp_path / "parts" / "run.json").read_text() == before


@pytest.mark.slow_on_tensorflow
def test_a_little_better_is_not_better_for_patience(tmp_path):
    # From 1 to 3 is not more than 2; from 1 to 9 is.
    _, run = trained(tmp_path / "five", 3, min_delta=2.0)
    assert not run.stopped
    _, run = trained(tmp_path / "five", 6, min_delta=2.0)
    assert run.record["history"]["score"] == SCORES[:4]
    assert run.stopped
    _, run = trained(tmp_path / "six", 6, patience=5, min_delta=2.0)
    assert run.record["history"]["score"] == SCORES
    assert not run.stopped
    with pytest.raises(ValueError, match="`min_delta` must be at least 0"):
        training.Run(tmp_path / "new", small.SEED, patience=1, min_delta=-1)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow_on_tensorflow
def test_without_patience_it_does_not_end(tmp_path):
    _, run = trained(tmp_path, 6, patience=None)
    assert run.record["history"]["score"] == SCORES
    assert not run.stopped


@pytest.mark.slow_on_tensorflow
def test_a_backup_of_before_has_waited_for_nothing(tmp_path):
    trained(tmp_path, 4)
    with np.load(tmp_path / "backup.npz") as backup:
        arrays = dict(backup)
    content = json.loads(arrays["content"].item())
    assert content["state"].pop("waited") == 2
    np.savez(tmp_path / "backup.npz", **{**arrays, "content": json.dumps(content)})
    run = training.Run(tmp_path, small.SEED, "score", "max", patience=1)
    assert run.restore(small.make_model()) == 4
    assert not run.stopped


@pytest.mark.parametrize(("patience", "error"), [(0, ValueError), (True, TypeError)])
def test_refuses_what_is_no_patience(tmp_path, patience, error):
    with pytest.raises(error, match="`patience` must be"):
        training.Run(tmp_path / "run", {}, patience=patience)
    assert not (tmp_path / "run").exists()
