"""TCP ports of this machine, joined to a kernel's Unix sockets.

ZeroMQ speaks the same bytes over both, so what comes in is passed on as it is: no message is
read, and none is signed again. What one side does not take is not read from the other. Who
connects must be the same user: a port of 127.0.0.1 is open to all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from mooring.host.peers import is_our_own

CHUNK_BYTES = 256 << 10
# What may wait in one direction of one connection, beside the kernel's own socket buffers
WAITING_BYTES = 1 << 20


def listen(ip: str, port: int) -> socket.socket:
    """Bind a port and listen; what connects waits until a ``Relay`` takes it.

    Raises:
        OSError: the port is taken.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # a restart comes with the same ports in some clients, and the old connections linger
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ip, port))
        listening.listen(128)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


class Relay:
    """Connections to ports, each passed on to one of its own to a Unix socket.

    Args:
        ports: listening sockets.
        targets: paths of the Unix sockets, in the same order.
    """

    def __init__(self, ports: Sequence[socket.socket], targets: Sequence[str]) -> None:
        self._joints = list(zip(ports, targets, strict=True))
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Take what waits at the ports, and all that comes."""
        for port, target in self._joints:

            async def joined(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str = target
            ) -> None:
                await self._join(reader, writer, target)

            self._servers.append(await asyncio.start_server(joined, sock=port, limit=CHUNK_BYTES))

    def close(self) -> None:
        """Leave the ports and cut every connection. Idempotent."""
        for server in self._servers:
            server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str
    ) -> None:
        opened = [writer]
        self._open.add(writer)
        try:
            if not is_our_own(writer.get_extra_info("socket")):
                return
            there = await asyncio.open_unix_connection(target, limit=CHUNK_BYTES)
            opened.append(there[1])
            self._open.add(there[1])
            for each in opened:
                each.transport.set_write_buffer_limits(high=WAITING_BYTES)
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
            for each in opened:  # what waits is sent first
                each.close()
                await each.wait_closed()
        except OSError:  # one side is gone: so is the other
            pass
        finally:
            for each in opened:
                each.transport.abort()
                self._open.discard(each)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until there are no more; then say so, and leave the other direction open."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
