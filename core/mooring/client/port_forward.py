"""Port forwarding from 127.0.0.1 of this machine: a process in the session for each connection.

The session's network is not used: the process connects to the service from inside the session,
which also works without a network. A forward is not activity, with or without traffic: like an open
notebook tab, an open browser tab must not keep a session alive. Work that the traffic causes in the
session is activity as usual.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from mooring.engines.base import STDERR, Stream
from mooring.errors import (
    EngineError,
    EngineUnavailable,
    MooringError,
    SessionNotFound,
    SpecError,
)
from mooring.host.peers import owner
from mooring.host.ports import listen
from mooring.sessions.find import get
from mooring.sessions.model import Session, State
from mooring.spec import ports as spec_ports

if TYPE_CHECKING:
    from mooring.sessions.context import Context

CHUNK = 1 << 16
#: Number of idle relays, so that a connection does not wait for a process to start.
SPARES = 2
MAX_CONNECTIONS = 400  # two file descriptors each, of the usual limit of 1024
#: How long a session that has ended is awaited to be started again.
RESTART_S = 10.0
# How long a removal may take from the container to the session's record
REMOVAL_S = 1.0
#: Interval at which a half-closed connection is checked for being fully closed.
CLOSED_S = 5.0
#: Minimum interval between starts of the guard.
AGAIN_S = 1.0


def parse(text: str) -> tuple[int, int]:
    """Parse a port argument of the command line.

    Args:
        text: as for `spec_ports.parse`; the local port defaults to the session's.

    Returns:
        This machine's port, 0 for any free one, and the session's.

    Raises:
        SpecError: the text is not valid.
    """
    try:
        here, there = spec_ports.parse(text)
    except ValueError as error:
        known = str(error) != spec_ports.FORM  # the form is the hint's
        message = f"port {text!r} {error}" if known else f"{text!r} is not a port"
        raise SpecError(message, "as in 6006, 8080:6006, or 0:6006") from None
    return (there if here is None else here), there


@dataclass
class _Relay:
    """A process in the session that waits for a port number, then relays one connection."""

    stream: Stream
    pid: str


class Forwarder:
    """Listens on 127.0.0.1 and ::1, and forwards each connection to a session.

    Args:
        ctx: the client's context.
        session: the running session.
        pairs: pairs of this machine's port, 0 for any free one, and the session's.
        warn: called with one line per problem, from any thread.
    """

    def __init__(
        self,
        ctx: Context,
        session: Session,
        pairs: Sequence[tuple[int, int]],
        warn: Callable[[str], None],
    ) -> None:
        self._ctx, self._session, self._warn = ctx, session, warn
        guest = resources.files("mooring") / "guest"
        script, python = ((guest / name).read_text() for name in ("forward.sh", "relay.py"))
        self._relay_argv = ["/bin/sh", "-c", script, "forward", "relay", python]
        self._guard_argv = ["/bin/sh", "-c", script, "forward", "guard"]
        self._lock, self._filling = threading.Lock(), threading.Lock()
        self._guard: Stream | None = None
        self._spares: list[_Relay] = []
        self._complained: set[int] = set()
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._closed = threading.Event()
        self._listening: list[tuple[socket.socket, int]] = []
        self._pairs = list(pairs)

    def open(self) -> list[tuple[int, int]]:
        """Start listening and accepting connections.

        Returns:
            The pairs, with each 0 replaced by the chosen port.

        Raises:
            PortTaken: another process listens on one of this machine's ports.
            EngineError: no process can be started in the session.
        """
        pairs = []
        for here, there in self._pairs:
            hint = f"write another one before the session's, or 0:{there} for any free one"
            number, sockets = listen(here, hint=hint, warn=self._warn)
            self._listening += [(each, there) for each in sockets]
            pairs.append((number, there))
        self._begin()
        threading.Thread(target=self._accept, daemon=True).start()
        return pairs

    def serve(self) -> str:
        """Forward connections until the session ends; return a line that describes how it ended."""
        while True:
            begun = time.monotonic()
            guard = self._guard
            if guard is not None:
                with contextlib.suppress(OSError):
                    while guard.recv(CHUNK):
                        pass
            with self._lock:
                self._guard, spares = None, self._spares
                self._spares = []
            for stream in [relay.stream for relay in spares] + ([guard] if guard else []):
                stream.close()
            ended = self._wait_for_restart()
            if ended:
                return ended
            time.sleep(max(0.0, begun + AGAIN_S - time.monotonic()))
            with contextlib.suppress(MooringError):
                self._begin()

    def close(self) -> None:
        """Stop listening, and close all connections. Idempotent."""
        self._closed.set()
        for listening, _ in self._listening:
            listening.close()
        with self._lock:
            streams = [relay.stream for relay in self._spares]
            streams += [self._guard] if self._guard else []
            self._spares, self._guard = [], None
        for stream in streams:  # the guard kills all relays when its stdin is closed
            stream.close_stdin()
            stream.close()

    # the session's side

    def _begin(self) -> None:
        guard = self._exec(self._guard_argv)
        with self._lock:
            self._guard = guard
        self._add_spares()

    def _exec(self, argv: Sequence[str]) -> Stream:
        # not `processes.exec_in`, which counts as activity
        self._ctx.folder(self._session.id).refuse_unverified()
        return self._ctx.engine.exec(self._session.container, argv, stdin=True)

    def _tell_guard(self, line: str) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._guard is not None:
                self._guard.socket().sendall(f"{line}\n".encode())

    def _new_relay(self) -> _Relay:
        """Start a relay, and register it with the guard, which kills it when this process exits."""
        with contextlib.ExitStack() as unless_started:
            stream = self._exec(self._relay_argv)
            unless_started.callback(stream.close)
            stderr = b""
            while b"\n" not in stderr:
                pieces = stream.recv(CHUNK)
                if not pieces:
                    raise EngineError("the session takes no process")
                stderr += b"".join(piece for _, piece in pieces)
            relay = _Relay(stream, stderr.decode(errors="replace").strip())
            if not relay.pid.isdigit():
                raise EngineError("the session's side of the forward did not start")
            unless_started.pop_all()
        self._tell_guard(f"add {relay.pid}")
        return relay

    def _add_spares(self) -> None:
        """Start idle relays until there are ``SPARES``, in the background."""

        def fill() -> None:
            with self._filling, contextlib.suppress(MooringError, OSError):
                while len(self._spares) < SPARES and not self._closed.is_set():
                    relay = self._new_relay()
                    with self._lock:
                        if self._guard is None or self._closed.is_set():
                            relay.stream.close()
                            return
                        self._spares.append(relay)

        threading.Thread(target=fill, daemon=True).start()

    def _take_relay(self) -> _Relay:
        while True:
            with self._lock:
                relay = self._spares.pop(0) if self._spares else None
            self._add_spares()
            if relay is None:
                return self._new_relay()
            with selectors.DefaultSelector() as selector:
                selector.register(relay.stream.socket(), selectors.EVENT_READ)
                if not selector.select(0):
                    return relay
            # output before a request: it has exited, and its pid may be reused
            self._tell_guard(f"drop {relay.pid}")
            relay.stream.close()

    def _wait_for_restart(self) -> str:
        """Wait up to ``RESTART_S`` for the session to run; return how it ended, empty if not."""
        name, deadline, warned = self._session.name, time.monotonic() + RESTART_S, False
        while True:
            try:
                session = get(self._ctx, self._session.id)
            except SessionNotFound:
                return f"session {name} is gone"
            except EngineUnavailable as error:
                if not warned:
                    self._warn(f"{error.message}; waiting for it")
                warned = True
                deadline = time.monotonic() + RESTART_S
                time.sleep(1)
                continue
            if session.state is State.RUNNING:
                self._session = session
                return ""
            if session.state is State.LOST:  # or it is just being removed
                deadline = min(deadline, time.monotonic() + REMOVAL_S)
            if time.monotonic() > deadline or session.state is State.GONE:
                why = f" ({session.reason})" if session.reason else ""
                return f"session {name} is {session.state}{why}"
            time.sleep(0.2)

    # this machine's side

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listening, there in self._listening:
                selector.register(listening, selectors.EVENT_READ, there)
            while not self._closed.is_set():
                for key, _ in selector.select(0.5):
                    try:
                        near, _ = key.fileobj.accept()  # type: ignore[union-attr]
                    except OSError:
                        continue
                    user = owner(near)  # at once: a socket has no owner after its process closed it
                    self._slots.acquire()
                    threading.Thread(
                        target=self._serve_one, args=(near, key.data, user), daemon=True
                    ).start()

    def _serve_one(self, near: socket.socket, there: int, user: int | None) -> None:
        try:
            near.setblocking(True)
            if user in (os.getuid(), 0):
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._carry(near, there)
            elif user is None:
                self._complain(there, "a connection was closed before its owner could be found")
            else:
                self._warn(f"port {there}: refused a connection of another user")
        except (MooringError, OSError) as error:
            if not self._closed.is_set():
                self._complain(there, str(error))
        finally:
            near.close()
            self._slots.release()

    def _carry(self, near: socket.socket, there: int) -> None:
        """Forward one connection until both sides are closed."""
        relay = self._take_relay()
        far = relay.stream.socket()
        over = threading.Event()

        def send() -> None:
            try:
                while data := near.recv(CHUNK):
                    far.sendall(data)
                far.shutdown(socket.SHUT_WR)
                while not over.wait(CLOSED_S):
                    if owner(near) is None:  # fully closed, not half-closed
                        self._tell_guard(f"kill {relay.pid}")
            except OSError:
                if not over.is_set():
                    self._tell_guard(f"kill {relay.pid}")

        sender = threading.Thread(target=send, daemon=True)
        try:
            far.sendall(f"{there} {there:04X}\n".encode())
            sender.start()
            complaint = self._receive(relay, near)
        except OSError:  # the client no longer reads
            self._tell_guard(f"kill {relay.pid}")
            complaint = ""
        finally:
            over.set()
            self._tell_guard(f"drop {relay.pid}")
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
            if sender.is_alive():
                sender.join()
            relay.stream.close()
        self._report(there, complaint)

    def _receive(self, relay: _Relay, near: socket.socket) -> str:
        """Forward the service's output until the relay exits; return the relay's error message."""
        count, end, stderr = 0, -1, b""
        while pieces := relay.stream.recv(CHUNK):
            for number, piece in pieces:
                if number == STDERR:
                    stderr = (stderr + piece)[-1024:]
                    *lines, rest = stderr.split(b"\n")
                    for line in lines:
                        if line.startswith(b"eof "):
                            end, stderr = int(line[4:]), rest
                else:
                    near.sendall(piece)
                    count += len(piece)
            if count == end:
                near.shutdown(socket.SHUT_WR)
                end = -1
        return stderr.decode(errors="replace").strip()

    def _report(self, there: int, complaint: str) -> None:
        """Warn about how a connection ended.

        Args:
            there: the session's port.
            complaint: the relay's error message: `refused`, `none`, other text, or empty.
        """
        name = self._session.name
        if complaint == "refused":
            self._complain(there, f"nothing listens on it in session {name}")
        elif complaint == "none":
            self._complain(
                there, f"the image of session {name} has none of python3, socat and busybox"
            )
        elif complaint:
            self._complain(there, complaint)
        else:
            self._complained.discard(there)

    def _complain(self, there: int, text: str) -> None:
        """Warn once per port until it works again, because browsers retry many times."""
        if there not in self._complained:
            self._complained.add(there)
            self._warn(f"port {there}: {' '.join(text.split())}")
