"""The record of a run in its folder: read it, compare it, write it."""

import datetime
import errno
import json
import os

from keras_fmm import files, locks

RECORD, BACKUP, BEST, HISTORY = "run.json", "backup.npz", "best.keras", "history.csv"
LOCK = ".run.lock"
_KINDS = {
    "name": str,
    "status": str,
    "reason": (str, type(None)),
    "config": dict,
    "monitor": str,
    "environment": dict,
    "start": str,
    "end": (str, type(None)),
    "seconds_per_epoch": list,
    "history": dict,
    "metrics": dict,
}


def now():
    """Returns the time in UTC as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def check_folder(workdir):
    """Raises unless a folder is missing, empty or a run's; what `files` left there is a run's.

    Args:
        workdir: `pathlib.Path`.

    Raises:
        NotADirectoryError: `workdir` is a file, or a link to nothing.
        ValueError: the folder holds something and no record, or no file under the name of one.
        OSError: the folder cannot be read.
    """
    if not os.path.lexists(workdir):
        return
    if not workdir.is_dir():
        kind = "a link to nothing" if workdir.is_symlink() and not workdir.exists() else "a file"
        message = f"`workdir` must be a folder. Received: {workdir}, {kind}. Choose another path"
        raise NotADirectoryError(errno.ENOTDIR, message)
    try:
        paths = list(workdir.iterdir())
    except OSError as error:
        message = f"{workdir} could not be read ({error}). Choose another workdir"
        raise OSError(error.errno, message) from error
    for path in paths:
        if path.name in (RECORD, BACKUP, BEST, HISTORY) and not path.is_file():
            raise ValueError(
                f"What is called {path.name} in a run's folder must be a file. Received: {path}, "
                f"{_what(path)}. Move it away, or choose another workdir."
            )
    found = {
        path.name
        for path in paths
        if not (path.name == LOCK and locks.holder(path) is not None)
        and not files.is_temporary(path)
    }
    if found and RECORD not in found:
        raise ValueError(
            "`workdir` must be empty or a run's folder. "
            f"Received: workdir={str(workdir)!r}, which holds {sorted(found)[:3]} and no {RECORD}. "
            "Choose another workdir."
        )


def _what(path):
    if path.is_dir():
        return "a folder"
    return "a link to nothing" if path.is_symlink() else "no file"


def read(workdir):
    """Returns the record in a folder, or None where there is none.

    Args:
        workdir: `pathlib.Path`.

    Raises:
        ValueError: it cannot be read as a record.
    """
    path = workdir / RECORD
    if not os.path.lexists(path):
        return None
    try:
        record = json.loads(path.read_text())
        if not isinstance(record, dict):
            raise TypeError(f"it holds {type(record).__name__} in the place of a dict")
        for key, kind in _KINDS.items():
            if key not in record:
                raise KeyError(f"{key} is missing")
            if not isinstance(record[key], kind):
                raise TypeError(f"{key} is of type {type(record[key]).__name__}")
        if not all(isinstance(values, list) for values in record["history"].values()):
            raise TypeError("history is no dict of lists")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        reason = error if isinstance(error, OSError) or not error.args else error.args[0]
        raise ValueError(
            f"{path} must be the record of a run. Received: a file that cannot be read as one "
            f"({reason}). Choose another workdir, or delete this one to start over."
        ) from error
    return record


def refuse_differences(workdir, there, here, resumable):
    """Raises unless two runs have the same settings.

    Args:
        workdir: `pathlib.Path`, for the message.
        there: dict, the settings of the run in the folder.
        here: dict, the settings given now.
        resumable: collection of keys that may differ.

    Raises:
        ValueError: they differ; the message names the first three settings that do.
    """
    unset = object()
    differing = [
        f"{key} ({there.get(key, 'not set')!r} there, {here.get(key, 'not set')!r} here)"
        for key in dict.fromkeys([*there, *here])
        if key not in resumable and there.get(key, unset) != here.get(key, unset)
    ]
    if differing:
        raise ValueError(
            "`workdir` must be new or hold a run of the same settings. "
            f"Received: workdir={str(workdir)!r}, whose run differs in "
            f"{', '.join(differing[:3])}. Choose another workdir, or delete that one."
        )


def write(workdir, record):
    """Writes the record, whole or not at all.

    Raises:
        OSError: the folder cannot be written or is full.
    """
    with files.replacing(workdir / RECORD) as temporary:
        temporary.write_text(_text(record))


def is_written(workdir, record):
    """Whether a folder has this record, or none."""
    path = workdir / RECORD
    return not os.path.lexists(path) or path.read_text() == _text(record)


def _text(record):
    # JSON has no NaN and no infinity, which a metric of an epoch may be.
    record = json.loads(json.dumps(record), parse_constant=lambda text: None)
    return json.dumps(record, indent=2) + "\n"
