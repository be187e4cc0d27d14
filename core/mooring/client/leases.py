"""``Mooring.leases``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mooring.launch.wait import Wait
from mooring.sessions import abandoned, lease, lifecycle
from mooring.sessions.context import Context
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session

if TYPE_CHECKING:
    from mooring.launch.takeover import RestartTimes, Successor


class Leases:
    """Leases, which bind a session to the life of a kernel's launcher or its watchdog."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def make(self, session_id: str, *, key: dict[str, Any], holder: str, kernel: str = "") -> Lease:
        """Create a lease for a session, and hold it from its creation.

        Args:
            session_id: the session's id.
            key: JSON-serializable; ``take_over`` requires an equal one.
            holder: the process that holds it, as ``process_mark`` names it.
            kernel: the id of the kernel that it is held for; empty for none.

        Raises:
            OSError: the session is gone, or the disk is full.
        """
        folder = self._ctx.folder(session_id)
        return Lease.make(folder, key=key, holder=holder, kernel=kernel)

    def take_over(
        self, successor: Successor, times: RestartTimes, wait: Wait
    ) -> tuple[Session, Lease] | None:
        """Take over the session of an earlier launcher with the same key, once that has exited.

        A stopped session is started again if the key is unique.

        Args:
            successor: the launcher that takes it over.
            times: how fast the client replaces launchers.
            wait: how to wait for the GPUs of a stopped session.

        Returns:
            The running session and its lease; None if there is no such session, or if it is stopped
            and the key is not unique.

        Raises:
            MooringError: the stopped session cannot be started; its files are kept.
        """
        from mooring.launch.takeover import take_over

        with lifecycle.disk_errors():
            return take_over(self._ctx, successor, times, wait)

    def keep(self, session_id: str) -> None:
        """Make this process, a launcher's watchdog, responsible for a session until it exits.

        Raises:
            OSError: the session is gone.
        """
        lease.keep(self._ctx.folder(session_id))

    def announce_exit(self, session_id: str, holder: str) -> None:
        """Record the exit of a launcher that was killed before it could announce it.

        Args:
            session_id: the session's id.
            holder: the launcher; no effect if another process has held the lease since.
        """
        abandoned.announce_exit(self._ctx, session_id, holder)

    def remove_abandoned(
        self, session_id: str, holder: str, *, client: str, patience_s: float
    ) -> None:
        """Remove the session of a launcher that has exited, unless a successor takes it over.

        Waits for the successor; a stopped session is kept for as long as it stays stopped and the
        client lives. A session that is used otherwise becomes an ordinary one.

        Args:
            session_id: the session's id.
            holder: the launcher that has exited.
            client: the launcher's client, as ``process_mark`` names it.
            patience_s: how long to wait for a successor, in seconds.

        Raises:
            EngineError: the session was not removed.
        """
        abandoned.remove_abandoned(
            self._ctx, session_id, holder, client=client, patience_s=patience_s
        )
