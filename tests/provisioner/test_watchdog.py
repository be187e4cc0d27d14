"""What outlives a launcher: its end of the pipe is its death, whatever killed it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.sessions import lease
from mooring.sessions.folder import SessionFolder
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

# Reports about a session and is killed at once
PROGRAM = """
import json, os, signal, sys
from mooring_provisioner.watchdog import Watchdog
watchdog = Watchdog()
watchdog.report(**json.loads(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def session(service: Mooring, declare) -> Session:
    return service.sessions.create(declare(command="x"), LaunchOptions(name="lab")).session


def ended(folder: SessionFolder) -> bool:
    """Whether the watchdog has ended, which holds a lock as long as it lives."""
    with (folder.path / "keeper").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_launcher_that_was_killed_has_left_its_lease(state: Path, session: Session) -> None:
    """The next launcher sees that it has gone, and when; also where no engine answers."""
    folder = session_folder(session.id)
    Lease.make(folder, key={}, holder="1:2").release()
    facts = {"holder": "1:2", "client": "1:2", "session": session.id, "own": True}
    away = os.environ | {"DOCKER_HOST": "unix:///nonexistent"}
    subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(facts)], env=away, timeout=60)
    eventually(lambda: lease.left_at(folder) is not None, timeout=20)
    eventually(lambda: ended(folder), timeout=60)  # the test's folders go with the test


def test_a_client_does_not_wait_for_the_watchdog(state: Path) -> None:
    """It holds none of the launcher's streams, which clients read to their end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps({"client": "1:2"})],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == -9
    assert done.stderr == b""


def test_a_signal_while_the_watchdog_is_started_is_not_lost(state: Path) -> None:
    """Clients signal the launcher and its children: the launcher leaves, and nothing is printed."""
    script = """if True:
        import os, signal, sys
        os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
        sys.argv = ["mooring-kernel", "kernelspec", "connection.json"]
        from mooring_provisioner.launcher import main
        sys.exit(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
