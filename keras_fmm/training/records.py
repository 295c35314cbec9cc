"""The record of a run in its folder: read it, compare it, write it."""

import datetime
import errno
import json
import shutil

from keras_fmm import files

RECORD, BACKUP, BEST, HISTORY = "run.json", "backup.npz", "best.keras", "history.csv"


def now():
    """Returns the time in UTC as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read(workdir):
    """Returns the record in a folder, or None where the folder is missing or empty.

    What `files.replacing` left in a run's folder when its process was killed is deleted.

    Args:
        workdir: `pathlib.Path`.

    Raises:
        NotADirectoryError: `workdir` is a file.
        ValueError: the folder holds something and no record.
    """
    if not workdir.exists():
        return None
    if not workdir.is_dir():
        message = f"`workdir` must be a folder. Received: {workdir}, a file. Choose another path"
        raise NotADirectoryError(errno.ENOTDIR, message)
    left = {path for name in (RECORD, BACKUP, BEST, HISTORY) for path in workdir.glob(f".{name}.*")}
    found = {path.name for path in workdir.iterdir() if path not in left}
    if found and RECORD not in found:
        raise ValueError(
            "`workdir` must be empty or a run's folder. "
            f"Received: workdir={str(workdir)!r}, which holds {sorted(found)[:3]} and no {RECORD}. "
            "Choose another workdir."
        )
    record = _parsed(workdir / RECORD) if found else None
    for path in left:
        shutil.rmtree(path)
    return record


def _parsed(path):
    try:
        record = json.loads(path.read_text())
        record["config"], record["monitor"], record["status"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be the record of a run. Received: a file that cannot be read as one "
            f"({error!r}). Choose another workdir, or delete it."
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
        temporary.write_text(json.dumps(record, indent=2) + "\n")
