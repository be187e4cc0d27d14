"""ports: in a spec, and create --port: on this machine's 127.0.0.1, and nowhere else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mooring.client import Mooring

pytestmark = pytest.mark.engine

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
SAY = """
import socket
listening = socket.create_server(("", 7001))
while True:
    near, _ = listening.accept()
    near.sendall(b"hello")
    near.close()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def said(port: int) -> bytes:
    """What a service says, once it has begun."""
    for _ in range(200):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as near:
                if data := near.recv(100):
                    return data
        except OSError:
            pass
        import time

        time.sleep(0.1)
    return b""


def test_a_published_port_answers_on_loopback_alone(
    mooring: Mooring, cli: Cli, project: Path
) -> None:
    """HERE:THERE has that number, THERE alone any free one; the engine binds 127.0.0.1 for both."""
    here = free_port()
    (project / "serve.py").write_text(SAY)
    (project / "session.yml").write_text(
        f"name: web\ncommand: ['{sys.executable}', serve.py]\nports: ['{here}:7001', 7001]\n"
    )
    cli("create", "-d", "-f", "session.yml", check=0)
    session = mooring.sessions.get("web")
    assert session.declared["ports"] == [f"{here}:7001", "0:7001"]
    published = dict(session.ports)
    assert set(published.values()) == {7001}
    assert here in published
    assert len(published) == 2
    assert all(said(port) == b"hello" for port in published)
    (row,) = json.loads(cli("ps", "--json", check=0).stdout)
    assert {port["local"]: port["session"] for port in row["ports"]} == published
    told = cli("ps", "--format", "name,ports", check=0).stdout
    assert f"127.0.0.1:{here}->7001" in told
    asked = ["docker", "inspect", "-f", "{{json .NetworkSettings.Ports}}", session.container]
    bound = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
    assert {row["HostIp"] for rows in bound.values() for row in rows} == {"127.0.0.1"}


def test_a_port_that_is_taken_names_its_holder(mooring: Mooring, cli: Cli, project: Path) -> None:
    """By another session, or by a program: one line says which, and nothing is left."""
    here = free_port()
    cli("create", "-d", "--name", "first", "-p", f"{here}:80", "--", "sleep", "1000", check=0)
    done = cli("create", "-d", "--name", "second", "-p", f"{here}:80", "--", "sleep", "9", check=1)
    assert f"port {here} of 127.0.0.1 is taken by session first" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        done = cli("create", "-d", "-p", f"{port}:80", "--", "sleep", "9", check=1)
        assert f"port {port} of 127.0.0.1 is taken by process {os.getpid()}" in done.stderr
    assert [session.name for session in mooring.sessions.list()] == ["first"]


def test_a_stopped_session_finds_its_port_taken(mooring: Mooring, cli: Cli, project: Path) -> None:
    """start says who holds the port; once it is free again, start works."""
    here = free_port()
    cli("create", "-d", "--name", "web", "-p", f"{here}:80", check=0)
    cli("stop", "web", check=0)
    with socket.create_server(("127.0.0.1", here)):
        assert f"port {here} of 127.0.0.1 is taken" in cli("start", "web", check=1).stderr
    cli("start", "web", check=0)
    assert mooring.sessions.get("web").ports == ((here, 80),)


def test_a_kernels_session_has_its_ports_too(mooring: Mooring, cli: Cli, project: Path) -> None:
    """Its network is there from the start then, not only a moment later."""
    cli("create", "-d", "--name", "k", "--kernel", "python3", "-p", "7001", check=0)
    ((_, there),) = mooring.sessions.get("k").ports
    assert there == 7001


def test_other_addresses_are_refused_by_name(cli: Cli, project: Path) -> None:
    """Nothing is published beyond this machine, whoever asks."""
    done = cli("create", "-d", "-p", "0.0.0.0:7001:7001", check=2)
    assert "must be on 127.0.0.1, not on 0.0.0.0" in done.stderr
