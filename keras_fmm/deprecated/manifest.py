"""A manifest of artefacts: where each comes from, what it scored and what its files must be."""

import datetime
import hashlib
import json
import math
import pathlib

from keras_fmm import checks
from keras_fmm import files as whole_files

_MANIFEST = "manifest.json"
# What lies in the folder of artefacts and is none.
_UNLISTED_FILES = ("README.md", _MANIFEST)
_UNLISTED_FOLDER = "demo"
_KEYS = {
    "name": str,
    "files": dict,
    "command": str,
    "dataset": str,
    "score": dict,
    "date": str,
    "versions": dict,
}


def manifest_entry(name, files, command, dataset, score, versions, folder, date=None):
    """Returns the manifest's entry for one artefact, with the sha256 of each of its files.

    Args:
        name: str, names the artefact in the manifest.
        files: list of paths of its files, in `folder` (relative ones are taken from there). A
            folder, such as a SavedModel, stands for all files in it.
        command: str, the command that made it.
        dataset: str, what it was trained on.
        score: dict of str to number, what it scored there, e.g. {"accuracy": 0.97}.
        versions: dict of str to str, what made it, e.g. `training.environment()["versions"]`.
        folder: str or `os.PathLike`, where the manifest is.
        date: str, an ISO date. Default: today.

    Returns:
        dict of these and the files, as {path relative to the folder: sha256}.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is outside `folder`, or an argument is none of the above.

    Example: see `add_to_manifest`.
    """
    folder = pathlib.Path(folder)
    hashes = {}
    for path in [folder / path for path in checks.listed("files", files)]:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() or not file.exists():
                hashes[_relative(file, folder)] = _sha256(file)
    entry = {
        "name": name,
        "files": dict(sorted(hashes.items())),
        "command": command,
        "dataset": dataset,
        "score": score,
        "date": date or datetime.date.today().isoformat(),
        "versions": versions,
    }
    _refuse(_entry_problems(entry), "An entry of a manifest must be whole")
    return entry


def add_to_manifest(folder, entry):
    """Puts an entry into the folder's manifest, in the place of one of the same name.

    The manifest is a JSON list sorted by name, and is replaced whole. A folder without one gets it.

    Args:
        folder: str or `os.PathLike`, where the manifest is or will be.
        entry: dict, from `manifest_entry`.

    Returns:
        `pathlib.Path`, the manifest.

    Raises:
        ValueError: the entry or the manifest that is there is not as it should be.
        OSError: the manifest cannot be written; the old one is still there.

    Example:

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "toy.tflite").write_text("weights")
    >>> entry = manifest_entry(
    ...     "toy",
    ...     files=["toy.tflite"],
    ...     command="python -m recipes.demo",
    ...     dataset="digits",
    ...     score={"accuracy": 0.97},
    ...     versions={"keras": "3.15.1"},
    ...     folder=folder,
    ... )
    >>> add_to_manifest(folder, entry).name
    'manifest.json'
    >>> [entry["name"] for entry in check_manifest(folder)]
    ['toy']
    """
    _refuse(_entry_problems(entry), "An entry of a manifest must be whole")
    path = pathlib.Path(folder) / _MANIFEST
    entries = _read(path) if path.exists() else []
    entries = [old for old in entries if old.get("name") != entry["name"]] + [entry]
    text = json.dumps(sorted(entries, key=lambda old: str(old.get("name"))), indent=2)
    with whole_files.replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


def check_manifest(folder):
    """Checks that a folder holds what its manifest says, and nothing else.

    Every entry has its keys, every file it lists is there, inside the folder and of that sha256, no
    two entries share a name, and every file in the folder is listed, but for README.md, the
    manifest and the folder `demo`.

    Args:
        folder: str or `os.PathLike`, where the manifest is.

    Returns:
        list of dict, the entries.

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: something is wrong; the message lists all that is.

    Example: see `add_to_manifest`.
    """
    folder = pathlib.Path(folder)
    entries = _read(folder / _MANIFEST)
    names = [str(entry.get("name")) for entry in entries]
    problems = [f"{name}: {names.count(name)} entries" for name in names if names.count(name) > 1]
    listed = set()
    for entry in entries:
        wrong = _entry_problems(entry)
        problems += wrong
        if not wrong:
            listed.update(entry["files"])
            problems += _file_problems(entry, folder)
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder)
        known = path.as_posix() in (*_UNLISTED_FILES, *listed)
        if not (known or file.is_dir() or path.parts[0] == _UNLISTED_FOLDER):
            problems.append(f"{path.as_posix()} is in the folder and in no entry")
    _refuse(list(dict.fromkeys(problems)), f"{folder / _MANIFEST} must list what is in its folder")
    return entries


def _entry_problems(entry):
    """Returns what is wrong with an entry by itself, as a list of str."""
    name = entry.get("name")
    problems = []
    for key, kind in _KEYS.items():
        if key not in entry:
            problems.append(f"{name}: no {key}")
        elif not isinstance(entry[key], kind) or not entry[key]:
            problems.append(f"{name}: {key} must be a {kind.__name__}, not empty: {entry[key]!r}")
    if problems:
        return problems
    for key, value in entry["score"].items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            problems.append(f"{name}: score {key} must be a finite number: {value!r}")
    try:
        datetime.datetime.fromisoformat(entry["date"])
    except ValueError:
        problems.append(f"{name}: date must be an ISO date: {entry['date']!r}")
    return problems


def _file_problems(entry, folder):
    problems = []
    for path, sha256 in entry["files"].items():
        file = folder / path
        if not file.resolve().is_relative_to(folder.resolve()):
            problems.append(f"{entry['name']}: {path} is outside the folder")
        elif not file.is_file():
            problems.append(f"{entry['name']}: {path} is missing")
        elif _sha256(file) != sha256:
            problems.append(f"{entry['name']}: {path} has another sha256 than the entry says")
    return problems


def _relative(file, folder):
    try:
        return file.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        raise ValueError(
            f"`files` must be in the folder of the manifest, {folder}. Received: {file}"
        ) from None


def _sha256(file):
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read(path):
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be JSON. Received: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} must be a JSON list of objects. Received: {str(entries)[:80]}")
    return entries


def _refuse(problems, rule):
    if problems:
        raise ValueError(f"{rule}. Received:\n" + "\n".join(f"- {line}" for line in problems))
