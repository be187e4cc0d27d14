"""Ports of a session, carried to 127.0.0.1 of this machine, each connection by a process in it.

Nothing of the session's network is used: what reaches the service is a process beside it, which
also works without any network. A forward is no activity, with or without traffic: a tab that was
left open over the weekend would hold the session for ever, as an open notebook tab must not. What
the traffic sets to work in the session counts, as always.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from mooring import ports
from mooring.engines.base import Stream
from mooring.errors import (
    EngineError,
    EngineUnavailable,
    MooringError,
    SessionNotFound,
    SpecError,
)
from mooring.host.peers import owner
from mooring.sessions.model import Session, State
from mooring.terminals.pump import STDERR, Demultiplexer

if TYPE_CHECKING:
    from mooring.service import Mooring

CHUNK = 1 << 16
SPARES = 2
AT_ONCE = 400  # two descriptors each, of the usual 1024
RESTART_S = 10.0
CLOSED_S = 5.0
# How soon at most the session's side is begun again
AGAIN_S = 1.0

log = logging.getLogger(__name__)


def parse(text: str) -> tuple[int, int]:
    """``6006``, ``8080:6006``, or ``0:6006`` and ``:6006`` for any free port of this machine.

    Raises:
        SpecError: it is none of that.
    """
    here, colon, there = text.rpartition(":")
    numbers = [here or "0" if colon else there, there]
    if not all(number.isascii() and number.isdigit() and len(number) < 6 for number in numbers):
        raise SpecError(f"{text!r} is no port", "as in 6006, 8080:6006, or 0:6006")
    pair = int(numbers[0]), int(numbers[1])
    if not 0 < pair[1] < 65536 or pair[0] > 65535:
        raise SpecError(f"{text!r} is no port", "ports go from 1 to 65535")
    return pair


@dataclass
class _Relay:
    """A process in the session that waits for its port, or carries a connection."""

    stream: Stream
    pid: str
    demultiplexer: Demultiplexer


class Forwarder:
    """Listens on 127.0.0.1 and ::1, and carries what connects into a session.

    Args:
        pairs: this machine's port, 0 for a free one, and the session's.
        told: called with a line for what went wrong, from any thread.
    """

    def __init__(
        self,
        mooring: Mooring,
        session: Session,
        pairs: Sequence[tuple[int, int]],
        told: Callable[[str], None],
    ) -> None:
        self._mooring, self._session, self._told = mooring, session, told
        guest = resources.files("mooring") / "guest"
        script, python, perl = (
            (guest / name).read_text() for name in ("forward.sh", "relay.py", "relay.pl")
        )
        self._relay_argv = ["/bin/sh", "-c", script, "forward", "relay", python, perl]
        self._guard_argv = ["/bin/sh", "-c", script, "forward", "guard"]
        self._lock, self._filling = threading.Lock(), threading.Lock()
        self._guard: Stream | None = None
        self._spares: list[_Relay] = []
        self._complained: set[int] = set()
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._closed = threading.Event()
        self._listening: list[tuple[socket.socket, int]] = []
        self._pairs = list(pairs)

    def open(self) -> list[tuple[int, int]]:
        """Listen. Returns pairs as given, with the numbers of the free ports.

        Raises:
            PortTaken: one is held by somebody.
            EngineError: the session takes no process.
        """
        found = []
        for here, there in self._pairs:
            number, sockets = _listen(here, there, self._told)
            self._listening += [(each, there) for each in sockets]
            found.append((number, there))
        self._begin()
        threading.Thread(target=self._accept, daemon=True).start()
        return found

    def serve(self) -> str:
        """Go on until the session ends; a line that says how it did."""
        while True:
            begun = time.monotonic()
            guard = self._guard
            if guard is not None:
                with contextlib.suppress(OSError):
                    while guard.socket().recv(CHUNK):
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
            with contextlib.suppress(EngineError):
                self._begin()

    def close(self) -> None:
        """Listen no more, and end every connection. Idempotent."""
        self._closed.set()
        for listening, _ in self._listening:
            listening.close()
        with self._lock:
            streams = [relay.stream for relay in self._spares]
            streams += [self._guard] if self._guard else []
            self._spares, self._guard = [], None
        for stream in streams:  # at the end of its input the guard ends all relays
            stream.close_stdin()
            stream.close()

    # the session's side

    def _begin(self) -> None:
        guard = self._exec(self._guard_argv)
        with self._lock:
            self._guard = guard
        self._spare()

    def _exec(self, argv: Sequence[str]) -> Stream:
        # not through Mooring.exec, which counts as activity
        return self._mooring.engine.exec(self._session.container, argv, stdin=True)

    def _tell_guard(self, line: str) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._guard is not None:
                self._guard.socket().sendall(f"{line}\n".encode())

    def _new_relay(self) -> _Relay:
        """A relay that the guard knows, so that it does not outlive this process."""
        stream = self._exec(self._relay_argv)
        demultiplexer, said = Demultiplexer(), b""
        while b"\n" not in said:
            data = stream.socket().recv(CHUNK)
            if not data:
                stream.close()
                raise EngineError("the session takes no process")
            said += b"".join(piece for _, piece in demultiplexer.feed(data))
        relay = _Relay(stream, said.decode(errors="replace").strip(), demultiplexer)
        if not relay.pid.isdigit():
            stream.close()
            raise EngineError("the session's side of the forward did not begin")
        self._tell_guard(f"add {relay.pid}")
        return relay

    def _spare(self) -> None:
        """Keep some relays waiting: a connection need not wait for a process to start."""

        def fill() -> None:
            with self._filling, contextlib.suppress(EngineError, OSError):
                while len(self._spares) < SPARES and not self._closed.is_set():
                    relay = self._new_relay()
                    with self._lock:
                        if self._guard is None or self._closed.is_set():
                            relay.stream.close()
                            return
                        self._spares.append(relay)

        threading.Thread(target=fill, daemon=True).start()

    def _relay(self) -> _Relay:
        while True:
            with self._lock:
                relay = self._spares.pop(0) if self._spares else None
            self._spare()
            if relay is None:
                return self._new_relay()
            with selectors.DefaultSelector() as selector:
                selector.register(relay.stream.socket(), selectors.EVENT_READ)
                if not selector.select(0):
                    return relay
            # it says something, unasked: it has ended, and its number may be another's soon
            self._tell_guard(f"drop {relay.pid}")
            relay.stream.close()

    def _wait_for_restart(self) -> str:
        """Empty once the session runs (again); else how it ended."""
        name, deadline, silent = self._session.name, time.monotonic() + RESTART_S, False
        while True:
            try:
                session = self._mooring.get(self._session.id)
            except SessionNotFound:
                return f"session {name} is gone"
            except EngineUnavailable as error:
                if not silent:
                    self._told(f"{error.message}; waiting for it")
                silent = True
                deadline = time.monotonic() + RESTART_S
                time.sleep(1)
                continue
            if session.state is State.RUNNING:
                self._session = session
                return ""
            if time.monotonic() > deadline or session.state in (State.LOST, State.GONE):
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
                    user = owner(near)  # at once: one that sends and closes is soon nobody's
                    self._room.acquire()
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
                self._complain(there, "a connection was closed before its owner could be told")
            else:
                self._told(f"port {there}: turned away somebody who is not you")
        except (MooringError, OSError) as error:
            if not self._closed.is_set():
                self._complain(there, str(error))
        finally:
            near.close()
            self._room.release()

    def _carry(self, near: socket.socket, there: int) -> None:
        relay = self._relay()
        far = relay.stream.socket()
        over = threading.Event()

        def send() -> None:
            try:
                while data := near.recv(CHUNK):
                    far.sendall(data)
                far.shutdown(socket.SHUT_WR)
                while not over.wait(CLOSED_S):
                    if owner(near) is None:  # it was closed, not only this direction
                        self._tell_guard(f"kill {relay.pid}")
            except OSError:
                if not over.is_set():
                    self._tell_guard(f"kill {relay.pid}")

        sender = threading.Thread(target=send, daemon=True)
        try:
            far.sendall(f"{there} {there:04X}\n".encode())
            sender.start()
            said = self._receive(relay, near)
        except OSError:  # nobody reads it any more
            self._tell_guard(f"kill {relay.pid}")
            said = ""
        finally:
            over.set()
            self._tell_guard(f"drop {relay.pid}")
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
            if sender.is_alive():
                sender.join()
            relay.stream.close()
        name = self._session.name
        if said == "refused":
            self._complain(there, f"nothing listens on it in session {name}")
        elif said == "none":
            self._complain(
                there,
                f"the image of session {name} has none of python3, perl, socat, nc, busybox, bash",
            )
        elif said:
            self._complain(there, said)
        else:
            self._complained.discard(there)

    def _receive(self, relay: _Relay, near: socket.socket) -> str:
        """Pass on what the service sends, to the relay's end. Returns its complaint."""
        count, until, said = 0, -1, b""
        while data := _received(relay.stream.socket()):
            for kind, piece in relay.demultiplexer.feed(data):
                if kind == STDERR:
                    said = (said + piece)[-1024:]
                    *lines, rest = said.split(b"\n")
                    for line in lines:
                        if line.startswith(b"eof "):
                            until, said = int(line[4:]), rest
                else:
                    near.sendall(piece)
                    count += len(piece)
            if count == until:
                near.shutdown(socket.SHUT_WR)
                until = -1
        return said.decode(errors="replace").strip()

    def _complain(self, there: int, what: str) -> None:
        """Once for each port, until it works again: browsers ask many times."""
        if there not in self._complained:
            self._complained.add(there)
            self._told(f"port {there}: {' '.join(what.split())}")


def _received(far: socket.socket) -> bytes:
    try:
        return far.recv(CHUNK)
    except ConnectionError:
        return b""


def _listen(port: int, there: int, told: Callable[[str], None]) -> tuple[int, list[socket.socket]]:
    """Sockets of 127.0.0.1 and ::1 that listen on one port, and its number.

    Args:
        there: the session's port, for the error.

    ::1 too, because ``localhost`` means it first: a stranger who held it there would get what is
    meant for the session.

    Raises:
        PortTaken
    """
    first = _bound(socket.AF_INET, "127.0.0.1", port)
    if first is None:
        hint = f"write another one before the session's, or 0:{there} for any free one"
        raise ports.taken(port, ports.holder(None, port), hint)
    number = int(first.getsockname()[1])
    sockets = [first]
    try:
        second = _bound(socket.AF_INET6, "::1", number)
        if second is not None:
            sockets.append(second)
        else:
            told(f"port {number} of ::1 is taken: use 127.0.0.1, not localhost")
    except OSError:
        log.debug("this machine has no IPv6")
    return number, sockets


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket | None:
    """None if it is taken. Raises OSError for anything else."""
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        listening.listen(128)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            return None
        if error.errno == errno.EACCES:
            raise MooringError(
                f"port {port}: only root may listen below 1024", "use a higher one, as in 8080:80"
            ) from None
        raise
    return listening
