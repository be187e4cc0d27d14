"""The keeper's process: detached from the process that started it, and one per session.

It is a separate interpreter without site-packages: it needs 10 MB of memory instead of the 50 MB of
a process with an engine client, and is safe to start from a process with threads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sys
import time

from mooring.terminals.keeper import protocol
from mooring.terminals.keeper.server import Keeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_TIMEOUT_S = 5.0


def main() -> None:
    """Run the keeper of a session; ``argv`` holds the interpreter and the session's folder."""
    interpreter, folder = sys.argv[1:3]
    os.chdir(os.path.join(folder, "term"))
    if os.fork():
        os._exit(0)
    _close_descriptors()
    os.umask(0o077)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    with _lock() as locked:
        if locked:
            _serve(Keeper(lambda: start_helper(interpreter, folder)))


def start_helper(interpreter: str, folder: str) -> int:
    """Start a process that gets exit codes from the engine.

    Args:
        interpreter: path of the Python interpreter with mooring's dependencies.
        folder: the session's folder.

    Returns:
        The process id.

    Raises:
        OSError: the process cannot be started.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        os.chdir("/")
        command = [interpreter, "-m", "mooring.terminals.exit_codes", folder]
        os.execv(interpreter, command)  # noqa: S606 - no shell is wanted
    finally:
        os._exit(127)


def _serve(keeper: Keeper) -> None:
    def stop(number: int, frame: object) -> None:
        keeper.stopped = True
        raise InterruptedError

    signal.signal(signal.SIGTERM, stop)
    try:
        with contextlib.suppress(InterruptedError):
            keeper.run()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        keeper.close()


def _close_descriptors() -> None:
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2:
            with contextlib.suppress(OSError):
                os.close(number)


@contextlib.contextmanager
def _lock() -> Iterator[bool]:
    """Acquire the keeper's lock, and yield whether that succeeded.

    If the lock is held by a keeper that does not serve, wait up to ``LOCK_TIMEOUT_S``: it may be
    exiting.
    """
    lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            serves = os.path.exists(protocol.SOCKET)
            if error.errno not in (errno.EACCES, errno.EAGAIN) or serves:
                yield False
                return
        if time.monotonic() > deadline or not os.path.exists("../record.json"):
            yield False
            return
        time.sleep(0.01)
    yield True
