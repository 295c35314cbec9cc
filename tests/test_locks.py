import os
import subprocess
import sys
import threading

import pytest

from keras_fmm import locks
from tests.test_files import PRELUDE, killed

HOLD = """
lock = locks.Lock(sys.argv[1])
print(os.getpid(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Gives a living process that has the lock `tmp_path / "lock"`."""
    command = [sys.executable, "-c", PRELUDE + HOLD, str(tmp_path / "lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == f"{process.pid}\n"
        yield process
        process.kill()


def test_another_process_is_told_who_has_it(tmp_path, holder):
    expected = rf"^process {holder.pid} on \S+ since \d{{4}}-\d\d-\d\dT[\d:+]+ has it$"
    for take in (locks.Lock, locks.lock):
        with pytest.raises(BlockingIOError, match=expected):
            take(tmp_path / "lock")
    assert not locks.is_free(tmp_path / "lock")
    holder.communicate("\n", timeout=60)
    assert not (tmp_path / "lock").exists()
    locks.Lock(tmp_path / "lock").release()


def test_it_ends_with_its_process_however_that_ends(tmp_path, holder):
    holder.kill()
    holder.wait(timeout=60)
    assert (tmp_path / "lock").exists()
    lock = locks.Lock(tmp_path / "lock")
    assert lock.held()
    assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()


def test_a_fork_that_outlives_its_process_does_not_have_it(tmp_path):
    # The child would hold the parent's lock for a minute.
    killed(
        "import time\n"
        "lock = locks.Lock(sys.argv[1])\n"
        "if os.fork() == 0:\n"
        "    os.close(1), os.close(2)\n"
        "    open(sys.argv[2], 'w').close()\n"
        "    time.sleep(60)\n"
        "    os._exit(0)\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.01)\n"
        "die()\n",
        tmp_path / "lock",
        tmp_path / "forked",
    )
    assert locks.is_free(tmp_path / "lock")


def test_the_end_of_a_fork_leaves_the_lock_of_its_parent(tmp_path):
    killed(
        "lock = locks.Lock(sys.argv[1])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    lock.release()\n"
        "    sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "assert lock.held() and not locks.is_free(sys.argv[1])\n"
        "die()\n",
        tmp_path / "lock",
    )


def test_a_thread_gets_the_lock_that_it_has_and_no_other_thread_does(tmp_path):
    lock = locks.lock(tmp_path / "lock")
    assert locks.lock(tmp_path / "lock") is lock
    caught = []

    def elsewhere():
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} "):
            locks.lock(tmp_path / "lock")
        caught.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert caught


def test_the_lock_of_a_thread_that_ended_is_had_again(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(locks.lock(tmp_path / "lock")))
    thread.start()
    thread.join()
    assert locks.lock(tmp_path / "lock") is found[0]


def test_a_file_that_was_removed_is_the_lock_no_more_and_a_later_one_stays(tmp_path):
    lock = locks.Lock(tmp_path / "lock")
    (tmp_path / "lock").unlink()
    assert not lock.held()
    other = locks.Lock(tmp_path / "lock")
    lock.release()
    assert other.held()


def test_a_lock_that_is_dropped_is_released(tmp_path):
    lock = locks.Lock(tmp_path / "lock")
    assert lock.held()
    del lock
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["text", "folder", "link", "dangling link", "pipe"])
def test_what_is_no_lock_is_neither_taken_nor_changed(tmp_path, kind):
    path = tmp_path / "lock"
    target = tmp_path / "thesis"
    target.write_text("mine")
    if kind == "text":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target if kind == "link" else tmp_path / "missing")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileExistsError, match="A lock must be a file of"):
        locks.Lock(path)
    assert locks.holder(path) is None
    assert sorted(tmp_path.iterdir()) == before
    assert target.read_text() == "mine"
    assert kind != "text" or path.read_text() == "mine"


def test_a_released_lock_is_released_again_without_modules(tmp_path, monkeypatch):
    """As Python does when it ends."""
    lock = locks.Lock(tmp_path / "lock")
    lock.release()
    monkeypatch.setattr(locks, "os", None)
    lock.release()
