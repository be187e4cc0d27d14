"""A creation that is cut off, by kill -9 or by Ctrl-C, leaves a whole session or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.base import Engine
from mooring.engines.labels import LABEL_INSTALLATION
from mooring.host.paths import Installation
from mooring.sessions.model import State

pytestmark = [pytest.mark.engine, pytest.mark.slow]

POINTS = 20
CREATE = [sys.executable, "-m", "mooring_cli", "create", "-d"]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def duration_s(cli: Cli, project: Path) -> float:
    """How long a creation takes here and now, imports and all; the second, as the first builds."""
    for name in ("first", "second"):
        began = time.monotonic()
        cli("create", "-d", "--name", name, check=0)
        took = time.monotonic() - began
    cli("rm", "-f", "first", "second", check=0)
    return took


def start(name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*CREATE, "--name", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def left(engine: Engine, state: Path) -> list[str]:
    """Names of this installation's containers and folders, drafts and half-deleted ones too."""
    rows = engine.list({LABEL_INSTALLATION: Installation.here().id})
    return [row.name for row in rows] + os.listdir(state / "sessions")


def whole_or_nothing(mooring: Mooring, engine: Engine, state: Path, name: str) -> bool:
    """Whether there is a whole session of that name. Fails where there is a part of one."""
    sessions = mooring.sessions.list()
    if not sessions:
        # The engine may still have been at work for the dead client: one more look repairs that
        deadline = time.monotonic() + 5
        while left(engine, state) and time.monotonic() < deadline:
            time.sleep(0.1)
            mooring.sessions.list()
        assert left(engine, state) == []
        return False
    (session,) = sessions
    assert (session.name, session.state) == (name, State.RUNNING)
    assert len(left(engine, state)) == 2
    probe = [sys.executable, "-m", "mooring_cli", "exec", "-n", name, "--", "echo", "alive"]
    assert subprocess.run(probe, capture_output=True, text=True).stdout == "alive\n"
    mooring.sessions.remove(session, force=True)
    return True


def test_kill_9_at_twenty_points(mooring, real_engine, state, cli, duration_s) -> None:
    """kill -9 of create, anywhere: after the next command there is all of it or nothing."""
    outcomes = []
    for point in range(POINTS):
        name = f"cut-{point}"
        process = start(name)
        time.sleep(duration_s * (point + 0.5) / POINTS)  # the experiment itself, not a wait
        process.kill()
        process.wait()
        cli("ps", check=0)
        outcomes.append(whole_or_nothing(mooring, real_engine, state, name))
    assert not all(outcomes), "every kill came too late: the points are not spread"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_creation_takes_everything_back(
    mooring, real_engine, state, duration_s, number
) -> None:
    """Ctrl-C while creating leaves nothing at once, with no further command, and code 130."""
    codes = []
    for point in range(6):
        name = f"stop-{point}"
        process = start(name)
        time.sleep(duration_s * (0.3 + 0.7 * point / 6))
        process.send_signal(number)
        code = process.wait(timeout=30)
        codes.append(code)
        if code == 0:  # it was complete already
            assert whole_or_nothing(mooring, real_engine, state, name)
        elif left(real_engine, state):
            # the signal came between the end of the creation and the end of the process
            assert whole_or_nothing(mooring, real_engine, state, name)
    assert 128 + number in codes
    assert set(codes) <= {0, 128 + number, -number}
