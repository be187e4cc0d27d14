"""Whoever is killed for want of memory is told so, with the limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring.client import Mooring

pytestmark = pytest.mark.engine

HUNGRY = "x = bytearray(512 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1"


def test_the_main_process(cli, mooring: Mooring, project: Path) -> None:
    """A session whose main process ran out of memory says so to its client, in ps, in why and in
    its history."""
    done = cli("create", "--name", "hungry", "--memory", "64MiB", "--", "python3", "-c", HUNGRY)
    assert done.returncode == 137
    told = "session hungry is stopped: out of memory (limit 64 MiB)"
    assert told in done.stderr.splitlines()
    ran = cli("run", "host", "--rm", "--name", "once", "--memory", "64MiB", "-c", HUNGRY)
    assert ran.returncode == 137
    assert "session once is stopped: out of memory (limit 64 MiB)" in ran.stderr
    assert mooring.sessions.get("hungry").reason == "out of memory (limit 64 MiB)"
    assert "out of memory (limit 64 MiB)" in cli("why", "hungry", check=0).stdout
    assert "out of memory (limit 64 MiB)" in cli("events", "hungry", check=0).stdout


def test_an_exec(cli, mooring: Mooring, project: Path) -> None:
    """An exec that ran out of memory says so, returns 137, and the session lives on."""
    cli("create", "-d", "--name", "roomy", "--memory", "64MiB", "--", "sleep", "1000", check=0)
    done = cli("exec", "roomy", "--", "python3", "-c", HUNGRY)
    assert done.returncode == 137
    assert "out of memory (limit 64 MiB)" in done.stderr
    assert cli("exec", "roomy", "--", "echo", "alive", check=0).stdout == "alive\n"
    # a process that was killed for another reason is not said to have been out of memory
    killed = cli("exec", "roomy", "--", "sh", "-c", "kill -9 $$")
    assert killed.returncode == 137
    assert "out of memory" not in killed.stderr
