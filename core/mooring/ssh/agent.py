"""Agent forwarding: a socket in the session that leads to the user's ssh-agent.

It exists only for a connection whose client asked for it (``ssh -A``), and only as long: while it
does, programs of the session can use the agent's keys, as with sshd.
"""

from __future__ import annotations

import asyncio
import contextlib

import asyncssh

from mooring.client.client import Mooring
from mooring.sessions.model import Session

_CHUNK = 1 << 16
_MOST = 32  # connections at a time


class Agent:
    """The socket of one connection."""

    def __init__(self, mooring: Mooring) -> None:
        self._mooring = mooring
        self._stack = contextlib.ExitStack()
        self._path, self._container = "", ""
        self._slots = asyncio.Semaphore(_MOST)
        self._lock = asyncio.Lock()

    async def path(self, connection: asyncssh.SSHServerConnection, session: Session) -> str:
        """Return the socket's path in the session, for ``SSH_AUTH_SOCK``; it is made if missing.

        Raises:
            MooringError: it cannot be created.
        """
        async with self._lock:
            if self._container != session.container:
                listener = self._mooring.ports.unix_listener(session, "agent")
                listening, self._path = self._stack.enter_context(listener)
                self._container = session.container

                async def serve(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
                    if self._slots.locked():
                        back.close()
                        return
                    async with self._slots:
                        await _serve(connection, near, back)

                server = await asyncio.start_unix_server(serve, sock=listening)
                self._stack.callback(server.close)
            return self._path

    def close(self) -> None:
        """Remove the socket. Idempotent."""
        self._stack.close()


async def _serve(
    connection: asyncssh.SSHServerConnection,
    near: asyncio.StreamReader,
    back: asyncio.StreamWriter,
) -> None:
    """Carry one connection of the session to the user's agent."""
    try:
        far, there = await connection.open_agent_connection()
        try:
            up = asyncio.create_task(_copy(near, there))
            await _copy(far, back)
            up.cancel()
        finally:
            there.close()
    except (asyncssh.Error, OSError):
        pass
    finally:
        back.close()


async def _copy(
    source: asyncio.StreamReader | asyncssh.SSHReader[bytes],
    sink: asyncio.StreamWriter | asyncssh.SSHWriter[bytes],
) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
        sink.write_eof()
