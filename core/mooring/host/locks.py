"""Locks between processes: flock(2), which the kernel releases when their holder dies.

A lock belongs to an open file description: it follows a file or folder that is renamed, and a
process that inherits the descriptor holds it too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mooring.errors import SessionTimeout

_POLL_S = 0.05


def lock(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file or folder for as long as the descriptor is open.

    Args:
        shared: others may hold it shared at the same time.
        wait: block until it is free.

    Returns:
        False if ``wait`` is false and another process holds the lock.

    Raises:
        OSError: the file system has no locks.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether a living process holds a file's lock; False for a file that does not exist."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # shared: two processes that ask at once must not take each other for the holder
        return not lock(descriptor, shared=True, wait=False)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    timeout_s: float | None = None,
) -> Iterator[None]:
    """Hold the lock of a file or folder during the block; a file is created if it is missing.

    Args:
        path: a file, or an existing folder.
        cancelled: asked several times a second while another process holds the lock.
        timeout_s: how long to wait for the lock, in seconds; None for as long as it takes.

    Raises:
        SessionTimeout: the lock was not free within ``timeout_s``, or ``cancelled`` returned True.
        OSError: the file cannot be opened.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        while not lock(descriptor, wait=False):
            late = deadline is not None and time.monotonic() >= deadline
            if late or cancelled():
                raise SessionTimeout(f"{path} is locked by another process", f"fuser -v {path}")
            time.sleep(_POLL_S if deadline is None else min(_POLL_S, _left(deadline)))
        yield
    finally:
        os.close(descriptor)


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
