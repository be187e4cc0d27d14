"""Take over the previous launcher's session when a client restarts a kernel.

Clients that ignore provisioners restart a kernel by ending one launcher and starting another.
"""

from __future__ import annotations

import os
import time
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
POLL_S = 0.02


class Restart:
    """Finds and takes over the session of the previous launcher of the same kernel.

    Args:
        key: the lease's key: the client, the kernelspec, the folder and the notebook.
        notebook: whether the client names the notebook, which makes the key unique to the kernel.
        holder: this process, in the format of ``process_mark``.
        kernel: mooring's id of the new kernel.
        cancelled: called several times per second; True cancels the start of a stopped session.
        max_wait_s: timeout for the GPUs of a stopped session, in seconds.
    """

    def __init__(
        self,
        *,
        key: dict[str, Any],
        notebook: bool,
        holder: str,
        kernel: str,
        cancelled: Callable[[], bool],
        max_wait_s: float,
    ) -> None:
        self._key, self._notebook = key, notebook
        self._holder, self._kernel = holder, kernel
        self._cancelled, self._max_wait_s = cancelled, max_wait_s

    def take_over(self, mooring: Mooring) -> tuple[Session, Lease] | None:
        """Take over the previous launcher's session, starting it if it is stopped.

        Returns:
            The running session and its lease, or None if there is no such session.

        Raises:
            MooringError: the stopped session cannot be started; its files are kept.
        """
        from mooring import SessionNotFound, State

        lease = self._take_lease(mooring)
        if lease is None:
            return None
        try:
            session = mooring.sessions.get(lease.session_id)
            if session.state is not State.RUNNING and not self._notebook:
                lease.release()
                return None
            if session.state is not State.RUNNING:
                session = self._start_again(mooring, session, lease)
            # Not earlier: until the session runs, the previous launcher's watchdog keeps its files
            lease.hand_to(self._holder, self._kernel)
        except SessionNotFound:
            lease.release()
            return None
        except BaseException:
            lease.release()
            raise
        return session, lease

    def _start_again(self, mooring: Mooring, session: Session, lease: Lease) -> Session:
        """Start a stopped session; its files are kept if that fails."""
        try:
            return mooring.sessions.start(
                session, wait=Wait(cancelled=self._cancelled, max_wait_s=self._max_wait_s)
            )
        except BaseException:
            if not mooring.records.has_ended(session.id):
                # The watchdog keeps stopped sessions, but this one no longer counts as stopped
                lease.dissolve()
                mooring.history.add(session.id, "kept", mooring.actor, "it could not be started")
            raise

    def _take_lease(self, mooring: Mooring) -> Lease | None:
        """Acquire the lease of a session with the same key whose launcher has exited.

        If the client does not name the notebook, several kernels share the key; the session whose
        launcher exited last, and recently, is then chosen. Launchers of candidates that still run
        are given ``PREDECESSOR_S`` to exit.
        """
        from mooring import uptime

        began = uptime() - _age_s()
        while True:
            now = uptime()
            candidates = {
                session_id: mooring.leases.left_at(session_id)
                for session_id in mooring.leases.with_key(self._key)
            }
            if not self._notebook:
                candidates = {
                    session_id: left
                    for session_id, left in candidates.items()
                    if not mooring.records.has_ended(session_id)
                    and (left is None or now - left < RESTART_S)
                }
            waiting = None in candidates.values() and now - began <= PREDECESSOR_S
            for session_id, left in sorted(candidates.items(), key=lambda item: -(item[1] or 0.0)):
                if not self._notebook and (
                    left is None or (waiting and left < began - JUST_ENDED_S)
                ):
                    continue
                lease = mooring.leases.take(session_id, key=self._key)
                if lease is not None:
                    return lease
                if not self._notebook:
                    break  # its launcher is still exiting, and its own restart waits for it
            leaving = any(left is not None for left in candidates.values())
            if not candidates or now - began > (LEAVING_S if leaving else PREDECESSOR_S):
                return None
            time.sleep(POLL_S)


def _age_s() -> float:
    """Return the seconds since this process started."""
    from mooring import stat_fields, uptime

    return uptime() - int(stat_fields("self")[21]) / os.sysconf("SC_CLK_TCK")
