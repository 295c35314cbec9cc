import pathlib
import subprocess
import sys

import pytest

from keras_fmm import files


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
    message = r"could not be written \(.*\). Choose a folder that can be written"
    with (
        pytest.raises(OSError, match=message),
        files.replacing(tmp_path / "file" / "x"),
    ):
        pass


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "score"
    path.write_text("old")
    # The file by itself, from its folder: importing the package takes seconds.
    script = (
        "import resource, sys\n"
        "import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "with files.replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(bytes(100))\n"
    )
    folder = pathlib.Path(files.__file__).parent
    run = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, cwd=folder
    )
    assert "OSError" in run.stderr
    assert "could not be written ([Errno 27] File too large" in run.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
