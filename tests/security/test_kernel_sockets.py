"""Links in the place of a kernel's sockets: no client connects to what they lead to."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from mooring import KernelError, LaunchOptions
from mooring.client import Mooring
from mooring.kernels.connection import CHANNELS, Connection
from mooring.kernels.kernel import KernelHandle
from mooring.kernels.kernelhost import HostState, host_state
from mooring.sessions.model import Session
from mooring.spec.resolve import resolve
from tests.conftest import Cli
from tests.support.sessions import session_folder

pytestmark = pytest.mark.engine

KERNEL = "0123456789ab"


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket of this machine's that listens, as an agent's or a display's does."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "victim"))
        listening.listen(20)
        listening.setblocking(False)
        yield listening


def connections(victim: socket.socket) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            victim.accept()[0].close()
            count += 1
    return count


@pytest.fixture
def session(mooring: Mooring, project: Path) -> Session:
    flags = {"command": ["sleep", "1000"]}
    return mooring.sessions.create(resolve(flags=flags), LaunchOptions(name="box")).session


@pytest.fixture
def handle(mooring: Mooring, session: Session) -> Iterator[KernelHandle]:
    made = mooring.kernels.handle(session.id, KERNEL)
    yield made
    mooring.kernels.end(session.id, KERNEL)
    made.close()


def started(mooring: Mooring, session: Session, handle: KernelHandle) -> None:
    connection = handle.write_connection(key=b"k", encrypt=False, kernel_name="python3")
    mooring.kernels.start(session, handle, connection, cwd="/tmp", env={})


def answer(connection: Connection) -> str:
    """What the kernel answers to a new client."""
    client = BlockingKernelClient()
    client.load_connection_info(connection.info())
    client.start_channels()
    try:
        client.wait_for_ready(timeout=30)
        reply = client.execute_interactive("6 * 7", silent=False, output_hook=lambda _: None)
        return str(reply["content"]["status"])
    finally:
        client.stop_channels()
        client.context.destroy(linger=0)


def test_links_planted_under_a_running_kernel(
    cli: Cli,
    mooring: Mooring,
    session: Session,
    handle: KernelHandle,
    victim: socket.socket,
    tmp_path: Path,
) -> None:
    """In the place of a socket, of the kernel's folder and of all kernels' folder: a client that
    comes later still reaches the kernel, and the link's target is not connected to."""
    started(mooring, session, handle)
    sockets = " ".join(f"s-{number}" for number in range(1, len(CHANNELS) + 1))
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / KERNEL).mkdir(parents=True)
    for name in (*sockets.split(), f"{KERNEL}/s-1", "busy"):
        (elsewhere / name).symlink_to(tmp_path / "victim")
    connection = handle.connection()
    assert connection is not None
    folder = f"/run/mooring/k/{KERNEL}"
    for script in (
        f"cd {folder} && for s in {sockets}; do ln -sf {tmp_path}/victim $s; done",
        f"mv {folder} {folder}.aside && ln -s {elsewhere} {folder}",
        f"mv /run/mooring/k /run/mooring/aside && ln -s {elsewhere} /run/mooring/k",
    ):
        cli("exec", "box", "--", "sh", "-c", script, check=0)
        assert answer(connection) == "ok"
        assert connections(victim) == 0
    assert handle.connection() is None  # its key is behind a link now


def test_links_planted_while_a_kernel_starts(
    cli: Cli,
    mooring: Mooring,
    session: Session,
    handle: KernelHandle,
    victim: socket.socket,
    tmp_path: Path,
) -> None:
    """A session that replaces sockets as soon as they appear has a kernel that does not start, or
    one that is its own; no client is led out."""
    script = f"""
        cd /run/mooring/k; end=$(($(date +%s) + 30))
        while [ $(date +%s) -lt $end ]; do
            for s in {KERNEL}/s-*; do [ ! -S $s ] || [ -L $s ] || ln -sf {tmp_path}/victim $s; done
        done
    """
    engine = mooring.engine
    engine.exec_detached(session.container, ["/bin/sh", "-c", script])  # type: ignore[attr-defined]
    for _ in range(3):
        with contextlib.suppress(KernelError):
            started(mooring, session, handle)
            connection = handle.connection()
            assert connection is not None
            for number in range(1, len(CHANNELS) + 1):
                assert not os.path.islink(f"{connection.ip}-{number}")
        assert connections(victim) == 0
        mooring.kernels.end(session.id, KERNEL)


@pytest.mark.parametrize("how", ["socket", "folder"])
def test_a_link_in_the_place_of_the_kernel_host(
    cli: Cli,
    mooring: Mooring,
    session: Session,
    victim: socket.socket,
    tmp_path: Path,
    how: str,
) -> None:
    """Requests to start and signal kernels go to the session's own kernel host, or nowhere."""
    mooring.kernels.ensure_host(session)
    script = f"cd /run/mooring && rm -f kernelhost.sock && ln -s {tmp_path}/victim kernelhost.sock"
    guest = session_folder(session.id).guest
    if how == "folder":
        script = "mkdir /run/mooring/kernelhost.sock.d && cd /run/mooring && mv kernelhost.sock x"
    cli("exec", "box", "--", "sh", "-c", script, check=0)
    assert host_state(guest) is HostState.GONE
    assert connections(victim) == 0


def test_the_pins_go_with_the_kernel(
    mooring: Mooring, session: Session, handle: KernelHandle
) -> None:
    """A kernel that was shut down leaves no path that leads to a socket."""
    started(mooring, session, handle)
    connection = handle.connection()
    assert connection is not None
    assert answer(connection) == "ok"
    folder = session_folder(session.id).path / "k" / KERNEL
    assert len(list(folder.iterdir())) == len(CHANNELS)
    assert folder.stat().st_mode & 0o777 == 0o700
    mooring.kernels.end(session.id, KERNEL)
    assert not folder.exists()
