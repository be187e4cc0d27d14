"""A process that waits until a kernel's client has exited, for whatever reason, and cleans up.

There is one for each kernel of a client that is not a server. It waits for the lock that the client
holds, on an interpreter without packages: that takes no time, and 7 MB of memory. It exits with the
kernel. If it is killed too, the next mooring command cleans up.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

RETRY_S = 2.0
# How long an engine that does not answer is waited for
PATIENCE_S = 600.0


def wait(lock: str) -> None:
    """Wait until no process holds the lock of a kernel; then clean up, unless it was deleted."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if os.fstat(descriptor).st_nlink:
        os.close(descriptor)
        os.execv(sys.executable, [sys.executable, "-m", "mooring.sessions.client_watch"])  # noqa: S606


def clean_up() -> None:
    """Run the reconciler, which ends kernels whose client has exited."""
    from mooring.errors import EngineUnavailable
    from mooring.sessions.context import Context
    from mooring.sessions.find import list_sessions

    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            list_sessions(Context())
            return
        except EngineUnavailable:
            if time.monotonic() > deadline:
                return
        time.sleep(RETRY_S)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        wait(sys.argv[1])
    else:
        clean_up()
