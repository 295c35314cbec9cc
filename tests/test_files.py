import contextlib
import os
import pathlib
import subprocess
import sys
import tracemalloc
import zipfile

import pytest

from keras_fmm import files

# The modules by themselves: importing the package takes seconds.
PRELUDE = f"""
import os, signal, sys, types
package = types.ModuleType("keras_fmm")
package.__path__ = [{str(pathlib.Path(files.__file__).parent)!r}]
sys.modules["keras_fmm"] = package
from keras_fmm import files, locks
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(script, *arguments):
    """Runs a script in a process of its own, and returns that."""
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def killed(script, *arguments):
    assert run(script, *arguments).returncode == -9


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "deep" / "score.json"
    with files.replacing(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert path.read_text() == "old"
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_folders_are_replaced_too(tmp_path):
    path = tmp_path / "model"
    for content in ("old", "new"):
        with files.replacing(path) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [pathlib.Path.touch, lambda temporary: None])
def test_a_folder_is_not_lost_to_a_file_or_to_nothing(write, tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "precious").touch()
    message = "a folder is there, which would be lost"
    with pytest.raises(IsADirectoryError, match=message), files.replacing(path) as temporary:
        write(temporary)
    assert [file.name for file in path.iterdir()] == ["precious"]


def test_a_folder_may_be_called_old_or_new(tmp_path):
    for name in ("old", "new"):
        for content in ("first", "second"):
            with files.replacing(tmp_path / name) as temporary:
                temporary.mkdir()
                (temporary / content).touch()
        assert [file.name for file in (tmp_path / name).iterdir()] == ["second"]


def test_an_error_of_another_class_and_of_another_file_says_so(tmp_path):
    message = "x could not be written.*missing"
    with (
        pytest.raises(FileNotFoundError, match=message),
        files.replacing(tmp_path / "x") as temporary,
    ):
        temporary.write_bytes((tmp_path / "missing").read_bytes())


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    message = r"could not be written \(.*\). Choose a folder to write into: a file is in"
    for path in ("file/x", "file/y/x"):
        with pytest.raises(OSError, match=message), files.replacing(tmp_path / path):
            pass


@pytest.mark.parametrize("path", [".", "..", "/"])
def test_a_folder_without_a_name_is_not_replaced(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(IsADirectoryError, match=r"a folder without a name.*Choose another name"),
        files.replacing(path),
    ):
        pytest.fail("the block was entered")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "score"
    path.write_text("old")
    process = run(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "with files.replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(bytes(1000))\n",
        path,
    )
    assert "could not be written ([Errno 27] File too large" in process.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


WRITE_AND_DIE = """
with files.replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    die()
"""


def write(path, text):
    with files.replacing(path) as temporary:
        temporary.write_text(text)


def test_what_a_killed_process_left_is_cleared_by_the_next_write_beside_it(tmp_path):
    killed(WRITE_AND_DIE, tmp_path / "model.tflite")
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".model.tflite.")
    assert files.is_temporary(left)
    write(tmp_path / "other", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_what_a_living_process_is_writing_stays(tmp_path):
    script = (
        "with files.replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('theirs')\n"
        "    print('written', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", PRELUDE + script, str(tmp_path / "a")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "written\n"
        write(tmp_path / "a", "ours")
        process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "a").read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 1
    with files.replacing(tmp_path / "a") as temporary:
        temporary.write_text("outer")
        write(tmp_path / "a", "inner")
    assert (tmp_path / "a").read_text() == "outer"


def test_what_is_somebody_elses_stays_whatever_its_name(tmp_path):
    killed(WRITE_AND_DIE, tmp_path / "x")
    (left,) = tmp_path.iterdir()
    content = (left / "lock").read_text()
    # Of a like name, with another's lock, with no lock, with a file more, as links.
    (tmp_path / ".x.mine").mkdir()
    (tmp_path / ".x.swp").write_text("mine")
    name = left.name[:-8]
    (tmp_path / f"{name}foreign0" / "lock").mkdir(parents=True)
    (tmp_path / f"{name}foreign1").mkdir()
    (tmp_path / f"{name}foreign1" / "lock").write_text("mine")
    (tmp_path / f"{name}foreign2" / "new").mkdir(parents=True)
    (tmp_path / f"{name}foreign3").mkdir()
    (tmp_path / f"{name}foreign3" / "lock").write_text(content)
    (tmp_path / f"{name}foreign3" / "thesis.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lock").write_text(content)
    (tmp_path / f"{name}foreign4").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"{name}foreign5").symlink_to(tmp_path / "missing")
    (tmp_path / f"{name}foreign6").write_text("mine")
    before = {path for path in tmp_path.rglob("*") if left not in (path, *path.parents)}
    write(tmp_path / "x", "new")
    assert set(tmp_path.rglob("*")) == before | {tmp_path / "x"}


@pytest.mark.parametrize("call", ["open", "flock", "ftruncate"])
def test_a_process_that_is_killed_before_it_has_its_lock_leaves_nothing_for_good(tmp_path, call):
    module = "fcntl" if call == "flock" else "os"
    killed(
        f"import {module}\n{module}.{call} = die\nfiles.replacing(sys.argv[1]).__enter__()",
        tmp_path / "a",
    )
    assert len(list(tmp_path.iterdir())) == 1
    write(tmp_path / "b", "")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("moved", [1, 2])
def test_a_folder_that_a_kill_took_away_comes_back(tmp_path, moved):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    killed(
        "replace, calls = os.replace, []\n"
        "def counted(*arguments):\n"
        "    replace(*arguments)\n"
        "    calls.append(arguments)\n"
        f"    if len(calls) == {moved}: die()\n"
        "os.replace = counted\n"
        "with files.replacing(sys.argv[1]) as temporary:\n"
        "    temporary.mkdir()\n"
        "    (temporary / 'new').touch()\n",
        path,
    )
    # After the first step nothing is there, after the second the new one.
    assert path.exists() == (moved == 2)
    write(tmp_path / "other", "")
    assert [file.name for file in path.iterdir()] == ["old" if moved == 1 else "new"]
    assert {file.name for file in tmp_path.iterdir()} == {"model", "other"}


def test_files_and_their_folder_reach_the_disk_before_and_after_they_take_their_place(
    tmp_path, monkeypatch
):
    events = []

    def name(descriptor):
        return pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(name(fd)), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *x: (events.append("replaced"), replace(*x)))
    write(tmp_path / "file", "")
    assert events == ["file", "replaced", tmp_path.name]
    events.clear()
    with files.replacing(tmp_path / "model") as temporary:
        (temporary / "variables").mkdir(parents=True)
        (temporary / "variables" / "index").touch()
    assert events == ["index", "variables", "model", "replaced", tmp_path.name]


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "score.json").write_text("old")
    link = tmp_path / "score.json"
    link.symlink_to(tmp_path / "store" / "score.json")
    with files.replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "store" / "score.json").read_text() == "new"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["score.json"]


def test_an_unsigned_lock_makes_no_folder_ours(tmp_path):
    folder = tmp_path / ".score.json.keras_fmm_lock"
    (folder / "new").mkdir(parents=True)
    (folder / "lock").write_text("")
    (folder / "new" / "thesis.txt").write_text("years of work")
    with files.replacing(tmp_path / "score.json") as temporary:
        temporary.write_text("{}")
    assert (folder / "new" / "thesis.txt").read_text() == "years of work"


def test_a_member_is_no_larger_than_the_archive_says(tmp_path):
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights", bytes(2**24))
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(raw)
    with zipfile.ZipFile(path) as archive, pytest.raises(zipfile.BadZipFile):
        files.unpacked(archive, "weights")
    tracemalloc.start()
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        files.unpacked(archive, "weights")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
