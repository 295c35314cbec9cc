"""One run at a time has a folder; who comes second is told who has it."""

import gc
import os
import subprocess
import sys
import threading

import keras
import pytest

from keras_fmm import training
from tests.test_files import PRELUDE, killed
from tests.training import small

IN_USE = r"`workdir` must not be in use.*process {} on \S+ since 2\d+-\S+ has it.*another workdir"


@pytest.fixture
def other(tmp_path):
    """Gives a process that has just made a run in `tmp_path`: it has no record yet."""
    script = "lock = locks.Lock(sys.argv[1])\nprint(flush=True)\nsys.stdin.readline()"
    command = [sys.executable, "-c", PRELUDE + script, str(tmp_path / ".run.lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_folder_of_a_living_process_is_refused_and_then_free(tmp_path, other):
    expected = IN_USE.format(other.pid)
    with pytest.raises(BlockingIOError, match=expected):
        training.Run(tmp_path, small.SEED)
    assert [path.name for path in tmp_path.iterdir()] == [".run.lock"]
    other.kill()
    other.wait(timeout=60)
    training.Run(tmp_path, small.SEED)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.slow_on_tensorflow
def test_another_process_is_told_of_this_one(tmp_path):
    script = (
        "try: locks.Lock(sys.argv[1])\n"
        "except BlockingIOError as error: print(error)\n"
        "else: print('free')\n"
    )

    def told():
        command = [sys.executable, "-c", PRELUDE + script, str(tmp_path / ".run.lock")]
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout

    run = training.Run(tmp_path, small.SEED, "loss")
    assert f"process {os.getpid()} on" in told()
    small.fit(small.make_model(), run, epochs=1)
    gc.collect()
    assert f"process {os.getpid()} on" in told()
    run.finish()
    assert told() == "free\n"
    run = training.Run(tmp_path, small.SEED, "loss")
    assert "has it" in told()
    del run
    assert told() == "free\n"
    with pytest.raises(ValueError, match="differs in seed"):
        training.Run(tmp_path, {"seed": 1}, "loss")
    assert told() == "free\n"
    # The earlier run is still there, and does not keep what it lost.
    earlier = training.Run(tmp_path, small.SEED, "loss")
    later = training.Run(tmp_path, small.SEED, "loss")
    assert "has it" in told()
    del later
    assert told() == "free\n"
    earlier.finish()


def test_another_thread_is_refused_whatever_its_settings(tmp_path):
    run = training.Run(tmp_path, small.SEED, "loss")
    errors = []

    def start():
        with pytest.raises(BlockingIOError, match=IN_USE.format(os.getpid())) as error:
            training.Run(tmp_path, {"seed": 1}, "loss")
        errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert errors
    small.fit(small.make_model(), run, epochs=1)
    assert run.record["config"] == small.SEED


@pytest.mark.slow_on_tensorflow
def test_a_later_run_of_the_thread_takes_the_folder_and_the_earlier_one_says_so(tmp_path):
    earlier = training.Run(tmp_path, small.SEED, "loss")
    model = small.make_model()
    later = None

    def take():
        nonlocal later
        later = training.Run(tmp_path, small.SEED, "loss")

    taken = pytest.raises(RuntimeError, match="a later `Run` took over.*make a new `Run`")
    with taken:
        small.fit(model, earlier, epochs=3, before=[small.Call(1, take)])
    assert earlier.record["status"] == "running"
    with taken:
        earlier.finish()
    with taken:
        earlier.restore(model)
    # Nothing of the second epoch was written: not its best model either.
    other = small.make_model()
    assert later.restore(other) == 1
    assert len(later.record["history"]["loss"]) == 1
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert best.optimizer.iterations == other.optimizer.iterations == 2


@pytest.mark.slow_on_tensorflow
def test_a_run_that_is_refused_takes_nothing(tmp_path):
    run = training.Run(tmp_path, small.SEED, "loss")
    small.fit(small.make_model(), run, epochs=1)
    with pytest.raises(ValueError, match="differs in seed"):
        training.Run(tmp_path, {"seed": 1}, "loss")
    small.fit(small.make_model(), run, epochs=2)
    run.finish()
    assert run.record["status"] == "finished"


@pytest.mark.slow_on_tensorflow
def test_a_finished_run_goes_on_unless_another_did(tmp_path):
    run = training.Run(tmp_path, small.SEED, "loss")
    model = small.make_model()
    small.fit(model, run, epochs=1)
    run.finish()
    small.fit(model, run, epochs=2)
    run.finish()
    other = training.Run(tmp_path, small.SEED, "loss")
    with pytest.raises(RuntimeError, match="a later `Run` took over"):
        run.finish()
    small.fit(model, other, epochs=3)
    other.finish({"loss": 0.5})
    with pytest.raises(RuntimeError, match="a later `Run` took over"):
        run.restore(model)
    other.restore(model)
    assert len(other.record["history"]["loss"]) == 3


def test_a_folder_that_was_removed_meanwhile_is_written_anew(tmp_path):
    run = training.Run(tmp_path / "run", small.SEED, "loss")
    model = small.make_model()
    lost = small.Call(0, lambda: (tmp_path / "run").rename(tmp_path / "moved"))
    small.fit(model, run, epochs=2, before=[lost])
    assert (tmp_path / "run" / "backup.npz").exists()


def test_a_lock_of_the_user_is_refused_and_kept(tmp_path):
    training.Run(tmp_path, small.SEED)
    (tmp_path / ".run.lock").write_text("mine")
    with pytest.raises(FileExistsError, match="A lock must be a file of"):
        training.Run(tmp_path, small.SEED)
    assert (tmp_path / ".run.lock").read_text() == "mine"


def test_a_lock_whose_process_was_killed_is_taken_over(tmp_path):
    killed("lock = locks.Lock(sys.argv[1])\ndie()", tmp_path / ".run.lock")
    run = training.Run(tmp_path, small.SEED)
    assert f"process {os.getpid()} on" in (tmp_path / ".run.lock").read_text()
    run.finish()
    assert not (tmp_path / ".run.lock").exists()
