import hashlib
import json

import keras
import numpy as np
import pytest

from recipes.lab import artefacts


def _entry(folder, name="toy", files=("toy.tflite", "saved"), **changed):
    arguments = {
        "command": "python -m recipes.demo",
        "dataset": "digits",
        "score": {"accuracy": 0.97, "epochs": 3},
        "versions": {"keras": "3.15.1"},
        **changed,
    }
    return artefacts.manifest_entry(name, list(files), folder=folder, **arguments)


@pytest.fixture
def folder(tmp_path):
    """A folder of one artefact of two files, which its manifest lists."""
    folder = tmp_path / "saved_models"
    (folder / "saved" / "variables").mkdir(parents=True)
    (folder / "toy.tflite").write_text("weights")
    (folder / "saved" / "variables" / "data").write_text("more weights")
    artefacts.add_to_manifest(folder, _entry(folder))
    return folder


def _rewrite(folder, change):
    entries = json.loads((folder / "manifest.json").read_text())
    change(entries)
    (folder / "manifest.json").write_text(json.dumps(entries))


def test_an_entry_lists_every_file_with_its_hash(folder):
    (entry,) = artefacts.check_manifest(folder)
    assert list(entry) == ["name", "files", "command", "dataset", "score", "date", "versions"]
    assert list(entry["files"]) == ["saved/variables/data", "toy.tflite"]
    assert entry["files"]["toy.tflite"] == hashlib.sha256(b"weights").hexdigest()


def test_entries_are_sorted_and_one_of_the_same_name_is_replaced(folder):
    artefacts.add_to_manifest(folder, _entry(folder, name="alpha"))
    artefacts.add_to_manifest(folder, _entry(folder, score={"accuracy": 0.99}))
    entries = artefacts.check_manifest(folder)
    assert [entry["name"] for entry in entries] == ["alpha", "toy"]
    assert entries[1]["score"] == {"accuracy": 0.99}
    assert sorted(file.name for file in folder.iterdir()) == [
        "manifest.json",
        "saved",
        "toy.tflite",
    ]


def test_the_readme_and_the_demo_need_no_entry(folder):
    (folder / "README.md").write_text("what lies here")
    (folder / "demo").mkdir()
    (folder / "demo" / "toy.keras").write_text("a try")
    artefacts.check_manifest(folder)


def _remove(key):
    return lambda folder: _rewrite(folder, lambda entries: entries[0].pop(key))


def _set(key, value):
    return lambda folder: _rewrite(folder, lambda entries: entries[0].update({key: value}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        *[(_remove(key), f"no {key}") for key in ("name", "files", "command", "dataset")],
        *[(_remove(key), f"toy: no {key}") for key in ("score", "date", "versions")],
        (_set("files", ["toy.tflite"]), "files must be a dict, not empty"),
        (_set("files", {}), "files must be a dict, not empty"),
        (_set("score", {"accuracy": "high"}), "score accuracy must be a finite number: 'high'"),
        (_set("score", {"accuracy": float("nan")}), "score accuracy must be a finite number: nan"),
        (_set("score", {"accuracy": True}), "score accuracy must be a finite number: True"),
        (_set("date", "yesterday"), "date must be an ISO date: 'yesterday'"),
        (_set("files", {"../secret": "0"}), r"\.\./secret is outside the folder"),
        (_set("files", {"/etc/passwd": "0"}), "/etc/passwd is outside the folder"),
        (lambda folder: (folder / "toy.tflite").unlink(), "toy.tflite is missing"),
        (lambda folder: (folder / "toy.tflite").write_text("other"), "has another sha256"),
        (lambda folder: (folder / "new.keras").write_text("?"), "new.keras is in the folder and"),
        (lambda folder: (folder / "saved" / "x.pb").write_text("?"), "saved/x.pb is in the folder"),
        (lambda folder: _rewrite(folder, lambda e: e.append(e[0])), "toy: 2 entries"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "must be JSON"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "must be a JSON list"),
    ],
)
def test_each_problem_is_found(folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=message):
        artefacts.check_manifest(folder)


def test_a_link_out_of_the_folder_is_found(folder):
    (folder.parent / "elsewhere").write_text("weights")
    (folder / "toy.tflite").unlink()
    (folder / "toy.tflite").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(ValueError, match=r"toy\.tflite is outside the folder"):
        artefacts.check_manifest(folder)


def test_all_problems_are_listed_at_once(folder):
    (folder / "toy.tflite").unlink()
    (folder / "new.keras").write_text("?")
    with pytest.raises(ValueError, match=r"(?s)toy\.tflite is missing.*new.keras is in the folder"):
        artefacts.check_manifest(folder)


def test_refused_entries_leave_the_manifest_alone(folder):
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="score accuracy must be a finite number"):
        _entry(folder, score={"accuracy": float("inf")})
    with pytest.raises(FileNotFoundError):
        _entry(folder, files=["nothing.tflite"])
    (folder.parent / "outside").write_text("?")
    with pytest.raises(ValueError, match="`files` must be in the folder of the manifest"):
        _entry(folder, files=["../outside"])
    with pytest.raises(ValueError, match="no files"):
        artefacts.add_to_manifest(folder, {"name": "toy"})
    assert (folder / "manifest.json").read_bytes() == before


def test_no_manifest(tmp_path):
    with pytest.raises(FileNotFoundError):
        artefacts.check_manifest(tmp_path)


DAMAGES = {
    "empty": lambda content: b"",
    "text": lambda content: b"weights",
    "cut": lambda content: content[: len(content) // 2],
    "a hole": lambda content: content[:99] + bytes(len(content) // 2) + content[-99:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_model_is_named(tmp_path, damage):
    path = tmp_path / "best.keras"
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(path)
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(artefacts.load_model("model", path)(x), model(x))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(OSError, match=r"`model` must be a whole .keras file. Received: .*best.k"):
        artefacts.load_model("model", path)
    with pytest.raises(FileNotFoundError, match="`model` must be a .keras file that is there"):
        artefacts.load_model("model", tmp_path / "other.keras")
