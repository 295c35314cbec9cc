"""What a run refuses as its folder, and what it does when the disk is full."""

import errno

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
    [({"a": object()}, TypeError), ({"a": float("nan")}, ValueError), (3, TypeError)],
)
def test_a_config_json_cannot_hold_is_refused(tmp_path, config, error):
    with pytest.raises(error, match="`config` must be a dict that JSON can hold"):
        training.Run(tmp_path, config)


def test_a_folder_that_cannot_be_made_is_known_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="Choose a folder to write into"):
        training.Run(tmp_path / "file" / "run", small.SEED)


def test_a_full_disk_is_known_before_training(tmp_path):
    with small.unlimited_after():
        small.limit_files(10)
        with pytest.raises(OSError, match="Choose a folder that can be written and has room"):
            training.Run(tmp_path / "run", small.SEED)


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
