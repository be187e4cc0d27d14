"""Sessions that an earlier version made, whose programs and settings lie in their run folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.sessions.model import Session, State
from mooring.spec.resolve import resolve
from tests.support.sessions import session_folder

pytestmark = pytest.mark.engine


@pytest.fixture
def earlier(mooring: Mooring, project: Path) -> Session:
    """A running session of that version, as far as it shows on this machine."""
    flags = {"command": ["sleep", "1000"], "idle_timeout": "1h"}
    session = mooring.sessions.create(resolve(flags=flags), LaunchOptions(name="earlier")).session
    folder = session_folder(session.id)
    programs = folder.path / "programs"
    for path in (*programs.glob("*.sh"), *programs.glob("*.py"), programs / "settings"):
        shutil.move(path, folder.run)
    shutil.rmtree(programs)
    os.symlink(".", folder.run / "run")  # where these programs look for the run folder
    return session


def test_a_session_of_an_earlier_version_is_used_and_ended(
    cli, mooring: Mooring, earlier: Session
) -> None:
    """Execs run and are counted, settings change, and its own clock ends it and says why."""
    assert cli("exec", "earlier", "--", "sh", "-c", "exit 7").returncode == 7
    look = """
        for file in /run/mooring/x/*; do
            read -r pid _ <"$file"
            [ "$pid" != $$ ] || echo counted
        done
    """
    assert cli("exec", "earlier", "--", "sh", "-c", look, check=0).stdout == "counted\n"
    cli("update", "earlier", "--idle-timeout", "2h", check=0)
    assert session_folder(earlier.id).clock.deadlines()["idle_timeout"] == 7200
    cli("stop", "earlier", check=0)
    end = session_folder(earlier.id).clock.end()
    assert end is not None
    assert end.reason == "stopped"
    assert end.signals.startswith("kernel=never terminal=never exec=")


def test_a_session_of_an_earlier_version_is_not_started_again(
    cli, mooring: Mooring, earlier: Session
) -> None:
    """Its container checks its mounts itself, with programs that it could change."""
    cli("stop", "earlier", check=0)
    refused = cli("start", "earlier", check=1).stderr
    assert "created by an earlier version" in refused
    assert "mooring cp earlier:" in refused
    assert mooring.sessions.get("earlier").state is State.STOPPED
    cli("rm", "earlier", check=0)
