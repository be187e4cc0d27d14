"""Copy bytes between an SSH channel and a stream of the session, both ways, with bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Protocol

import asyncssh

from mooring.engines.base import STDERR

CHUNK = 1 << 17
# SSH_MSG_CHANNEL_WINDOW_ADJUST, https://datatracker.ietf.org/doc/html/rfc4254#section-5.2
_WINDOW_ADJUST = 93


class Bytes(Protocol):
    """What a relay uses of a ``mooring.engines.base.Stream``."""

    def socket(self) -> socket.socket: ...
    def recv(self, size: int = ...) -> list[tuple[int, memoryview]]: ...
    def close_stdin(self) -> None: ...
    def close(self) -> None: ...


class _Window:
    """How much more the client may send on a channel, before what it has sent is passed on.

    asyncssh (2.24) lets a client send a whole window anew with each piece that it delivers, even if
    it still holds all the others: a slow program would fill the memory. It is kept from that here.

    Args:
        channel: the ``asyncssh.SSHChannel``, newly open.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._size: int = channel.get_recv_window()
        self._passed_on = 0
        channel._init_recv_window = 0  # so that it always seems to be wide open to asyncssh

    def pass_on(self, count: int) -> None:
        """Take note of bytes that were passed on, and let the client send as many."""
        self._passed_on += count
        if self._passed_on >= self._size // 4:
            self._channel.send_packet(_WINDOW_ADJUST, self._passed_on.to_bytes(4, "big"))
            self._channel._recv_window += self._passed_on
            self._passed_on = 0


class Relay:
    """One channel's connection to a stream; used in the event loop's thread only.

    A side that does not read stops the other one: of what is on its way, no more is held here than
    ``CHUNK`` and the channel's window.

    Args:
        channel: the ``asyncssh.SSHChannel``, open, of bytes.
        window: the channel's.
        stream: the stream.

    Attributes:
        ended: done at the end of the stream's output.
        received: how many bytes of output there were so far.
        is_deaf: whether the stream takes no more input.
    """

    def __init__(self, channel: Any, window: _Window, stream: Bytes) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0
        self._loop = asyncio.get_running_loop()
        self._channel, self._window, self._stream = channel, window, stream
        self._socket = stream.socket()
        self._socket.setblocking(False)
        self._unsent = bytearray()
        self._at_end = False  # of the input
        self.is_deaf = False
        self._reading = False
        self.resume()

    # from the client

    def send(self, data: bytes) -> None:
        """Pass on input, as soon as the stream takes it."""
        if self._at_end:
            return
        waiting = bool(self._unsent)
        self._unsent += data
        if not waiting:
            self._flush()
            if self._unsent:
                self._loop.add_writer(self._socket, self._sendable)

    def send_eof(self) -> None:
        """Pass on the end of the input. Idempotent."""
        if not self._at_end:
            self._at_end = True
            if not self._unsent:
                self._stream.close_stdin()

    def _sendable(self) -> None:
        self._flush()
        if not self._unsent:
            self._loop.remove_writer(self._socket)
            if self._at_end:
                self._stream.close_stdin()

    def _flush(self) -> None:
        count = len(self._unsent)
        if not self.is_deaf:
            try:
                with memoryview(self._unsent) as view, view[:CHUNK] as piece:
                    # the session may have made a passed socket block
                    count = self._socket.send(piece, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:  # the process has closed its input; its output may continue
                self.is_deaf = True
        del self._unsent[:count]
        self._window.pass_on(count)

    # to the client

    def pause(self) -> None:
        """Stop reading output, until ``resume``."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def resume(self) -> None:
        """Read output again."""
        if not self._reading and not self.ended.done():
            self._reading = True
            self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        try:
            pieces = self._stream.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            pieces = []
        for number, piece in pieces:
            self.received += len(piece)
            kind = asyncssh.EXTENDED_DATA_STDERR if number == STDERR else None
            with contextlib.suppress(OSError):  # the client has closed the channel
                self._channel.write(bytes(piece), kind)
        if not pieces:
            self.pause()
            if not self.ended.done():
                self.ended.set_result(None)

    def close(self) -> None:
        """Close the stream. Idempotent."""
        self.pause()
        self._loop.remove_writer(self._socket)
        self._unsent.clear()
        self.is_deaf = True
        if not self.ended.done():
            self.ended.set_result(None)
        self._stream.close()


class Relaying:
    """What all of a channel's sessions do with a relay, in asyncssh's names.

    Input that arrives before there is a relay is held, a window of it at most.
    """

    def __init__(self) -> None:
        self.channel: Any = None
        self._window: _Window
        self.relay: Relay | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._early: list[bytes] = []
        self._early_eof = self._paused = False

    def connection_made(self, chan: Any) -> None:
        self.channel, self._window = chan, _Window(chan)

    def start_relay(self, stream: Bytes) -> Relay:
        """Connect the channel to a stream, and pass on what has arrived so far."""
        self.relay = relay = Relay(self.channel, self._window, stream)
        if self._paused:
            relay.pause()
        early, self._early = self._early, []
        for data in early:
            relay.send(data)
        if self._early_eof:
            relay.send_eof()
        return relay

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self.relay is not None:
            self.relay.send(data)
        else:
            self._early.append(data)

    def eof_received(self) -> bool:
        if self.relay is not None:
            self.relay.send_eof()
        else:
            self._early_eof = True
        return True  # the other direction stays open

    def pause_writing(self) -> None:
        self._paused = True
        if self.relay is not None:
            self.relay.pause()

    def resume_writing(self) -> None:
        self._paused = False
        if self.relay is not None:
            self.relay.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
