"""Forward TCP ports on the host to a kernel's Unix sockets.

ZeroMQ's protocol is the same over both, so bytes are forwarded unchanged: messages are neither
parsed nor signed again. Back-pressure applies in both directions. A connection must come from the
same user, because any user can connect to a port on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from mooring import is_our_own

CHUNK_BYTES = 256 << 10
# Buffer per direction and connection, in addition to the operating system's socket buffers
WAITING_BYTES = 1 << 20


def listen(ip: str, port: int) -> socket.socket:
    """Bind a port and listen; connections are queued until a ``Relay`` accepts them.

    Args:
        ip: the address to bind to.
        port: the port's number.

    Returns:
        A non-blocking socket, which the caller closes.

    Raises:
        OSError: the port is in use.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Some clients restart a kernel on the same ports while the old connections linger
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ip, port))
        listening.listen(128)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


class Relay:
    """Forwards each connection to a port to a new connection to a Unix socket.

    Args:
        ports: listening sockets.
        targets: paths of the Unix sockets, in the same order.
    """

    def __init__(self, ports: Sequence[socket.socket], targets: Sequence[str]) -> None:
        self._pairs = list(zip(ports, targets, strict=True))
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Start accepting connections, including those already queued."""
        for port, target in self._pairs:

            async def connected(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str = target
            ) -> None:
                await self._forward(reader, writer, target)

            server = await asyncio.start_server(connected, sock=port, limit=CHUNK_BYTES)
            self._servers.append(server)

    def close(self) -> None:
        """Close the ports and every connection. Idempotent."""
        for server in self._servers:
            server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str
    ) -> None:
        writers = [writer]
        self._open.add(writer)
        try:
            if not is_our_own(writer.get_extra_info("socket")):
                return
            kernel = await asyncio.open_unix_connection(target, limit=CHUNK_BYTES)
            writers.append(kernel[1])
            self._open.add(kernel[1])
            for side in writers:
                side.transport.set_write_buffer_limits(high=WAITING_BYTES)
            await asyncio.gather(_pump(reader, kernel[1]), _pump(kernel[0], writer))
            for side in writers:  # closing flushes the buffers
                side.close()
                await side.wait_closed()
        except OSError:  # one side has closed, so close the other one
            pass
        finally:
            for side in writers:
                side.transport.abort()
                self._open.discard(side)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward one direction until EOF; the other direction stays open."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
