"""Writing files whole or not at all."""

import contextlib
import errno
import os
import pathlib
import shutil
import tempfile

from keras_fmm import locks

# What a temporary folder of `replacing` holds: a lock, what is written, what was there before.
_MARKER, _NEW, _OLD = "lock", "new", "old"
_INFIX = ".keras_fmm_"
_NO_FOLDER = "Choose a folder to write into: a file is in the place of one"
_CURES = {
    errno.EISDIR: "Choose another name, which no folder has",
    errno.EEXIST: _NO_FOLDER,
    errno.ENOTDIR: _NO_FOLDER,
}


@contextlib.contextmanager
def replacing(path):
    """Gives a temporary path beside `path`, which takes `path`'s place if the block succeeds.

    A block that raises, or a process that is killed in it, leaves at `path` what was there before.
    A killed one leaves a hidden folder beside it too, which the next write into the same folder
    clears. (A folder cannot be replaced in one step: a kill between two leaves nothing at `path`
    until that write, which puts back what was there.) What is written has reached the disk before
    it takes its place, so that a power failure leaves the one or the other too. The temporary path
    keeps the ending of `path` (writers choose their format by it) and may be made a file or a
    folder by the block; a folder is replaced by a folder only. A missing parent folder is made. A
    link at `path` stays; what it leads to is written.

    Args:
        path: str or `os.PathLike`. The file or folder to write.

    Yields:
        `pathlib.Path`, where to write; nothing is there yet.

    Raises:
        OSError: the folder cannot be written or is full, with the cure.

    Example:

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with replacing(folder / "score.json") as temporary:
    ...     _ = temporary.write_text("{}")
    >>> (folder / "score.json").read_text()
    '{}'
    """
    path = pathlib.Path(os.path.realpath(path) if os.path.islink(path) else path)
    with writing(path):
        if path.name in ("", ".."):
            raise IsADirectoryError(errno.EISDIR, "it is a folder without a name of its own")
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path.parent)
        folder, lock = _temporary_folder(path)
        try:
            (folder / _NEW).mkdir()
            temporary = folder / _NEW / path.name
            yield temporary
            _to_disk(temporary)
            if path.is_dir():
                _replace_folder(path, temporary, folder / _OLD)
            else:
                os.replace(temporary, path)
            _folder_to_disk(path.parent)
        finally:
            _remove(folder, lock)


def _temporary_folder(path):
    """Returns a new folder beside `path` and the lock in it."""
    while True:
        folder = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}{_INFIX}"))
        try:
            return folder, locks.Lock(folder / _MARKER)
        except (FileNotFoundError, BlockingIOError):
            pass  # Another process took it for one that was left, before it was locked.
        except BaseException:
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise


@contextlib.contextmanager
def writing(path):
    """Gives an OSError of the block the path that was to be written, and the cure."""
    try:
        yield
    except (BlockingIOError, locks.NoLockError):  # of a lock, with a cure of its own
        raise
    except OSError as error:
        cure = _CURES.get(error.errno, "Choose a folder that can be written and has room")
        # Of the subclass that belongs to the number.
        raise OSError(error.errno, f"{path} could not be written ({error}). {cure}") from error


def _replace_folder(path, temporary, old):
    if not temporary.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder is there, which would be lost")
    old.mkdir()
    os.replace(path, old / path.name)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(old / path.name, path)
        raise


def _to_disk(path):
    """Waits until a file, or a folder with all that is in it, is on the disk."""
    if path.is_dir():
        for entry in path.iterdir():
            _to_disk(entry)
        _folder_to_disk(path)
    elif path.exists():
        _sync(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def _folder_to_disk(path):
    if os.name != "nt":  # Windows opens no folders.
        _sync(path, os.O_RDONLY)


def _sync(path, flags):
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network drives do not offer it.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def is_temporary(path):
    """Whether `path` is what `replacing` makes beside a file while it writes, or left of that.

    A name like one's is not enough: there is nothing else in it, and its lock is one.
    """
    path = pathlib.Path(path)
    with contextlib.suppress(OSError):
        if path.name.startswith(".") and _INFIX in path.name and not path.is_symlink():
            held = {entry.name for entry in path.iterdir()}
            writer = locks.holder(path / _MARKER)
            if writer:
                return held <= {_MARKER, _NEW, _OLD}
            # A lock that nobody has signed yet is the first that is made.
            return not held or (writer == "" and held == {_MARKER})
    return False


def _clear(folder):
    """Removes what processes that are dead left of `replacing`; puts back what they moved."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if is_temporary(path):
                with contextlib.suppress(OSError):  # Another may clear it too.
                    _clear_one(path)


def _clear_one(folder):
    marker = folder / _MARKER
    if locks.is_free(marker):
        lock = locks.Lock(marker)
        _put_back(folder)
        _remove(folder, lock)
    else:
        folder.rmdir()  # fails unless it is empty


def _put_back(folder):
    """Where a process was killed between the two steps, nothing is at the path: returns the old."""
    for old in (folder / _OLD).glob("*"):
        path = folder.parent / old.name
        if (folder / _NEW / old.name).exists() and not os.path.lexists(path):
            os.replace(old, path)


def _remove(folder, lock):
    """Removes a temporary folder, its lock last: what is left after a kill is still known."""
    for name in (_NEW, _OLD):
        shutil.rmtree(folder / name, ignore_errors=True)
    lock.release()
    with contextlib.suppress(OSError):
        folder.rmdir()


def unpacked(archive, name):
    """Returns the bytes of a member of a `zipfile.ZipFile`, no more than it says that they are."""
    with archive.open(name) as file:
        return file.read(archive.getinfo(name).file_size + 1)


def check_unpacked(archive, most=20):
    """Raises ValueError if what is in an archive is far larger, unpacked, than its file.

    Such a file is no mishap: numbers that were learned or measured hardly pack.

    Args:
        archive: `zipfile.ZipFile`; only its table of contents is read.
        most: int, default 20. How many times as large all of it may be. 64 MB are never too much.
    """
    archive.fp.seek(0, os.SEEK_END)
    packed = archive.fp.tell()
    size = sum(member.file_size for member in archive.infolist())
    if size > max(2**26, most * packed):
        raise ValueError(f"{packed} bytes that unpack to {size}")
