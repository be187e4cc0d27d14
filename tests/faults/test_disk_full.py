"""A full disk costs the history, never a command that sets things right."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.sessions.model import State

pytestmark = pytest.mark.engine


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The installation lies on a file system of four megabytes."""
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = Path("/var/tmp") / f"mf-{os.getpid()}"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    monkeypatch.setenv("MOORING_STATE_DIR", str(folder / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    yield folder / "state"
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def test_ps_and_stop_work_and_the_history_is_whole(
    cli, mooring: Mooring, project: Path, state: Path
) -> None:
    """With no byte left a session is still shown, stopped and removed, and a new one is refused."""
    cli("create", "-d", "--name", "full", check=0)
    outputs = project / "results"
    cli("create", "-d", "--name", "written", "--output", "results", check=0)
    cli("exec", "written", "--", "sh", "-c", "echo kept > /mnt/outputs/results/file", check=0)
    filler = state / "filler"
    with open(filler, "wb", buffering=0) as file:
        while os.statvfs(state).f_bavail:
            file.write(b"x" * 4096)
    shown = cli("ps", check=0)
    assert "full" in shown.stdout
    cli("stop", "full", check=0)
    refused = cli("create", "-d", "--name", "another")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert mooring.sessions.get("full").state is State.STOPPED
    filler.unlink()
    names = {session.name for session in mooring.sessions.list()}
    assert names == {"full", "written"}
    with sqlite3.connect(state / "history.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    assert (outputs / "file").read_text() == "kept\n"
