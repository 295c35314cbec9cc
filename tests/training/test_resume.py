"""A run killed three times ends with the same bits as one that was not."""

import multiprocessing
import signal

import keras
import numpy as np
import pytest

from keras_fmm import training
from tests.training import killed_run

# Each run is a process of its own, forked from one that has imported TensorFlow and done no more.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([killed_run.__name__])
# The third epoch's second batch; then as the backup is written; then after it, before the record.
KILLS = [(2, "batch"), (3, "backup.npz"), (4, "run.json")]


def start(*arguments):
    process = PROCESSES.Process(target=killed_run.main, args=arguments)
    process.start()
    return process


def ends_with(process, code):
    process.join(timeout=120)
    assert process.exitcode == code


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = start(whole, tmp_path / "whole.npz")
    for kill in KILLS:
        ends_with(start(killed, tmp_path / "killed.npz", *kill), -signal.SIGKILL)
        if (killed / "best.keras").exists():
            keras.saving.load_model(killed / "best.keras")
    ends_with(start(killed, tmp_path / "killed.npz"), 0)
    ends_with(uninterrupted, 0)

    assert (killed / "history.csv").read_text() == (whole / "history.csv").read_text()
    runs = [training.Run(path, killed_run.CONFIG, "loss").record for path in (whole, killed)]
    for key in ("status", "config", "history", "metrics"):
        assert runs[0][key] == runs[1][key], key
    assert len(runs[0]["history"]["loss"]) == killed_run.CONFIG["epochs"]
    with np.load(tmp_path / "whole.npz") as a, np.load(tmp_path / "killed.npz") as b:
        assert len(a.files) == len(b.files) > 10
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
    best = [keras.saving.load_model(path / "best.keras") for path in (whole, killed)]
    for ours, theirs in zip(best[0].get_weights(), best[1].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    names = {path.name for path in killed.iterdir()}
    assert names == {"run.json", "history.csv", "best.keras", "backup.npz"}
