"""Locks between processes, which end with the process that has them."""

import atexit
import contextlib
import datetime
import errno
import os
import pathlib
import re
import socket
import stat
import threading
import weakref

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

_CONTENT = re.compile(r"keras_fmm: (process \d+ on [\w.-]+ since [\w:.+-]+)\n")
_LOCKS = weakref.WeakSet()


class NoLockError(FileExistsError):
    """Something else is where a lock's file should be."""


class Lock:
    """A locked file that says which process has it; it goes when it is released.

    The lock ends with its process, however that ends; the file that a killed process leaves is
    taken over. Processes that are forked do not have it. On a drive without locks, such as some
    network drives, nobody is kept out.

    Args:
        path: str or `os.PathLike`. The file, in a folder that is there.

    Raises:
        BlockingIOError: another has it; the message says who.
        NoLockError: there is something else at `path`.
        OSError: the folder cannot be written or is full.

    Example:

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.lock"
    >>> lock = Lock(path)
    >>> Lock(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    BlockingIOError: process ... on ... since ... has it
    >>> lock.release()
    >>> path.exists()
    False
    """

    def __init__(self, path):
        self._descriptor = None
        self.path = pathlib.Path(path)
        self.thread = threading.current_thread()
        self.owner = None  # what `lock`'s caller notes: who of this thread has it
        while self._descriptor is None:
            descriptor = _opened(self.path, os.O_RDWR | os.O_CREAT)
            try:
                found = _content(descriptor, self.path)
                if _try_lock(descriptor) is False:
                    raise BlockingIOError(f"{found or 'another process'} has it")
                # Who had it may have removed the file after it was opened here.
                if _is_at(descriptor, self.path):
                    self._descriptor = descriptor
            finally:
                if self._descriptor is None:
                    os.close(descriptor)
        _LOCKS.add(self)
        try:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            with open(self._descriptor, "w", closefd=False) as file:
                file.write(f"keras_fmm: {_this_process()}\n")
        except BaseException:
            self.release()
            raise

    def held(self):
        """Whether the lock is this process' still, and its file the one that it was."""
        return self.is_at(self.path)

    def is_at(self, path):
        """Whether `path` leads to the file of this lock, which is held."""
        return self._descriptor is not None and _is_at(self._descriptor, path)

    def release(self):
        if self._descriptor is None:
            return  # Python calls it when it ends too, where modules may be gone.
        is_held = self.held()
        if os.name == "nt":  # It removes no open file.
            self.forget()
        if is_held:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self.forget()

    __del__ = release

    def forget(self):
        """Closes the file; a forked process' copy of the lock ends so, the lock does not."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lock(path):
    """Returns a `Lock`; the one that this thread, or one that has ended, has already, if any.

    Args, Raises: as of `Lock`.
    """
    for known in list(_LOCKS):
        is_free = known.thread is threading.current_thread() or not known.thread.is_alive()
        if is_free and known.held() and known.is_at(path):
            known.thread = threading.current_thread()
            return known
    return Lock(path)


def holder(path):
    """Returns who wrote the file of a lock, a str, which is empty where nobody did yet, or None.

    None stands for a file of other content, or none.
    """
    with contextlib.suppress(OSError):
        descriptor = _opened(path, os.O_RDONLY)
        try:
            return _content(descriptor, path)
        finally:
            os.close(descriptor)
    return None


def is_free(path):
    """Whether nobody has the lock of a file; False too where that cannot be told."""
    with contextlib.suppress(OSError):
        descriptor = _opened(path, os.O_RDWR)
        try:
            return bool(_try_lock(descriptor))
        finally:
            os.close(descriptor)
    return False


def _this_process():
    host = re.sub(r"[^\w.-]", "_", socket.gethostname()) or "localhost"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {host} since {now}"


def _opened(path, flags):
    """Opens a file that is no link: what that leads to is somebody else's."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise _no_lock(path)
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _content(descriptor, path):
    text = os.read(descriptor, 1000)
    found = _CONTENT.fullmatch(text.decode(errors="replace"))
    if text and not found:
        raise _no_lock(path)
    return found.group(1) if found else ""


def _no_lock(path):
    return NoLockError(
        errno.EEXIST,
        f"A lock must be a file of keras_fmm's. Received: {path}, which is another. Move it away",
    )


def _is_at(descriptor, path):
    try:
        there = os.stat(path)
    except OSError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _try_lock(descriptor):
    """Locks an open file; returns whether it did, or None where the drive has no locks."""
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            # Windows lets nobody read what is locked: lock a byte far behind the content.
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


@atexit.register
def _release_all():
    for held in list(_LOCKS):
        held.release()


def _forget_all():
    for held in list(_LOCKS):
        held.forget()


if hasattr(os, "register_at_fork"):
    # A forked process that outlives this one would keep the lock.
    os.register_at_fork(after_in_child=_forget_all)
