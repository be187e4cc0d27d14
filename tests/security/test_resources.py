"""A session that takes all it can get: processes, threads, memory. The machine goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.sessions.model import Session, State
from mooring.spec.resolve import resolve
from tests.conftest import Cli
from tests.support.docker import docker, inspect
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

LIMIT = 150
# Each makes processes or threads until it is refused, at most 6,000, and keeps them for a while
BOMBS = {
    "shell": "(i=0; while [ $i -lt 6000 ]; do sleep 60 & i=$((i+1)); done) & sleep 60",
    "processes": """python3 -c '
import os, time
for _ in range(6000):
    try:
        if os.fork() == 0:
            os.setsid(); time.sleep(60); os._exit(0)
    except OSError:
        time.sleep(0.01)
time.sleep(60)'""",
    "threads": """python3 -c '
import threading, time
threading.stack_size(65536)
for _ in range(6000):
    try:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    except RuntimeError:
        time.sleep(0.01)
time.sleep(60)'""",
}


def create(mooring: Mooring, script: str, **flags: object) -> Session:
    spec = resolve(flags={"command": ["sh", "-c", script], **flags}, environ={})
    return mooring.sessions.create(spec, LaunchOptions(name="bomb")).session


def pids(container: str) -> int:
    """How many processes and threads the engine counts in a container."""
    row = docker("stats", "--no-stream", "--format", "{{json .}}", container).stdout
    return int(json.loads(row)["PIDs"]) if row.strip() else 0


def still_works(cli: Cli, container: str) -> None:
    """Another client lists the session, and stops and removes it."""
    began = time.monotonic()
    rows = json.loads(cli("ps", "--json", check=0).stdout)
    assert [row["name"] for row in rows] == ["bomb"]
    assert time.monotonic() - began < 30
    cli("stop", "bomb", check=0)
    assert inspect(container)["State"]["Running"] is False
    cli("rm", "bomb", check=0)


@pytest.mark.parametrize("kind", BOMBS)
def test_processes_are_limited(mooring: Mooring, project: Path, cli: Cli, kind: str) -> None:
    """However a session multiplies, it comes to its limit and no further, and what others do with
    it goes on."""
    session = create(mooring, BOMBS[kind], pids_limit=LIMIT)
    eventually(lambda: pids(session.container) >= LIMIT - 2, 60, "it never came to its limit")
    assert pids(session.container) <= LIMIT
    still_works(cli, session.container)


def test_there_is_a_limit_by_default(mooring: Mooring, project: Path, cli: Cli) -> None:
    """A spec that says nothing has a limit that a machine can bear, and that work rarely meets."""
    session = create(mooring, BOMBS["processes"])
    assert inspect(session.container)["HostConfig"]["PidsLimit"] == 4096
    eventually(lambda: pids(session.container) >= 4000, 120, "it never came to its limit")
    assert pids(session.container) <= 4096
    still_works(cli, session.container)


def test_the_limit_can_be_taken_away(mooring: Mooring, project: Path) -> None:
    """Whoever asks for no limit has none."""
    session = create(mooring, "sleep 300", pids_limit="off")
    assert not inspect(session.container)["HostConfig"]["PidsLimit"]


@pytest.mark.parametrize(
    "script",
    [
        "python3 -c 'x = []\nwhile True: x.append(bytes(2**20))'",
        "python3 -c 'x = []\nwhile True: x.append(bytearray(b\"x\") * 2**24)'",
        "head -c 1G /dev/zero | tail",
    ],
    ids=["pages", "blocks", "tail"],
)
def test_memory_is_limited_to_what_was_asked(
    mooring: Mooring, project: Path, cli: Cli, script: str
) -> None:
    """A session with a memory limit is killed at it, alone."""
    session = create(mooring, f"{script}; sleep 300", memory="128MiB")
    container = session.container
    eventually(
        lambda: mooring.engine.out_of_memory(container, session.created_at - 1),  # type: ignore[attr-defined]
        60,
        "it never met its limit",
    )
    still_works(cli, container)


def test_a_session_is_ended_before_the_machine(mooring: Mooring, project: Path) -> None:
    """Without a limit the machine may run out of memory: then a session's processes are the first
    that the kernel ends, and not the machine's services."""
    session = create(mooring, "sleep 300")
    assert session.state is State.RUNNING
    for pid in docker("top", session.container, "-eo", "pid").stdout.split()[1:]:
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
