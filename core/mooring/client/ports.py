"""``Mooring.ports``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mooring.client.port_forward import Forwarder
from mooring.sessions.context import Context
from mooring.sessions.model import Session


class Ports:
    """Forwarding ports of this machine to sessions."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def forwarder(
        self,
        session: Session,
        pairs: Sequence[tuple[int, int]],
        warn: Callable[[str], None],
    ) -> Forwarder:
        """Return a forwarder of local ports to a session, which listens once ``open`` is called.

        Args:
            session: the running session.
            pairs: pairs of this machine's port, 0 for any free one, and the session's.
            warn: called with one line per problem, from any thread.
        """
        return Forwarder(self._ctx, session, pairs, warn)
