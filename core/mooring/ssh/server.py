"""The server: one connection, over this process's standard input and output.

The client is the user's own ssh, which has started this process. Nobody else can write to its
streams, so that no authentication is needed, and "none" (RFC 4252, section 5.2) is accepted.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable
from typing import Any

import asyncssh

from mooring._version import __version__
from mooring.client.client import Mooring
from mooring.ssh import forwarding
from mooring.ssh.channels import SessionChannel
from mooring.ssh.connection import ConnectionState
from mooring.ssh.standard_streams import StandardStreams
from mooring.ssh.threads import in_thread

# AES-GCM alone is one call for a packet; the others are for clients that lack it. No client has
# CBC only.
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
_WINDOW, _PACKET = 4 << 20, 1 << 17
_IGNORED, _ENDING = (signal.SIGINT, signal.SIGQUIT), (signal.SIGHUP, signal.SIGTERM)
# How long programs of a connection that is gone may take to end
_FINISH_S = 5.0


class Server(asyncssh.SSHServer):
    """Opens the channels of one connection.

    Args:
        state: what they share.
    """

    def __init__(self, state: ConnectionState) -> None:
        self._state = state

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._state.connection = conn

    def begin_auth(self, username: str) -> bool:
        return False  # any name is the session's user

    def session_requested(self) -> SessionChannel:
        return SessionChannel(self._state)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Awaitable[asyncssh.SSHTCPSession[bytes]]:
        forwarding.check_host(dest_host)
        if not 0 < dest_port < 65536:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "not a port")
        return forwarding.connect(self._state, dest_port)

    def unix_connection_requested(
        self, dest_path: str
    ) -> Awaitable[asyncssh.SSHUNIXSession[bytes]]:
        forwarding.check_path(dest_path)
        return forwarding.connect(self._state, dest_path)

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return False  # ssh -R

    def unix_server_requested(self, listen_path: str) -> bool:
        return False


def serve(mooring: Mooring, name: str, key: asyncssh.SSHKey) -> None:
    """Serve the client at this process's standard streams until it closes the connection.

    Blocks. Programs without a terminal lose their input with the connection; terminals stay.

    Args:
        mooring: the client.
        name: a session's name.
        key: the host key.
    """
    verbose = logging.getLogger().isEnabledFor(logging.DEBUG)
    for logger in ("asyncssh", "asyncio"):  # they warn of each write to a client that has gone
        logging.getLogger(logger).setLevel(logging.DEBUG if verbose else logging.CRITICAL)
    asyncio.run(_serve(mooring, name, key))


async def _serve(mooring: Mooring, name: str, key: asyncssh.SSHKey) -> None:
    state = ConnectionState(mooring, name)
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    streams = StandardStreams(ours)
    streams.start()
    options: dict[str, Any] = {
        "server_host_keys": [key],
        "server_version": f"mooring_{__version__}",
        "encryption_algs": _CIPHERS,
        "compression_algs": ["none"],
        "encoding": None,
        "line_editor": False,
        "agent_forwarding": True,
        "x11_forwarding": False,
        "allow_scp": False,
        "gss_host": None,
        "window": _WINDOW,
        "max_pktsize": _PACKET,
    }
    # Ctrl-C at ssh's terminal is ssh's, whose end is seen here; it sends SIGHUP then
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in _ENDING:
        loop.add_signal_handler(number, streams.end_input)
    try:
        connection = await asyncssh.run_server(
            theirs, server_factory=lambda: Server(state), **options
        )
        await connection.wait_closed()
    except (asyncssh.Error, OSError, ConnectionError):
        pass  # the client has gone, or does not speak SSH; it has been told
    finally:
        await state.finish(_FINISH_S)
        await in_thread(streams.finish)
        for number in _ENDING:  # one could come while the loop is being closed
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
