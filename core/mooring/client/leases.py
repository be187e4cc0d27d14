"""``Mooring.leases``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mooring.sessions import lease, usage
from mooring.sessions.context import Context
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session


class Leases:
    """Leases, which bind a session to the life of a kernel's launcher or its watchdog."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def make(self, session_id: str, *, key: dict[str, Any], holder: str, kernel: str = "") -> Lease:
        """Create a lease for a session, and hold it from its creation.

        Args:
            session_id: the session's id.
            key: JSON-serializable; ``take`` with a key requires an equal one.
            holder: the process that holds it, as ``process_mark`` names it.
            kernel: the id of the kernel that it is held for; empty for none.

        Raises:
            OSError: the session is gone, or the disk is full.
        """
        folder = self._ctx.folder(session_id)
        return Lease.make(folder, key=key, holder=holder, kernel=kernel)

    def take(self, session_id: str, *, key: dict[str, Any] | None = None) -> Lease | None:
        """Acquire a lease that no process holds.

        Args:
            session_id: the session's id.
            key: the key that it must have been created with; None for any.

        Returns:
            The lease; None if it is held, has a different key, or does not exist.
        """
        return Lease.take(self._ctx.folder(session_id), key=key)

    def holder(self, session_id: str) -> str:
        """Return the current or last holder of a session's lease; empty without a lease."""
        return lease.holder_of(self._ctx.folder(session_id))

    def left_at(self, session_id: str) -> float | None:
        """Return the system uptime, in seconds, when release was announced; None if it was not."""
        return lease.left_at(self._ctx.folder(session_id))

    def with_key(self, key: dict[str, Any]) -> list[str]:
        """Return the ids of the sessions whose leases were created with a key."""
        return [folder.id for folder in self._ctx.folders() if lease.key_of(folder) == key]

    def keep(self, session_id: str) -> None:
        """Make this process, a launcher's watchdog, responsible for a session until it exits.

        Raises:
            OSError: the session is gone.
        """
        lease.keep(self._ctx.folder(session_id))

    def remove_unless_used(
        self, session: Session, held: Lease, remove: Callable[[], None], *, keep: str = ""
    ) -> bool:
        """Remove a session whose launcher has exited; dissolve its lease if it is used otherwise.

        Args:
            session: the session.
            held: the session's lease; the caller holds it, and releases it afterwards.
            remove: removes the session.
            keep: a reason to keep the session in any case; empty for none.

        Returns:
            Whether the session was removed.

        Raises:
            EngineUnavailable: whether it is used cannot be determined; nothing was changed.
        """
        return usage.remove_unless_used(
            self._ctx, session, held, remove, actor=self._ctx.actor, keep=keep
        )
