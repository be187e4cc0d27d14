"""Bytes between a channel and a stream: all of them, in order, and few at a time."""

from __future__ import annotations

import asyncio
import fcntl
import socket
from collections.abc import Callable
from typing import Any

from mooring.engines.streams import SocketStream
from mooring.ssh.relay import Relaying

WINDOW = 1 << 20


class Channel:
    """What a relay uses of a channel of asyncssh's."""

    def __init__(self) -> None:
        self._recv_window = self._init_recv_window = WINDOW
        self.granted = 0
        self.written = bytearray()

    def get_recv_window(self) -> int:
        return self._init_recv_window

    def send_packet(self, kind: int, count: bytes) -> None:
        assert kind == 93  # SSH_MSG_CHANNEL_WINDOW_ADJUST, RFC 4254
        self.granted += int.from_bytes(count, "big")

    def write(self, data: bytes, kind: int | None) -> None:
        self.written += data


def opened() -> tuple[Any, Channel, socket.socket, SocketStream]:
    near, far = socket.socketpair()
    far.setblocking(False)
    session, channel = Relaying(), Channel()
    session.connection_made(channel)
    return session, channel, far, SocketStream(near, tty=True)


async def read(far: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await asyncio.get_running_loop().sock_recv(far, count - len(data))
    return data


def test_input_from_before_the_program_runs_comes_first() -> None:
    """Also its end, which may have come by then."""

    async def go() -> None:
        session, _, far, stream = opened()
        session.data_received(b"one ", None)
        session.data_received(b"two ", None)
        session.start_relay(stream)
        session.data_received(b"three", None)
        assert session.eof_received()
        assert await read(far, 13) == b"one two three"
        assert await asyncio.get_running_loop().sock_recv(far, 1) == b""
        session.relay.close()
        far.close()

    asyncio.run(go())


def test_the_client_may_send_only_as_much_as_was_passed_on() -> None:
    """asyncssh would grant a whole window with each piece, and hold all of them."""

    async def go() -> None:
        session, channel, far, stream = opened()
        session.start_relay(stream)
        sent = b"".join(bytes([number]) * 65536 for number in range(16))
        for start in range(0, len(sent), 65536):
            session.data_received(sent[start : start + 65536], None)
        await asyncio.sleep(0)
        assert channel._init_recv_window == 0, "asyncssh itself grants more"
        assert channel.granted < WINDOW // 2
        assert await read(far, len(sent)) == sent
        await asyncio.sleep(0.05)
        assert channel.granted > WINDOW // 2
        assert channel.granted <= len(sent)
        assert channel._recv_window == WINDOW + channel.granted
        session.relay.close()
        far.close()

    asyncio.run(go())


def test_output_waits_while_the_client_does_not_read() -> None:
    """And goes on where it was."""

    async def go() -> None:
        session, channel, far, stream = opened()
        session.start_relay(stream)
        session.pause_writing()
        far.sendall(b"later")
        await asyncio.sleep(0.05)
        assert channel.written == b""
        session.resume_writing()
        far.shutdown(socket.SHUT_WR)
        await session.relay.ended
        assert channel.written == b"later"
        session.relay.close()
        far.close()

    asyncio.run(go())


def test_a_program_that_no_longer_reads_stops_nobody() -> None:
    """What it does not take is dropped, as by a closed pipe."""

    async def go() -> None:
        session, channel, far, stream = opened()
        session.start_relay(stream)
        far.close()
        for _ in range(64):
            session.data_received(b"x" * 65536, None)
        await asyncio.sleep(0.05)
        assert channel.granted > WINDOW
        session.relay.close()

    asyncio.run(go())


def test_a_socket_that_the_session_lets_block_does_not() -> None:
    """A passed socket shares its status flags with the session, which may set them anew."""

    async def go() -> None:
        session, channel = Relaying(), Channel()
        session.connection_made(channel)
        near, theirs = socket.socketpair()
        stream = SocketStream(near, tty=True, flags=socket.MSG_DONTWAIT)
        relay = session.start_relay(stream)
        fcntl.fcntl(near, fcntl.F_SETFL, 0)  # as the session would: no O_NONBLOCK
        relay._readable()  # nothing is there
        session.data_received(bytes(4 << 20), None)  # more than it takes
        theirs.sendall(b"over")
        assert await asyncio.wait_for(_until(lambda: channel.written == b"over"), 10)
        relay.close()
        theirs.close()

    asyncio.run(go())


async def _until(is_true: Callable[[], bool]) -> bool:
    while not is_true():
        await asyncio.sleep(0.01)
    return True
