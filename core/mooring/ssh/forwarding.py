"""Forwarded connections (``ssh -L``, ``-D``, ``-W``): to ports and Unix sockets of the session."""

from __future__ import annotations

import asyncio
import socket
import threading

import asyncssh

from mooring.client.joined import do_not_linger
from mooring.client.port_relay import Refused
from mooring.engines.streams import SocketStream
from mooring.errors import MooringError
from mooring.ssh.connection import ConnectionState
from mooring.ssh.relay import Relaying
from mooring.ssh.threads import call_soon, in_thread

#: The names by which a client can mean the session itself.
OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
# How often a connection whose service has ended its output is looked at
_LOOK_S = 5.0
_MOST_PATH_BYTES = 107  # as SOCKET_PATH_MAX in mooring.host.paths


class ForwardedConnection(Relaying, asyncssh.SSHTCPSession[bytes], asyncssh.SSHUNIXSession[bytes]):
    """A channel that is connected to a service of the session.

    Args:
        state: what the connection's channels share.
        near: a socket that leads to the service.
        is_direct: whether it is the service's own, and not one that a thread copies from and to.
    """

    def __init__(self, state: ConnectionState, near: socket.socket, *, is_direct: bool) -> None:
        super().__init__()
        self._state, self._near, self._is_direct = state, near, is_direct
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone = threading.Event()

    def session_started(self) -> None:
        self._state.spawn(self._run())

    def eof_received(self) -> bool:
        if self._is_direct:
            self.set_over()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.set()

    def set_over(self) -> None:
        """Take note that both directions have ended, or will when the service's output does."""
        if not self._over.done():
            self._over.set_result(None)

    async def _run(self) -> None:
        relay = self.start_relay(SocketStream(self._near, tty=True, flags=socket.MSG_DONTWAIT))
        try:
            await asyncio.wait({relay.ended, self.lost}, return_when=asyncio.FIRST_COMPLETED)
            if not self.lost.done():
                self.channel.write_eof()
            over = {self._over, self.lost}
            while not (relay.is_deaf or self._over.done() or self.lost.done()):
                await asyncio.wait(over, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            self.channel.close()
        finally:
            if self._is_direct:
                do_not_linger(self._near)
            relay.close()


def check_host(host: str) -> None:
    """Refuse a host that is not the session. Raises ChannelOpenError."""
    if host not in OWN_HOSTS:
        raise asyncssh.ChannelOpenError(
            asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED,
            "only the session's own ports can be reached, as localhost",
        )


def check_path(path: str) -> None:
    """Refuse a path that no Unix socket has. Raises ChannelOpenError."""
    if not path.strip() or path != path.strip() or not path.isprintable():
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "not a socket's path")
    if len(path.encode()) > _MOST_PATH_BYTES:
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "the path is too long")


async def connect(state: ConnectionState, there: int | str) -> ForwardedConnection:
    """Connect to a service of the session.

    Args:
        state: what the connection's channels share.
        there: a port, or the path of a Unix socket.

    Raises:
        ChannelOpenError: nothing listens there, or the session does not run.
    """
    try:
        near = await in_thread(lambda: state.forwarder().connect(there))
    except Refused:
        raise _failure("refused") from None
    except (MooringError, OSError) as error:
        raise _failure(str(error)) from None
    if near is not None:
        return ForwardedConnection(state, near, is_direct=True)
    return await _connect_by_thread(state, there)


async def _connect_by_thread(state: ConnectionState, there: int | str) -> ForwardedConnection:
    """Connect by a process in the session that relays it, where the image has no python3."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    found: asyncio.Future[str] = loop.create_future()
    connection = ForwardedConnection(state, near, is_direct=False)

    def tell(complaint: str) -> None:
        if not found.done():
            found.set_result(complaint)

    def carry() -> None:
        try:
            complaint = state.forwarder().carry(
                far,
                there,
                is_closed=lambda _: connection.gone.is_set(),
                connected=lambda: call_soon(loop, tell, ""),
            )
        except (MooringError, OSError) as error:
            complaint = str(error)
        far.close()
        call_soon(loop, tell, complaint or "closed")
        call_soon(loop, connection.set_over)

    threading.Thread(target=carry, daemon=True).start()
    try:
        complaint = await found
    except asyncio.CancelledError:
        near.close()
        raise
    if complaint:
        near.close()
        raise _failure(complaint)
    return connection


def _failure(complaint: str) -> asyncssh.ChannelOpenError:
    text = {
        "refused": "Connection refused",
        "none": "the image has no program that connects to it: python3, socat or busybox",
    }
    return asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, text.get(complaint, complaint))
