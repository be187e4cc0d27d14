"""The engine frozen, killed and stopped under sessions that run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.docker import DockerEngine
from mooring.errors import EngineUnavailable
from mooring.host.paths import Installation
from mooring.sessions.model import State
from tests.faults.conftest import PrivateEngine
from tests.support.invariants import leaks

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FROZEN_S = 12.0  # several samples of the clock, several polls of a kernel's restarter


@pytest.fixture
def mooring(private_engine: PrivateEngine, state: Path) -> Iterator[Mooring]:
    """On the private engine, with little patience."""
    impatient = DockerEngine(private_engine.address, timeout_s=3.0)
    yield Mooring(impatient, actor="tester")
    impatient.close()
    engine = DockerEngine(private_engine.address)
    service = Mooring(engine, actor="tester")
    for session in service.sessions.list():
        service.sessions.remove(session, force=True)
    assert leaks(engine, state, Installation.here().id) == []
    engine.close()


def test_a_frozen_engine_is_unknown_and_nothing_more(
    mooring: Mooring, private_engine: PrivateEngine, cli, project: Path
) -> None:
    """While the engine does not answer nothing is idle, exited or orphaned; then all is right."""
    cli("create", "-d", "--name", "frozen", check=0)
    session = mooring.sessions.get("frozen")
    mooring.kernels.ensure_host(session)
    handle = mooring.kernels.handle(session.id, "k1")
    handle.write_connection(key=b"", encrypt=False, kernel_name="python3")
    handle.start(cwd=str(project), env={})
    private_engine.send(signal.SIGSTOP)
    try:
        frozen_since = time.monotonic()
        with pytest.raises(EngineUnavailable, match="did not answer"):
            mooring.sessions.list()
        known = mooring.sessions.unknown()
        assert [(known.name, known.state) for known in known] == [("frozen", State.UNKNOWN)]
        while time.monotonic() < frozen_since + FROZEN_S:
            assert handle.poll() is None  # the kernel needs no engine, nor does who watches it
            time.sleep(0.2)
        assert handle.send_signal(signal.SIGINT)
    finally:
        private_engine.send(signal.SIGCONT)
        handle.forget()
    after = mooring.sessions.get("frozen")
    assert after.state is State.RUNNING
    assert after.clock is not None
    assert after.clock.age_s < 30
    kinds = [event.kind for event in mooring.sessions.events(session.id)]
    assert kinds == ["requested", "started"]


def test_a_killed_engine_loses_no_session(
    mooring: Mooring, private_engine: PrivateEngine, cli, project: Path
) -> None:
    """With live restore a session outlives its engine's death; ps says unknown meanwhile."""
    cli("create", "-d", "--name", "survivor", check=0)
    private_engine.kill()
    down = cli("ps", check=1)
    assert "unknown" in down.stdout
    assert "error: " in down.stderr
    assert "hint: " in down.stderr
    private_engine.start()
    rows = json.loads(cli("ps", "--json", check=0).stdout)
    assert [(row["name"], row["state"]) for row in rows] == [("survivor", "running")]
    assert cli("exec", "survivor", "--", "echo", "here", check=0).stdout == "here\n"


def test_a_terminal_outlives_its_engine(
    mooring: Mooring, private_engine: PrivateEngine, cli, project: Path
) -> None:
    """With live restore an attached client goes on after its engine's death, and is told that
    output may be missing; what was typed meanwhile arrives.
    """
    script = "echo ready; while read -r word; do echo got $word; done"
    cli("create", "-d", "--name", "talker", "--", "sh", "-c", script, check=0)
    command = [sys.executable, "-m", "mooring_cli", "attach", "--replay", "all", "talker"]
    client = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert client.stdin is not None
        assert client.stdout is not None

        def heard(word: bytes) -> None:
            while word not in (line := client.stdout.readline()):
                assert line, client.stderr.read()

        client.stdin.write(b"one\n")
        client.stdin.flush()
        heard(b"got one")
        private_engine.kill()
        client.stdin.write(b"two\n")
        client.stdin.flush()
        private_engine.start()
        heard(b"got two")
    finally:
        client.kill()
        client.communicate()


def test_a_stopped_engine_is_an_error_and_a_hint(
    mooring: Mooring, private_engine: PrivateEngine, cli, project: Path
) -> None:
    """Every command says in one line that the engine is away; nothing of a new session is left."""
    private_engine.stop()
    for command in (["create", "-d"], ["exec", "x", "--", "true"], ["stop", "x"], ["why", "x"]):
        done = cli(*command)
        assert done.returncode == (125 if command[0] == "exec" else 1)
        assert done.stderr.startswith("error: ")
        assert "hint: " in done.stderr
    assert list(Installation.here().sessions.iterdir()) == []
    private_engine.start()
