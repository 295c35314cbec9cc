"""Writing files whole or not at all."""

import contextlib
import errno
import os
import pathlib
import tempfile


@contextlib.contextmanager
def replacing(path):
    """Gives a temporary path beside `path`, which takes `path`'s place if the block succeeds.

    A block that raises, or a process that is killed in it, leaves at `path` what was there before,
    and, where it was killed, a hidden folder beside it that may be deleted. (A folder cannot be
    replaced in one step: between two there is, for a moment, nothing at `path`.) The temporary
    path keeps the ending of `path` (writers choose their format by it) and may be made a file or a
    folder by the block; a folder is replaced by a folder only. A missing parent folder is made.

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
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            new = pathlib.Path(folder) / "new"
            new.mkdir()
            temporary = new / path.name
            yield temporary
            if path.is_dir():
                _replace_folder(path, temporary, pathlib.Path(folder) / "old")
            else:
                os.replace(temporary, path)
    except OSError as error:
        # Of the subclass that belongs to the number.
        raise OSError(
            error.errno,
            f"{path} could not be written ({error}). "
            "Choose a folder that can be written and has room",
        ) from error


def _replace_folder(path, temporary, old):
    if not temporary.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder is there, which would be lost")
    os.replace(path, old)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(old, path)
        raise


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
