"""A session that stops its own clock: it ends all the same, as soon as somebody lists sessions."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.errors import PolicyError
from mooring.policy import limits
from mooring.sessions import overdue
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import Session, State
from mooring.spec.resolve import resolve
from tests.support.docker import docker
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

# What a session can do to its clock, with the clock's process id as $1
KILL = 'kill -KILL "$1"'
FREEZE = 'kill -STOP "$1"'
FORGE = (
    'kill -KILL "$1"; cd /run/mooring; while :; do read -r now _ </proc/uptime; '
    'printf "sampled $now\\nstarted $now\\nidle_at never\\nmax_at never\\n'
    "last_signal $now kernel\\n"
    'active kernel\\nunknown\\nclock 1\\ncomplete\\n" >status; sleep 0.2; done &'
)
BURY = 'kill -KILL "$1"; rm -f /run/mooring/status; mkdir /run/mooring/status'


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes minutes takes seconds."""
    monkeypatch.setattr(overdue, "LATE_S", 1.0)
    monkeypatch.setattr(overdue, "SILENT_S", 1.0)
    monkeypatch.setattr(overdue, "PATIENCE_S", 1.0)


def begin(mooring: Mooring, **flags: object) -> tuple[Session, SessionFolder]:
    spec = resolve(flags={"command": ["sleep", "1000"], **flags})
    session = mooring.sessions.create(spec, LaunchOptions(name="clock", tty=False)).session
    folder = session_folder(session.id)
    eventually(lambda: folder.clock.status() is not None)
    return session, folder


def inside(session: Session, folder: SessionFolder, script: str) -> None:
    """Run a script in the session, with the clock's process id as $1."""
    lines = (line.split(" ", 1) for line in folder.guest.text("status").splitlines())
    clock = next(words[1] for words in lines if words[0] == "clock")
    done = docker("exec", session.container, "sh", "-c", script, "sh", clock)
    assert done.returncode == 0, done.stderr


def ended(mooring: Mooring) -> bool:
    return mooring.sessions.get("clock").state is State.STOPPED


@pytest.mark.parametrize(
    "trick", [KILL, FREEZE, FORGE, BURY], ids=["kill", "stop", "forge", "bury"]
)
def test_no_session_outlives_its_maximum_duration(
    mooring: Mooring, project: Path, soon: None, trick: str
) -> None:
    """Whatever became of its clock, a listing ends a session that is past its maximum."""
    session, folder = begin(mooring, max_duration="3s")
    inside(session, folder, trick)
    eventually(lambda: ended(mooring), timeout=30)
    end = folder.clock.end()
    assert end is not None
    assert "maximum duration of 3s" in end.detail or end.detail == "its clock did not run any more"
    kinds = [event.kind for event in mooring.sessions.events(session.id)]
    assert "overdue" in kinds


@pytest.mark.parametrize("trick", [KILL, FREEZE, BURY], ids=["kill", "stop", "bury"])
def test_no_session_goes_on_without_its_clock(
    mooring: Mooring, project: Path, soon: None, trick: str
) -> None:
    """A session with an idle timeout only ends when its clock is gone, and it is said why."""
    session, folder = begin(mooring, idle_timeout="1h")
    inside(session, folder, trick)
    eventually(lambda: ended(mooring), timeout=30)
    end = folder.clock.end()
    assert end is not None
    assert end.detail == "its clock did not run any more"


def test_settings_cannot_be_changed_from_inside(mooring: Mooring, project: Path) -> None:
    """The session reads its settings, and nothing that it tries changes them."""
    session, folder = begin(mooring, max_duration="1h", idle_timeout="30m")
    before = folder.clock.settings()
    for trick in (
        "echo max_duration_s 0 >settings",
        "rm -f settings",
        "mv settings /tmp/x",
        "ln -sf /run/mooring/mine settings",
        "chmod 777 . settings",
        "cat /dev/null >settings",
        "cd / && mv .mooring-* /tmp/x",
        "cd / && rm -rf .mooring-*",
    ):
        done = docker("exec", session.container, "sh", "-c", f"cd /.mooring-*/ && {trick}")
        assert done.returncode != 0, trick
    assert folder.clock.settings() == before
    docker(
        "exec", session.container, "sh", "-c",
        "for n in settings deadlines; do echo max_duration_s 0 >/run/mooring/$n; done",
    )  # fmt: skip
    assert folder.clock.deadlines() == {"idle_timeout": 1800, "max_duration": 3600}


def test_a_session_that_will_not_end_is_stopped(
    mooring: Mooring, project: Path, soon: None
) -> None:
    """One that kills whatever would end it from inside is ended by the engine."""
    guard = "trap '' TERM; while :; do pkill -KILL -f clock.sh; sleep 0.05; done"
    session, _ = begin(mooring, max_duration="2s")
    docker("exec", "-d", session.container, "sh", "-c", guard)
    eventually(lambda: ended(mooring), timeout=30)


def test_a_clock_that_runs_is_left_alone(
    mooring: Mooring, project: Path, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that cannot write its status is alive: nothing ends its session."""
    session, folder = begin(mooring, idle_timeout="1h")
    docker(
        "exec", session.container, "sh", "-c", "rm /run/mooring/status; mkdir /run/mooring/status"
    )
    began = time.monotonic()
    while time.monotonic() - began < 4:
        assert mooring.sessions.get("clock").state is State.RUNNING
    assert folder.overdue_since() is None
    monkeypatch.setattr(overdue, "uptime", lambda: time.monotonic() + 7200)  # it was suspended
    assert mooring.sessions.get("clock").state is State.RUNNING


@pytest.mark.skipif(os.getuid() != 0, reason="only root can write a policy")
@pytest.mark.parametrize("trick", [KILL, FREEZE, FORGE], ids=["kill", "stop", "forge"])
def test_a_policys_maximum_holds(
    mooring: Mooring,
    project: Path,
    soon: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trick: str,
) -> None:
    """No session runs longer than the administrator allows: it can neither be asked for, nor
    changed later, nor had by stopping the clock."""
    policy = tmp_path / "policy.yml"
    policy.write_text("max_duration: 4s\n")
    monkeypatch.setattr(limits, "POLICY_FILE", policy)
    with pytest.raises(PolicyError, match="max_duration is never"):
        mooring.sessions.create(resolve(flags={"command": ["sleep", "1000"]}))
    session, folder = begin(mooring, max_duration="4s")
    with pytest.raises(PolicyError, match="max_duration is 1h"):
        mooring.sessions.update(session, max_duration_s=3600)
    inside(session, folder, trick)
    eventually(lambda: ended(mooring), timeout=30)
