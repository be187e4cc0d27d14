"""Who reaches the services of a session: not another session, nor another container."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.engines.docker import networks
from mooring.sessions.model import Session, State
from mooring.spec.resolve import resolve
from tests.support.docker import RUN, docker, inspect, this_run
from tests.support.streams import output_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

PORT = 8080
# Answers on a TCP and a UDP port, on every address of its own
SERVE = f"""python3 -c '
import socket, threading
def tcp():
    server = socket.create_server(("0.0.0.0", {PORT}))
    while True:
        server.accept()[0].sendall(b"served")
threading.Thread(target=tcp, daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", {PORT}))
while True:
    udp.sendto(b"served", udp.recvfrom(9)[1])
'"""
TCP = f"import socket, sys; print(socket.create_connection((sys.argv[1], {PORT}), 3).recv(9))"
UDP = f"""
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(3)
udp.sendto(b"x", (sys.argv[1], {PORT}))
print(udp.recv(9))
"""
LOOKUP = "import socket, sys; print(*socket.gethostbyname_ex(sys.argv[1])[2])"


def create(mooring: Mooring, name: str, **flags: Any) -> Session:
    spec = resolve(flags={"command": ["sleep", "300"], **flags}, environ={})
    return mooring.sessions.create(spec, LaunchOptions(name=name)).session


def address_of(session: Session) -> str:
    rows = inspect(session.container)["NetworkSettings"]["Networks"]
    assert list(rows) == [networks.NAME]
    return str(rows[networks.NAME]["IPAddress"])


def from_here(program: str, address: str) -> str:
    words = [sys.executable, "-c", program, address]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def service(mooring: Mooring, project: Path) -> str:
    """The address of a session that serves the world."""
    address = address_of(create(mooring, "service", command=["sh", "-c", SERVE]))
    eventually(lambda: "served" in from_here(TCP, address), 30, "it never served")
    assert "served" in from_here(UDP, address)
    return address


@pytest.mark.parametrize("program", [TCP, UDP], ids=["tcp", "udp"])
def test_a_session_does_not_reach_another(
    mooring: Mooring, project: Path, service: str, program: str
) -> None:
    """What a session serves, by whatever protocol, no other session reaches, not even by name."""
    other = create(mooring, "other")
    name = inspect(mooring.sessions.get("service").container)["Name"].lstrip("/")
    for target in (service, name):
        told = output_of(mooring, other, "python3", "-c", program, target)
        assert "timed out" in told or "gaierror" in told, told
        assert "served" not in told


def test_a_session_with_a_late_network_does_not_either(
    mooring: Mooring, project: Path, service: str
) -> None:
    """A kernel's session, which is connected while its kernel boots, is in the same network."""
    other = create(mooring, "late", command=None, kernel="python3")
    address_of(other)
    assert "timed out" in output_of(mooring, other, "python3", "-c", TCP, service)


def test_another_container_does_not_reach_a_session(
    mooring: Mooring, project: Path, service: str
) -> None:
    """Neither does a container of somebody's own, in the engine's default network."""
    image = inspect(mooring.sessions.get("service").container)["Config"]["Image"]
    binds = [
        word for top in ("/usr", "/lib", "/lib64", "/bin") for word in ("-v", f"{top}:{top}:ro")
    ]
    words = ["run", "--rm", f"--label={RUN}={this_run()}", *binds, image]
    done = docker(*words, "/usr/bin/python3", "-c", TCP, service)
    assert done.returncode != 0
    assert "timed out" in done.stderr


def test_a_session_reaches_the_world(mooring: Mooring, project: Path) -> None:
    """It has a way out and a name server, and publishes ports on this machine's loopback only."""
    served = create(mooring, "out", command=["sh", "-c", SERVE], ports=[str(PORT)])
    told = output_of(mooring, served, "cat", "/etc/resolv.conf", "/proc/net/route")
    assert "nameserver" in told
    assert "\t00000000\t" in told  # a default route
    assert "127.0.0.1" in output_of(mooring, served, "python3", "-c", LOOKUP, "localhost")
    ((port, _),) = mooring.sessions.get("out").ports

    def answers() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), 3) as client:
                return client.recv(9) == b"served"
        except OSError:
            return False

    eventually(answers, 30, "the published port does not answer")
    (binding,) = inspect(served.container)["NetworkSettings"]["Ports"][f"{PORT}/tcp"]
    assert binding["HostIp"] == "127.0.0.1"


@pytest.fixture
def other_name(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A network of another name, so that this machine's sessions keep theirs."""
    name = f"mooring-gone-{os.getpid()}"
    monkeypatch.setattr(networks, "NAME", name)
    yield name
    docker("network", "rm", name)


@pytest.mark.parametrize(
    "flags", [{}, {"command": None, "kernel": "python3"}, {"ports": [str(PORT)]}],
    ids=["command", "kernel", "ports"],
)  # fmt: skip
def test_a_network_that_was_removed_comes_back(
    other_name: str, mooring: Mooring, project: Path, flags: dict[str, Any]
) -> None:
    """A stopped session whose network somebody removed, as ``docker network prune`` does, starts
    again, isolated as before."""
    session = create(mooring, "again", **flags)
    mooring.sessions.stop(session)
    assert docker("network", "rm", other_name).returncode == 0
    again = mooring.sessions.start(mooring.sessions.get("again"))
    assert again.state is State.RUNNING
    assert address_of(again)
    assert isolation_of(other_name) == ["false"]
    mooring.sessions.remove(again, force=True)


def isolation_of(name: str) -> list[str]:
    """Whether containers reach each other, of each network of that name."""
    form = '{{index .Options "com.docker.network.bridge.enable_icc"}}'
    return docker("network", "inspect", "--format", form, name).stdout.split()
