"""The clock as a user meets it: sessions that end, and sessions that do not, on the real engine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.errors import EngineError
from mooring.sessions.model import Session, State

pytestmark = [pytest.mark.engine, pytest.mark.timed]

IDLE_S = 6


def wait_for(what: Callable[[], bool], seconds: float, why: str) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.1)


def make(cli, name: str, *arguments: str, idle: str = f"{IDLE_S}s", maximum: str = "off") -> None:
    options = ["--idle-timeout", idle, "--max-duration", maximum]
    cli("create", "-d", "--name", name, *options, *arguments, check=0)


def ended(mooring: Mooring, name: str) -> bool:
    return mooring.sessions.get(name).state is State.STOPPED


def test_a_silent_shell_ends_at_its_idle_timeout_and_busy_ones_do_not(
    cli, mooring: Mooring, project: Path
) -> None:
    """Silence ends a session; CPU in the background, a live exec and a hold keep one."""
    started = time.monotonic()
    make(cli, "silent", "--", "sh", "-c", "while :; do sleep 1; done")
    make(
        cli, "burning", "--", "sh", "-c", "nohup sh -c 'while :; do :; done' >/dev/null 2>&1 & wait"
    )
    make(cli, "execing")
    make(cli, "held")
    live = subprocess.Popen(
        [sys.executable, "-m", "mooring_cli", "exec", "execing", "--", "sleep", "300"],
        stdin=subprocess.DEVNULL,
    )
    try:
        cli("hold", "held", "10m", check=0)
        wait_for(lambda: ended(mooring, "silent"), 60, "the silent session never ended")
        assert time.monotonic() - started >= IDLE_S
        time.sleep(IDLE_S * 1.5)  # well past everybody's timeout
        states = {session.name: session.state for session in mooring.sessions.list()}
        assert states == {
            "silent": State.STOPPED,
            "burning": State.RUNNING,
            "execing": State.RUNNING,
            "held": State.RUNNING,
        }
        told = cli("why", "silent", check=0).stdout
        assert "idle timeout" in told
        assert "signals" in told
        # what kept them away is what is told of them
        activity = {row["name"]: row for row in json.loads(cli("ps", "--json", check=0).stdout)}
        assert "cpu" in activity["burning"]["active_signals"]
        assert "exec" in activity["execing"]["active_signals"]
        assert activity["held"]["held_for_s"] > 60
        # and without it they end as well
        live.kill()
        cli("hold", "held", "off", check=0)
        wait_for(lambda: ended(mooring, "held"), 60, "a hold that was given up still holds")
    finally:
        live.kill()
        live.wait()


def test_every_exec_starts_the_idle_window_anew(cli, mooring: Mooring, project: Path) -> None:
    """Execs too short for the clock to meet count, and `why` tells so; mooring's own do not."""
    make(cli, "used", "--", "sleep", "1000")
    make(cli, "looked-at", "--", "sleep", "1000")
    until = time.monotonic() + IDLE_S * 2.5
    while time.monotonic() < until:
        cli("exec", "used", "--", "true", check=0)
        with contextlib.suppress(EngineError):  # it has ended
            mooring.sessions.signal(mooring.sessions.get("looked-at"), "CONT")
        time.sleep(1)
    wait_for(lambda: ended(mooring, "looked-at"), 60, "a signal keeps a session")
    assert "exec never" in cli("why", "looked-at", check=0).stdout
    assert not ended(mooring, "used")
    wait_for(lambda: ended(mooring, "used"), 60, "an exec that is over still holds")
    seen = re.search(r"exec (\d+)s ago", cli("why", "used", check=0).stdout)
    assert seen is not None
    assert IDLE_S - 2 <= int(seen.group(1)) <= IDLE_S + 3


def test_the_maximum_duration_ends_everything(cli, mooring: Mooring, project: Path) -> None:
    """The maximum stands against work and holds, and its reason is told."""
    make(cli, "long", "--", "sh", "-c", "while :; do :; done", idle="off", maximum="5s")
    cli("hold", "long", "1h", check=0)
    wait_for(lambda: ended(mooring, "long"), 60, "the maximum duration ended nothing")
    assert "maximum duration" in cli("why", "long", check=0).stdout
    kinds = [event.kind for event in mooring.sessions.events(mooring.sessions.get("long").id)]
    assert kinds[:2] == ["requested", "started"]
    assert kinds[-1] == "ended"


def test_update_changes_a_running_clock(cli, mooring: Mooring, project: Path) -> None:
    """A new idle timeout holds at once, for a session that was made to live for ever."""
    make(cli, "patient", "--", "sleep", "1000", idle="off")
    assert "never" in cli("ps", "--format", "name,stops_in", check=0).stdout
    cli("update", "patient", "--idle-timeout", "15s", check=0)
    wait_for(lambda: ended(mooring, "patient"), 60, "the updated timeout ended nothing")


def test_a_busy_cell_keeps_a_session_and_a_dead_client_does_not(
    cli, mooring: Mooring, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that sleeps silently is work; killing a client neither ends nor prolongs a
    kernel that is to survive it."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    cli("kernel", "install", "--name", "clocked", "--session", "cell",
        "--idle-timeout", f"{IDLE_S}s", check=0)  # fmt: skip
    client = """
import sys, time
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="clocked")
manager.start_kernel(independent=True)
client = manager.client(); client.start_channels(); client.wait_for_ready(timeout=60)
client.execute("import time; time.sleep(%d)" % int(sys.argv[1]))
while client.get_iopub_msg(timeout=60)["msg_type"] != "execute_input":
    pass
print("begun", flush=True)
time.sleep(1000)
"""
    cell_s = IDLE_S * 3
    command = [sys.executable, "-c", client, str(cell_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as jupyter:
        try:
            assert jupyter.stdout is not None
            assert jupyter.stdout.readline() == "begun\n"
            begun = time.monotonic()
            os.kill(jupyter.pid, signal.SIGKILL)
            while time.monotonic() < begun + cell_s - 2:
                session: Session = mooring.sessions.get("cell")
                assert session.state is State.RUNNING, f"ended: {session.end}"
                time.sleep(0.5)
            wait_for(lambda: ended(mooring, "cell"), 90, "nobody works in it and it does not end")
            assert time.monotonic() - begun >= cell_s
            assert mooring.sessions.get("cell").reason == "idle timeout"
        finally:
            jupyter.kill()
