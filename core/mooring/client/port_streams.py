"""Forwarding connections to a session whose image has no python3: a process for each.

A process waits for a port, and relays one connection over its standard streams: socat or busybox.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from mooring.client.port_relay import CHUNK, PortRelay, first_line, start
from mooring.engines.base import STDERR, Stream
from mooring.errors import EngineError, MooringError
from mooring.sessions.context import Context
from mooring.sessions.model import Session

#: Number of idle processes, so that a connection does not wait for one to start.
SPARES = 2
#: Interval at which a half-closed connection is checked for being fully closed.
CLOSED_S = 5.0


@dataclass
class _Process:
    """A process in the session that waits for a port number, then relays one connection."""

    stream: Stream
    pid: str


class PortStreams:
    """Processes in a session, and the connections that they relay.

    Args:
        ctx: the client's context.
        session: the running session.
        guard: kills the processes when this program ends.
        is_closed: whether a connection whose peer sends no more was closed by it.
    """

    def __init__(
        self,
        ctx: Context,
        session: Session,
        guard: PortRelay,
        is_closed: Callable[[socket.socket], bool],
    ) -> None:
        self._ctx, self._session, self._guard = ctx, session, guard
        self._is_closed = is_closed
        self._lock, self._filling = threading.Lock(), threading.Lock()
        self._spares: list[_Process] = []
        self._closed = threading.Event()
        self._add_spares()

    def close(self) -> None:
        """Close the idle ones; the guard kills all when it is closed. Idempotent."""
        with self._lock:
            self._closed.set()
            spares = self._spares
            self._spares = []
        for process in spares:
            process.stream.close()

    def carry(
        self,
        near: socket.socket,
        there: int | str,
        *,
        is_closed: Callable[[socket.socket], bool] | None = None,
        connected: Callable[[], None] = lambda: None,
    ) -> str:
        """Forward one connection until both sides are closed.

        Args:
            near: the client's, in blocking mode.
            there: a port of the session, or the path of a Unix socket in it.
            is_closed: as for ``PortStreams``; None for that one.
            connected: called once something is known to listen there.

        Returns:
            What went wrong: ``refused``, ``none`` if the image has no program for it, other text,
            or empty.

        Raises:
            EngineError: no process can be started.
            OSError
        """
        process = self._take()
        far = process.stream.socket()
        over, is_over = threading.Event(), is_closed or self._is_closed

        def send() -> None:
            try:
                while data := near.recv(CHUNK):
                    far.sendall(data)
                far.shutdown(socket.SHUT_WR)
                while not over.wait(CLOSED_S):
                    if is_over(near):
                        self._guard.tell(f"kill {process.pid}")
            except OSError:
                if not over.is_set():
                    self._guard.tell(f"kill {process.pid}")

        sender = threading.Thread(target=send, daemon=True)
        try:
            asked = f"{there} {there:04X}" if isinstance(there, int) else f"unix {there}"
            far.sendall(os.fsencode(f"{asked}\n"))
            sender.start()
            complaint = _receive(process.stream, near, connected)
        except OSError:  # the client no longer reads
            self._guard.tell(f"kill {process.pid}")
            complaint = ""
        finally:
            over.set()
            self._guard.tell(f"drop {process.pid}")
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
            if sender.is_alive():
                sender.join()
            process.stream.close()
        return complaint

    def _new(self) -> _Process:
        """Start a process, and register it with the guard."""
        stream = start(self._ctx, self._session, "relay")
        process = _Process(stream, first_line(stream))
        if not process.pid.isdigit():
            stream.close()
            raise EngineError("the session's side of the forward did not start")
        self._guard.tell(f"add {process.pid}")
        return process

    def _add_spares(self) -> None:
        """Start idle processes until there are ``SPARES``, in the background."""

        def fill() -> None:
            with self._filling, contextlib.suppress(MooringError, OSError):
                while len(self._spares) < SPARES and not self._closed.is_set():
                    process = self._new()
                    with self._lock:
                        if self._closed.is_set():
                            process.stream.close()
                            return
                        self._spares.append(process)

        threading.Thread(target=fill, daemon=True).start()

    def _take(self) -> _Process:
        while True:
            with self._lock:
                process = self._spares.pop(0) if self._spares else None
            self._add_spares()
            if process is None:
                return self._new()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stream.socket(), selectors.EVENT_READ)
                if not selector.select(0):
                    return process
            # output before a request: it has exited, and its pid may be reused
            self._guard.tell(f"drop {process.pid}")
            process.stream.close()


def _receive(stream: Stream, near: socket.socket, connected: Callable[[], None]) -> str:
    """Forward the service's output until the process exits; return its error message."""
    stderr = b""
    while pieces := stream.recv(CHUNK):
        for number, piece in pieces:
            if number == STDERR:
                stderr = (stderr + piece)[-1024:]
                if stderr.startswith(b"found\n"):
                    stderr = stderr.removeprefix(b"found\n")
                    connected()
            else:
                near.sendall(piece)
    return stderr.decode(errors="replace").strip()
