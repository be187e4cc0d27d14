"""Port forwarding from 127.0.0.1 of this machine, by one process in the session.

The session's network is not used: the process connects to the service from inside the session,
which also works without a network. It passes the connected sockets to this program
(``port_relay``), which copies the bytes (``joined``). Where the image has no python3, each
connection has a process of its own (``port_streams``).

A forward is not activity, with or without traffic: like an open notebook tab, an open browser tab
must not keep a session alive. Work that the traffic causes in the session is activity as usual.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mooring.client.joined import Joined
from mooring.client.port_relay import CHUNK, PortRelay, Refused, RelayEnded
from mooring.client.port_streams import PortStreams
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

MAX_CONNECTIONS = 2000
# File descriptors of a connection while it is made, and those of everything else
_DESCRIPTORS, _OTHERS = 4, 64
#: How long a session that has ended is awaited to be started again.
RESTART_S = 10.0
# How long a removal may take from the container to the session's record
REMOVAL_S = 1.0
#: Minimum interval between starts of the session's process.
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


class Forwarder:
    """Listens on 127.0.0.1 and ::1, and forwards each connection to a session.

    As many connections as this process may have open files for, ``MAX_CONNECTIONS`` at most, are
    served at a time; others wait.

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
        self._lock, self._beginning = threading.Lock(), threading.Lock()
        self._relay: PortRelay | None = None
        self._streams: PortStreams | None = None
        self._joined: Joined | None = None
        self._complained: set[int] = set()
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = max(1, (most - _OTHERS) // _DESCRIPTORS)
        self._slots = threading.BoundedSemaphore(min(MAX_CONNECTIONS, room))
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
        self._joined = Joined(_is_closed)
        try:
            self._renew(None)
        except BaseException:
            self.close()
            raise
        if self._listening:
            threading.Thread(target=self._accept, daemon=True).start()
        return pairs

    def serve(self) -> str:
        """Forward connections until the session ends; return a line that describes how it ended."""
        while True:
            begun = time.monotonic()
            relay = self._relay
            if relay is not None:
                with contextlib.suppress(OSError):
                    while relay.stream.recv(CHUNK):
                        pass
                self._forget(relay)
            ended = self._wait_for_restart()
            if ended:
                return ended
            time.sleep(max(0.0, begun + AGAIN_S - time.monotonic()))
            with contextlib.suppress(MooringError):
                self._renew(relay)

    def close(self) -> None:
        """Stop listening, and close all connections. Idempotent."""
        self._closed.set()
        for listening, _ in self._listening:
            listening.close()
        with self._lock:
            relay = self._relay
        if relay is not None:
            self._forget(relay)
        if self._joined is not None:
            self._joined.close()

    # the session's side

    def _renew(self, old: PortRelay | None) -> PortRelay:
        """Return the session's process; a new one if it is still the one that has ended."""
        with self._beginning:
            with self._lock:
                relay = self._relay
            if relay is not None and relay is not old:
                return relay  # another thread was faster
            if relay is not None:
                self._forget(relay)
            if self._closed.is_set():
                raise EngineError("the forward is closed")
            relay = PortRelay(self._ctx, self._session)
            streams = None
            if relay.is_guard:
                streams = PortStreams(self._ctx, self._session, relay, _is_closed)
            with self._lock:
                self._relay, self._streams = relay, streams
            if self._closed.is_set():
                self._forget(relay)
            return relay

    def _forget(self, relay: PortRelay) -> None:
        """Close a process that has ended, or is to end."""
        streams = None
        with self._lock:
            if self._relay is relay:
                streams, self._relay, self._streams = self._streams, None, None
        if streams is not None:
            streams.close()
        relay.close()

    def connect(self, there: int | str) -> socket.socket | None:
        """Connect to a service of the session; call ``open`` first.

        Args:
            there: a port, or the path of a Unix socket in the session.

        Returns:
            A connected socket in blocking mode; None if the image has no python3 for it, and only
            ``carry`` can.

        Raises:
            Refused: nothing listens there.
            EngineError: no process can be started in the session.
            SessionNotFound, SessionStateError: the session has ended.
        """
        with self._lock:
            has_relay = self._relay is not None
        if not has_relay:
            self._renew(None)
        with self._lock:
            streams = self._streams
        return self._connected(there) if streams is None else None

    def carry(
        self,
        near: socket.socket,
        there: int | str,
        *,
        is_closed: Callable[[socket.socket], bool],
        connected: Callable[[], None],
    ) -> str:
        """Forward one connection until both sides are closed, for an image without python3.

        Args:
            near: a connected stream socket, which is shut down at the end but not closed.
            there: as for ``connect``.
            is_closed: as for ``PortStreams``.
            connected: called once something is known to listen there.

        Returns:
            As ``PortStreams.carry``.

        Raises:
            EngineError: no process can be started in the session.
            OSError
        """
        with self._lock:
            streams = self._streams
        if streams is None:
            raise EngineError("the session takes no process")
        return streams.carry(near, there, is_closed=is_closed, connected=connected)

    def _connected(self, there: int | str) -> socket.socket:
        """Connect to a service of the session, by a new process if this one has ended."""
        with self._lock:
            relay = self._relay
        for last in (False, True):
            relay = relay or self._renew(None)
            try:
                return relay.connect(there)
            except RelayEnded:
                if last:
                    raise EngineError("the session takes no process") from None
                relay = self._renew(relay)
        raise AssertionError

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
        joined = False
        try:
            near.setblocking(True)
            if user in (os.getuid(), 0):
                joined = self._carry(near, there)
            elif user is None:
                self._complain(there, "a connection was closed before its owner could be found")
            else:
                self._warn(f"port {there}: refused a connection of another user")
        except (MooringError, OSError) as error:
            if not self._closed.is_set():
                self._complain(there, str(error))
        finally:
            if not joined:
                near.close()
                self._slots.release()

    def _carry(self, near: socket.socket, there: int) -> bool:
        """Forward one connection; return whether that goes on, in the thread of ``Joined``."""
        with self._lock:
            streams, joined = self._streams, self._joined
        if streams is not None:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._report(there, streams.carry(near, there))
            return False
        try:
            far = self._connected(there)
        except Refused:
            self._report(there, "refused")
            return False
        if joined is None or self._closed.is_set():
            far.close()
            return False
        self._report(there, "")
        joined.add(near, far, self._slots.release)
        return True

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


def _is_closed(near: socket.socket) -> bool:
    """Whether a client that sends no more has closed its connection."""
    return owner(near) is None
