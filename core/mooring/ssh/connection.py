"""What the channels of one connection share."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any

import asyncssh

from mooring.client.client import Mooring
from mooring.client.port_forward import Forwarder
from mooring.sessions.model import Session
from mooring.ssh.agent import Agent
from mooring.ssh.threads import in_thread

log = logging.getLogger(__name__)


class ConnectionState:
    """A session as the channels of one connection see it.

    Args:
        mooring: the client.
        name: the session's name. It is looked up for each channel, because the session may have
            been stopped and started again.
    """

    def __init__(self, mooring: Mooring, name: str) -> None:
        self.mooring, self.name = mooring, name
        self.connection: asyncssh.SSHServerConnection | None = None
        self.agent = Agent(mooring)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._forwarder: Forwarder | None = None

    @property
    def agent_wanted(self) -> bool:
        """Whether the client has asked for agent forwarding."""
        return self.connection is not None and self.connection.get_agent_path() is not None

    async def agent_path(self) -> str:
        """Return the path in the session of the socket that leads to the user's agent.

        Raises:
            MooringError: the session does not run, or the socket cannot be created.
        """
        assert self.connection is not None  # noqa: S101
        session = await in_thread(self.session)
        return await self.agent.path(self.connection, session)

    def session(self) -> Session:
        """Return the session; blocks.

        Raises:
            SessionNotFound, SessionStateError: it does not run any more.
            EngineUnavailable
        """
        return self.mooring.sessions.get_running(self.name)

    def forwarder(self) -> Forwarder:
        """Return what forwards connections to the session; blocks. Raises like ``session``."""
        with self._lock:
            if self._forwarder is None:
                made = self.mooring.ports.forwarder(self.session(), [], lambda line: None)
                made.open()
                self._forwarder = made
            return self._forwarder

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work in the event loop, which ``finish`` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("internal error: %r", error, exc_info=log.isEnabledFor(logging.DEBUG))

    async def finish(self, timeout_s: float) -> None:
        """Wait for the end of all work after the connection was closed, and clean up.

        Args:
            timeout_s: how long at most.
        """
        self.agent.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        if self._forwarder is not None:
            await in_thread(self._forwarder.close)
