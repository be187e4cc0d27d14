"""Take over the previous launcher's session when a client restarts a kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mooring import Wait
from mooring_provisioner.watchdog import RESTART_S

if TYPE_CHECKING:
    from mooring import Lease, Mooring, Session

# VS Code starts the new process up to one second before the previous one has exited
PREDECESSOR_S = 1.5
# Timeout for a launcher that has announced that it is ending its kernel
LEAVING_S = 5.0
# A launcher that ended more than this before this process started may be of another notebook
JUST_ENDED_S = 1.0


def take_over(
    mooring: Mooring,
    key: dict[str, Any],
    *,
    notebook: bool,
    holder: str,
    kernel: str,
    cancelled: Callable[[], bool],
    max_wait_s: float,
) -> tuple[Session, Lease] | None:
    """Take over the session of the previous launcher of the same kernel, starting it if stopped.

    Args:
        mooring: the core.
        key: the lease's key: the client, the kernelspec, the folder and the notebook.
        notebook: whether the client names the notebook, which makes the key unique to the kernel.
        holder: this process, in the format of ``process_mark``.
        kernel: mooring's id of the new kernel.
        cancelled: called several times per second; True cancels the start of a stopped session.
        max_wait_s: timeout for the GPUs of a stopped session, in seconds.

    Returns:
        The running session and its lease, or None if there is no such session.

    Raises:
        MooringError: the stopped session cannot be started; its files are kept.
    """
    from mooring import RestartTimes, Successor

    return mooring.leases.take_over(
        Successor(key, unique=notebook, holder=holder, kernel=kernel, started_at=_started_at()),
        RestartTimes(
            exit_s=PREDECESSOR_S,
            announced_exit_s=LEAVING_S,
            restart_s=RESTART_S,
            just_ended_s=JUST_ENDED_S,
        ),
        Wait(cancelled=cancelled, max_wait_s=max_wait_s),
    )


def _started_at() -> float:
    """Return the system uptime when this process started, in seconds."""
    from mooring import stat_fields

    return int(stat_fields("self")[21]) / os.sysconf("SC_CLK_TCK")
