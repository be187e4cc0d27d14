"""Leaving: `mooring purge` on a real engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

WRITING = "echo 1 > ~/plot.txt; echo 1 > /mnt/outputs/out/r"
pytestmark = pytest.mark.engine


def test_nothing_is_left(cli, project: Path, state: Path) -> None:
    """Sessions, kernelspecs and the state folder go, and what is not mooring's stays."""
    (project / "out").mkdir()
    cli("create", "-d", "--name", "one", "--output", "./out", "--", "sleep", "infinity", check=0)
    cli("exec", "one", "--", "sh", "-c", WRITING, check=0)
    cli("create", "-d", "--name", "two", "--", "true", check=0)
    cli("kernel", "install", "--name", "mine", "--image", "host", check=0)
    (state / "mine.txt").write_text("x")
    shown = cli("purge", "--dry-run", check=0).stdout
    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [
        ["session", "two"],
        ["session", "one"],
        ["kernelspec", "mine"],
        ["files", str(state)],
    ]
    assert "1 file" in shown.splitlines()[2]
    done = cli("purge", "--yes", check=2)
    assert "sessions are running: one" in done.stderr
    assert "no terminal" in cli("purge", "--force", check=2).stderr
    assert len(json.loads(cli("ps", "--json", "-a", check=0).stdout)) == 2
    done = cli("purge", "--force", "--yes", check=0)
    assert sorted(done.stdout.splitlines()[-3:]) == ["mine", "one", "two"]
    assert f"{state} has other files, which stay: mine.txt" in done.stderr
    assert [path.name for path in state.iterdir()] == ["mine.txt"]
    assert (project / "out" / "r").exists()
    assert "mine" not in cli("kernel", "list", check=0).stdout
    assert cli("ps", check=0).stderr == "no sessions; to create one: mooring create\n"
