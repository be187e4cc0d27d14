"""Locks between processes with flock(2), which the kernel releases when the holder dies.

A lock belongs to an open file description: it survives a rename of the file or folder, and a
process that inherits the file descriptor holds it too.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mooring.errors import SessionTimeout
from mooring.host.text import quoted

# Delay between attempts to acquire a lock: short at first, most are held for milliseconds
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.001, 0.05


def lock(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Acquire the lock of an open file or folder; closing the descriptor releases it.

    Args:
        descriptor: a file descriptor.
        shared: acquire a shared lock instead of an exclusive one.
        wait: block until the lock is acquired.

    Returns:
        Whether the lock was acquired; False only if ``wait`` is false.

    Raises:
        OSError: the file system does not support locks.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_lock(descriptor: int) -> bool:
    """Try to acquire the lock of an open file without blocking.

    Returns:
        Whether it was acquired; False also if the file system does not support locks.
    """
    try:
        return lock(descriptor, wait=False)
    except OSError:
        return False


def is_locked(descriptor: int) -> bool:
    """Whether another process holds the exclusive lock of an open file or folder.

    Do not call it with a descriptor that holds the lock itself: that would release the lock.

    Raises:
        OSError: the file system does not support locks.
    """
    # shared, so that two processes that check at once do not take each other for the holder
    free = lock(descriptor, shared=True, wait=False)
    if free:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    return not free


def is_held(path: Path) -> bool:
    """Whether a process holds a file's lock.

    Returns:
        False if the file cannot be opened; True if the file system does not support locks.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return is_locked(descriptor)
    except OSError:  # unknown, so assume that it is in use
        return True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    create: bool = True,
    cancelled: Callable[[], bool] = lambda: False,
    timeout_s: float | None = None,
) -> Iterator[None]:
    """Context manager that holds the exclusive lock of a file or folder.

    Args:
        path: a file, or an existing folder.
        create: create an empty file, mode 0600, if ``path`` does not exist.
        cancelled: polled while another process holds the lock, at least every 0.05 s.
        timeout_s: seconds to wait for the lock; None for no limit.

    Raises:
        SessionTimeout: ``timeout_s`` expired, or ``cancelled`` returned True.
        OSError: the file cannot be opened.
    """
    if path.is_dir():
        flags = os.O_RDONLY | os.O_DIRECTORY
    else:
        flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path, cancelled, timeout_s)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def temporarily_locked(
    path: Path,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    timeout_s: float | None = None,
) -> Iterator[None]:
    """Context manager that holds the exclusive lock of a file which exists only meanwhile.

    Args:
        path: the file.
        cancelled: as for ``locked``.
        timeout_s: as for ``locked``, anew for each holder that this one waits for.

    Raises:
        SessionTimeout, OSError: as ``locked``.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _acquire(descriptor, path, cancelled, timeout_s)
            if not _is_at(descriptor, path):
                continue  # its last holder has deleted it
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def _acquire(
    descriptor: int, path: Path, cancelled: Callable[[], bool], timeout_s: float | None
) -> None:
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while not lock(descriptor, wait=False):
        left_s = deadline - time.monotonic()
        if left_s <= 0 or cancelled():
            raise SessionTimeout(
                f"{path} is locked by another process",
                f"see which process holds it: fuser -v {quoted(path)}",
            )
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, _LAST_PAUSE_S)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one that a path names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
