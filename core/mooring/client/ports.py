"""``Mooring.ports``."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence

from mooring.client.port_forward import Forwarder
from mooring.errors import MooringError
from mooring.guest.paths import GUEST_RUN
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

    @contextlib.contextmanager
    def unix_listener(self, session: Session, name: str) -> Iterator[tuple[socket.socket, str]]:
        """Context manager that listens on a Unix socket in a session, which exists meanwhile.

        Args:
            session: the running session, whose processes can connect.
            name: the beginning of the socket's name, a plain word.

        Returns:
            The listening socket, and its path in the session.

        Raises:
            MooringError: the socket cannot be created.
        """
        guest = self._ctx.folder(session.id).guest
        name = f"{name}.{secrets.token_hex(8)}"
        try:
            listening = guest.listen(name)
        except OSError as error:
            raise MooringError(
                f"cannot listen in session {session.name}: {error.strerror}"
            ) from error
        with listening:
            try:
                yield listening, f"{GUEST_RUN}/{name}"
            finally:
                with contextlib.suppress(OSError):
                    guest.remove(name)
