import json
import socket
import subprocess

import keras
import pytest

from keras_fmm import training
from tests.training import small


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="mirrors are TensorFlow's")
def test_names_versions_device_and_replicas():
    found = training.environment(training.strategy("mirrored"))
    assert found["versions"]["keras"] == keras.__version__
    assert found["versions"]["backend"] in found["versions"]
    assert found["device"]["replicas"] == 2
    assert found["device"]["cores"] >= 1
    assert found["device"]["names"]


def test_what_is_no_strategy_is_refused():
    for function in (training.environment, training.replicas):
        with pytest.raises(TypeError, match=r"must be a `.*: strategy=3"):
            function(3)


def test_tells_no_path_and_no_host(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = json.dumps(training.environment())
    assert str(tmp_path) not in text
    assert f'"{socket.gethostname()}"' not in text


def test_commit_of_the_working_directory(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert training.environment()["git"] is None
    git("init")
    assert training.environment()["git"] is None  # no commit yet
    (tmp_path / "a.txt").write_text("1")
    git("add", "a.txt")
    git("commit", "-m", "first")
    git("tag", "-a", "v1", "-m", "a tag must not take the commit's place")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "untracked.txt").write_text("2")
    assert training.environment()["git"] == {"commit": commit, "dirty": False}
    (tmp_path / "a.txt").write_text("3")
    assert training.environment()["git"] == {"commit": commit, "dirty": True}
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    ignored = training.environment(ignored=["../a.txt", "/elsewhere"])["git"]
    assert ignored == {"commit": commit, "dirty": False}
    assert training.environment(ignored=["../a"])["git"]["dirty"]
    assert not training.environment(ignored=[tmp_path])["git"]["dirty"]
    # And as a run records it: made, and gone on with.
    run = training.Run(tmp_path / "run", {}, "loss", ignored=["../a.txt"])
    assert run.record["environment"]["git"] == ignored
    small.fit(small.make_model(), run, epochs=1)
    assert run.record["environment"]["git"] == ignored
    assert training.Run(tmp_path / "other", {}).record["environment"]["git"]["dirty"]
