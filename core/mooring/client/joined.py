"""Copying bytes between pairs of TCP sockets, all in one thread.

Each direction of a pair holds at most ``CHUNK`` bytes: while the receiver does not take them,
nothing more is read from the sender, and other pairs are not affected.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

CHUNK = 1 << 17
#: Interval, in seconds, at which half-closed connections are checked for being fully closed.
CLOSED_S = 5.0
#: How many of them are checked then: each check reads a table of the kernel's.
CHECKED = 20
# A process in a session has the same socket, and may set it to blocking
_NOW = socket.MSG_DONTWAIT
_RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: close(2) resets the connection
_NO_LINGER = struct.pack("ii", 0, 0)


class _Side:
    """One socket of a pair, as the sender of one direction and the receiver of the other."""

    def __init__(self, connection: socket.socket, pair: _Pair) -> None:
        self.socket, self.pair = connection, pair
        self.ended = False  # it sends no more
        self.shut = False  # nor is anything sent to it
        self.pending = memoryview(b"")  # received from the other one, not yet sent to it
        self.events = 0

    @property
    def other(self) -> _Side:
        near, far = self.pair.sides
        return far if self is near else near


class _Pair:
    def __init__(self, near: socket.socket, far: socket.socket, ended: Callable[[], None]) -> None:
        self.sides = (_Side(near, self), _Side(far, self))
        self.ended = ended
        self.over = False


class _New(NamedTuple):
    near: socket.socket
    far: socket.socket
    ended: Callable[[], None]


class Joined:
    """Pairs of sockets, from ``add`` until both have ended or one is broken.

    Args:
        is_closed: whether a connection whose peer sends no more was closed by it.
    """

    def __init__(self, is_closed: Callable[[socket.socket], bool]) -> None:
        self._is_closed = is_closed
        self._selector = selectors.DefaultSelector()
        self._new: deque[_New] = deque()
        self._half: deque[_Pair] = deque()
        self._pairs: set[_Pair] = set()
        self._buffer = bytearray(CHUNK)
        self._closed = False
        self._checked_at = time.monotonic()
        self._woken, self._waking = socket.socketpair()
        self._waking.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, near: socket.socket, far: socket.socket, ended: Callable[[], None]) -> None:
        """Join two sockets, which are closed in the end.

        Args:
            near: the client's.
            far: the service's.
            ended: called once both are closed, from another thread.
        """
        self._new.append(_New(near, far, ended))
        self._wake()

    def close(self) -> None:
        """Close all pairs. Idempotent."""
        self._closed = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake
            self._waking.send(b"x")

    def _run(self) -> None:
        try:
            while not self._closed:
                for key, events in self._selector.select(CLOSED_S if self._half else None):
                    if key.data is None:
                        self._take_new()
                    elif not key.data.pair.over:
                        self._step(key.data, events)
                self._check_half()
        finally:
            self._take_new()
            for pair in list(self._pairs):
                self._end(pair, reset=True)
            self._selector.close()
            self._woken.close()
            self._waking.close()

    def _take_new(self) -> None:
        with contextlib.suppress(OSError):
            self._woken.recv(CHUNK)
        while self._new:
            near, far, ended = self._new.popleft()
            pair = _Pair(near, far, ended)
            self._pairs.add(pair)
            for side in pair.sides:
                side.socket.setblocking(False)
                with contextlib.suppress(OSError):
                    side.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._register(side)

    def _register(self, side: _Side) -> None:
        """Wait for what can be done: read unless the other one is behind, write if it is."""
        events = 0
        if not side.ended and not side.other.pending:
            events |= selectors.EVENT_READ
        if side.pending:
            events |= selectors.EVENT_WRITE
        if events == side.events:
            return
        if not side.events:
            self._selector.register(side.socket, events, side)
        elif not events:
            self._selector.unregister(side.socket)
        else:
            self._selector.modify(side.socket, events, side)
        side.events = events

    def _step(self, side: _Side, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE and side.pending:
                self._send(side, side.pending)
            if events & selectors.EVENT_READ and not side.ended and not side.other.pending:
                self._receive(side)
        except OSError:  # one of them was reset
            self._end(side.pair, reset=True)
            return
        if all(one.ended and one.shut for one in side.pair.sides):
            self._end(side.pair)
            return
        for one in side.pair.sides:
            self._register(one)

    def _receive(self, side: _Side) -> None:
        try:
            count = side.socket.recv_into(self._buffer, CHUNK, _NOW)
        except BlockingIOError:
            return
        if count:
            self._send(side.other, memoryview(self._buffer)[:count])
            return
        side.ended = True
        self._shut_if_done(side.other)
        if side is side.pair.sides[0]:
            self._half.append(side.pair)

    def _send(self, side: _Side, data: memoryview) -> None:
        try:
            sent = side.socket.send(data, _NOW)
        except BlockingIOError:
            sent = 0
        rest = data[sent:]
        side.pending = rest if data is side.pending else memoryview(bytes(rest))
        self._shut_if_done(side)

    def _shut_if_done(self, side: _Side) -> None:
        if side.other.ended and not side.pending and not side.shut:
            side.shut = True
            with contextlib.suppress(OSError):
                side.socket.shutdown(socket.SHUT_WR)

    def _check_half(self) -> None:
        """End pairs whose client is gone: its end looks as if it only sent no more."""
        now = time.monotonic()
        if now - self._checked_at < CLOSED_S:
            return
        self._checked_at = now
        for _ in range(min(CHECKED, len(self._half))):
            pair = self._half.popleft()
            if pair.over:
                continue
            if self._is_closed(pair.sides[0].socket):
                self._end(pair, reset=True)
            else:
                self._half.append(pair)

    def _end(self, pair: _Pair, *, reset: bool = False) -> None:
        if pair.over:
            return
        pair.over = True
        self._pairs.discard(pair)
        for side in pair.sides:
            if side.events:
                self._selector.unregister(side.socket)
                side.events = 0
            if reset:
                with contextlib.suppress(OSError):
                    side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            else:
                do_not_linger(side.socket)
            side.socket.close()
            side.pending = memoryview(b"")
        pair.ended()


def do_not_linger(passed: socket.socket) -> None:
    """Let ``close`` not wait: the session, which has the same socket, can set that it does."""
    with contextlib.suppress(OSError):
        passed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
