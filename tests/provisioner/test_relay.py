"""The relay: bytes in, the same bytes out, whatever either side does."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring_provisioner.relay import CHUNK_BYTES, WAITING_BYTES, Relay, listen
from tests.support.relays import others_end, relay_to

MIB = 1 << 20


@pytest.fixture
def relayed(tmp_path: Path) -> Iterator[tuple[Callable[[], socket.socket], socket.socket]]:
    """A relay in a thread: a function that connects to its port, and the Unix socket behind."""
    with relay_to(tmp_path / "s") as (address, behind):
        yield lambda: socket.create_connection(address, timeout=30), behind


Relayed = tuple[Callable[[], socket.socket], socket.socket]


def read_all(source: socket.socket) -> bytes:
    parts = []
    while part := source.recv(MIB):
        parts.append(part)
    return b"".join(parts)


def test_a_hundred_mebibytes_arrive_as_they_were(relayed: Relayed) -> None:
    """100 MiB in odd pieces come out unchanged, both ways at once."""
    connect, behind = relayed
    block = os.urandom(MIB)
    sent, received = hashlib.sha256(), [hashlib.sha256(), hashlib.sha256()]

    def send(target: socket.socket) -> None:
        for number in range(100):
            target.sendall(block[: 1000 + number])
            target.sendall(block[1000 + number :])
        target.shutdown(socket.SHUT_WR)

    def receive(source: socket.socket, digest: hashlib._Hash) -> None:
        while part := source.recv(MIB):
            digest.update(part)

    for _ in range(100):
        sent.update(block)
    with connect() as client:
        kernel, _ = behind.accept()
        with kernel:
            threads = [
                threading.Thread(target=send, args=(client,)),
                threading.Thread(target=send, args=(kernel,)),
                threading.Thread(target=receive, args=(client, received[0])),
                threading.Thread(target=receive, args=(kernel, received[1])),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
    assert [digest.hexdigest() for digest in received] == [sent.hexdigest()] * 2


def test_the_end_of_one_direction_leaves_the_other_open(relayed: Relayed) -> None:
    """Who has said all still hears the answer; then both connections end."""
    connect, behind = relayed
    with connect() as client:
        kernel, _ = behind.accept()
        with kernel:
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert read_all(kernel) == b"question"
            kernel.sendall(b"answer" * 1000)
            kernel.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"answer" * 1000


def test_a_reader_that_is_slow_stops_the_writer(relayed: Relayed) -> None:
    """What nobody reads is not piled up: the writer is stopped after a bounded amount."""
    connect, behind = relayed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with connect() as client:
        kernel, _ = behind.accept()
        with kernel:
            kernel.settimeout(0.5)
            taken = 0
            with contextlib.suppress(TimeoutError):
                while True:
                    taken += kernel.send(b"x" * MIB)
                    assert taken < 200 * MIB, "the relay takes without end"
            buffers = 32 * MIB  # of the system, for two connections
            assert taken < WAITING_BYTES + 4 * CHUNK_BYTES + buffers
            kernel.settimeout(30)
            kernel.shutdown(socket.SHUT_WR)
            assert len(read_all(client)) == taken
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 2 * (taken + 16 * MIB) // 1024


def test_each_connection_has_its_own(relayed: Relayed) -> None:
    """Two clients of a port are two connections to the kernel; the end of one ends one."""
    connect, behind = relayed
    with connect() as first:
        one, _ = behind.accept()
        with connect() as second:
            two, _ = behind.accept()
            second.sendall(b"second")
            assert two.recv(10) == b"second"
        assert read_all(two) == b""
        two.close()
        first.sendall(b"first")
        assert one.recv(10) == b"first"
        one.close()
        assert first.recv(10) == b""


def test_a_kernel_that_is_not_there_is_a_closed_connection(tmp_path: Path) -> None:
    """A port whose socket does not answer closes what connects, and goes on listening."""

    async def connect_twice() -> list[bytes]:
        port = listen("127.0.0.1", 0)
        relay = Relay([port], [str(tmp_path / "none")])
        await relay.start()
        reply = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*port.getsockname())
            with contextlib.suppress(ConnectionResetError):
                reply.append(await asyncio.wait_for(reader.read(), 10))
            writer.close()
        relay.close()
        return reply

    assert asyncio.run(connect_twice()) in ([], [b""], [b"", b""])


def test_what_connects_before_the_relay_begins_waits_for_it(tmp_path: Path) -> None:
    """A port listens from its first moment; what was sent meanwhile is not lost."""
    behind = socket.socket(socket.AF_UNIX)
    behind.bind(str(tmp_path / "s"))
    behind.listen()
    port = listen("127.0.0.1", 0)
    with socket.create_connection(port.getsockname()) as client, behind:
        client.sendall(b"early")

        async def begin() -> bytes:
            relay = Relay([port], [str(tmp_path / "s")])
            await relay.start()
            behind.setblocking(False)
            kernel, _ = await asyncio.get_running_loop().sock_accept(behind)
            with kernel:
                reply = await asyncio.get_running_loop().sock_recv(kernel, 10)
            relay.close()
            await others_end()
            return reply

        assert asyncio.run(begin()) == b"early"


def test_a_port_that_is_taken_is_refused() -> None:
    """Two listeners never share a port, also right after a connection to it has ended."""
    first = listen("127.0.0.1", 0)
    with first, pytest.raises(OSError, match="in use"):
        listen(*first.getsockname())


def test_a_closed_relay_frees_its_ports(relayed: Relayed, tmp_path: Path) -> None:
    """After its end the same ports can be bound at once, as a restart does in some clients."""
    port = listen("127.0.0.1", 0)
    address = port.getsockname()

    async def serve() -> None:
        relay = Relay([port], [str(tmp_path / "s")])
        await relay.start()
        _, writer = await asyncio.open_connection(*address)
        kernel, _ = await asyncio.to_thread(relayed[1].accept)
        relay.close()
        writer.close()
        kernel.close()
        await others_end()

    asyncio.run(serve())
    port.close()
    listen(*address).close()
