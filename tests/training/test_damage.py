"""Every damage of a run's folder is one clear line, and nothing in it changes."""

import functools
import importlib.util
import json
import os
import shutil
import zipfile

import numpy as np
import pytest

from keras_fmm import training
from tests.training import small


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of a run with two epochs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run = training.Run(folder, small.SEED, "loss")
    small.fit(small.make_model(), run, epochs=2)
    run.finish()
    return folder


def content(folder):
    return {
        path.name: path.read_bytes() if path.is_file() else None
        for path in folder.iterdir()
        # Opening a run writes its record anew, and holds it.
        if path.name not in ("run.json", ".run.lock")
    }


@functools.cache
def same_model():
    model = small.make_model()
    model.optimizer.build(model.trainable_variables)
    return model


def refused(folder, expected, kind=ValueError):
    """Opening or restoring says one line, and neither the folder nor the model changes."""
    model = same_model()
    before, state = content(folder), small.state(model)
    with pytest.raises(kind, match=expected) as error:
        training.Run(folder, small.SEED, "loss").restore(model)
    assert "\n" not in str(error.value)
    assert content(folder) == before
    for was, now in zip(state, small.state(model), strict=True):
        np.testing.assert_array_equal(was, now)


def damaged_text(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def npy(path):
    with open(path, "wb") as file:
        np.save(file, np.ones(3))


def pickled(path):
    with open(path, "wb") as file:
        np.save(file, np.array([{}]), allow_pickle=True)


CURE = r".*(Choose another workdir|another workdir, or delete|Delete the run's folder|Move it away)"
TEXTS = {
    "empty": "",
    "null": "null",
    "a number": "3",
    "a list": "[]",
    "a dict": "{}",
    "deep": "[" * 100_000,
    "cut": '{"config": {',
    "no text": b"\xff\xfe\x00",
    "a huge number": "1" * 5000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_record_of_other_content(whole, tmp_path, text):
    shutil.copytree(whole, tmp_path / "run")
    damaged_text(tmp_path / "run" / "run.json", text)
    refused(tmp_path / "run", "run.json must be the record of a run" + CURE)


@pytest.mark.parametrize("value", [..., 3, [3], {"loss": 3}, None])
@pytest.mark.parametrize("key", ["config", "monitor", "history", "seconds_per_epoch", "status"])
def test_a_record_with_a_part_that_is_missing_or_of_another_kind(whole, tmp_path, key, value):
    if (key, value) in [("config", {"loss": 3}), ("seconds_per_epoch", [3])]:
        return  # It is of the right kind.
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    if value is ...:
        del record[key]
    else:
        record[key] = value
    path.write_text(json.dumps(record))
    refused(tmp_path / "run", f"must be the record of a run.*{key} " + CURE)


def not_a_file(kind, path):
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.parent / "missing")


KINDS = {"folder": "a folder", "link": "a link to nothing", "pipe": "no file"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["run.json", "backup.npz", "best.keras", "history.csv"])
def test_what_is_no_file_in_the_place_of_one(whole, tmp_path, name, kind):
    shutil.copytree(whole, tmp_path / "run")
    not_a_file(kind, tmp_path / "run" / name)
    refused(tmp_path / "run", f"{name} in a run's folder must be a file.*{KINDS[kind]}" + CURE)


def rewritten(**changes):
    """Returns a function that changes entries of a .npz; those that are None go."""

    def change(path):
        with np.load(path) as archive:
            arrays = {**archive, **changes}
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})

    return change


def with_content(change):
    def changed(path):
        with np.load(path) as archive:
            found = json.loads(archive["content"].item())
        rewritten(content=json.dumps(change(found)))(path)

    return changed


def with_state(**changes):
    return with_content(lambda found: {**found, "state": {**found["state"], **changes}})


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 255  # Of the content: a few bytes of a zip mean nothing.
    path.write_bytes(data)


BACKUPS = {
    **{name: lambda path, text=text: damaged_text(path, text) for name, text in TEXTS.items()},
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a bit": flipped,
    "an array": npy,
    "a pickle": pickled,
    "another archive": lambda path: zipfile.ZipFile(path, "w").close(),
    "no content": rewritten(content=None),
    "content of numbers": rewritten(content=np.ones(2)),
    "deep content": rewritten(content="[" * 100_000),
    "a variable less": rewritten(variable_0=None),
    "content null": with_content(lambda found: None),
    "content a list": with_content(lambda found: []),
    "no names": with_content(lambda found: {"state": found["state"]}),
    "names of numbers": with_content(lambda found: {**found, "names": [3] * len(found["names"])}),
    "names a number": with_content(lambda found: {**found, "names": 3}),
    "state null": with_content(lambda found: {**found, "state": None}),
    "no state": with_content(lambda found: {"names": found["names"]}),
    "no history": with_state(history=None),
    "history of numbers": with_state(history=[1, 2]),
    "history of str": with_state(history=[{"loss": "low"}] * 2),
    "seconds of another length": with_state(seconds=[1.0]),
    "best a str": with_state(best="low"),
}


@pytest.mark.parametrize("damage", BACKUPS.values(), ids=BACKUPS)
def test_a_damaged_backup(whole, tmp_path, damage):
    shutil.copytree(whole, tmp_path / "run")
    damage(tmp_path / "run" / "backup.npz")
    refused(tmp_path / "run", "backup.npz must be a backup of a run" + CURE)


BEST = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("mine"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "a bit": flipped,
    "another archive": lambda path: shutil.copy(path.with_name("backup.npz"), path),
}


@pytest.mark.parametrize("damage", BEST.values(), ids=BEST)
def test_a_damaged_best_model(whole, tmp_path, damage):
    shutil.copytree(whole, tmp_path / "run")
    damage(tmp_path / "run" / "best.keras")
    refused(tmp_path / "run", "best.keras, which is damaged" + CURE)


def test_a_best_model_of_another_architecture(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    small.make_model(units=5).save(tmp_path / "run" / "best.keras")
    refused(tmp_path / "run", r"best.keras, which is another model: .* \(.*5.*4" + CURE)
    small.make_model("sgd").save(tmp_path / "run" / "best.keras")
    training.Run(tmp_path / "run", small.SEED, "loss").restore(same_model())


def test_a_best_model_that_is_missing_where_the_record_was_not_written_yet(whole, tmp_path):
    # As a kill between the backup and the record leaves it.
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "best.keras").unlink()
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "history": {}}))
    refused(tmp_path / "run", "finished epochs and no best.keras")


def test_a_link_to_nothing_as_the_folder(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "missing")
    with pytest.raises(NotADirectoryError, match=r"a link to nothing. Choose another path"):
        training.Run(tmp_path / "run", small.SEED)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="Keras' callback needs TensorFlow"
)
def test_a_file_in_the_place_of_the_logs(tmp_path):
    (tmp_path / "run").mkdir()
    run = training.Run(tmp_path / "run", small.SEED, "loss")
    run.restore(same_model())
    (tmp_path / "run" / "tensorboard").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"tensorboard must be a folder.*Move it away"):
        run.callbacks(tensorboard=True)


def test_files_of_like_names_are_neither_in_the_way_nor_removed(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / ".best.keras.mine").mkdir()
    (folder / ".best.keras.mine" / "thesis.txt").write_text("mine")
    (folder / ".run.json.swp").write_text("an editor's")
    (folder / ".backup.npz.link").symlink_to(tmp_path / "missing")
    run = training.Run(folder, small.SEED, "loss")
    small.fit(small.make_model(), run, epochs=3)
    assert (folder / ".best.keras.mine" / "thesis.txt").read_text() == "mine"
    assert (folder / ".run.json.swp").read_text() == "an editor's"
    assert (folder / ".backup.npz.link").is_symlink()
