"""Writing files whole or not at all."""

import contextlib
import os
import pathlib
import tempfile


@contextlib.contextmanager
def replacing(path):
    """Gives a temporary path beside `path`, which takes `path`'s place if the block succeeds.

    A block that raises, or a process that is killed in it, leaves at `path` what was there before.
    The temporary path keeps the ending of `path` (writers choose their format by it) and may be
    made a file or a folder by the block. A missing parent folder is made.

    Args:
        path: str or `os.PathLike`, the file or folder to write.

    Yields:
        `pathlib.Path`, where to write; nothing is there yet.

    Raises:
        OSError: the folder cannot be written or is full; of the same class and errno as the
            cause, and with the cure.

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
            temporary = pathlib.Path(folder) / path.name
            yield temporary
            if path.is_dir():
                # os.replace cannot put a folder where a non-empty one is: move the old one out.
                os.replace(path, pathlib.Path(folder) / "old")
            os.replace(temporary, path)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"{path} could not be written ({error.strerror or error}). "
            "Choose a folder that can be written and has room",
        ) from error
