"""Programs that outlive the process that starts them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mooring.host.detached import start_detached
from tests.support.waiting import eventually

PROGRAM = """
import os, sys
print(os.getppid(), os.getsid(0), os.getcwd(), sys.argv[1:], repr(sys.stdin.read()))
"""


def test_a_program_stands_on_its_own(tmp_path: Path) -> None:
    """It is nobody's child, no signal to this process's group reaches it, and it reads nothing."""
    log = tmp_path / "log"
    start_detached([sys.executable, "-c", PROGRAM, "a b", "$HOME"], log=str(log))
    parent, session, *rest = eventually(lambda: log.exists() and log.read_text()).split(" ", 3)
    assert int(parent) != os.getpid()
    assert int(session) != os.getsid(0)
    assert rest == ["/", "['a b', '$HOME'] ''\n"]


def test_it_has_the_same_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the variable is relative, it is not taken to be below the program's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOORING_STATE_DIR", "state")
    log = tmp_path / "log"
    program = "import os; print(os.environ['MOORING_STATE_DIR'])"
    start_detached([sys.executable, "-c", program], log=str(log))
    assert eventually(lambda: log.exists() and log.read_text()) == f"{tmp_path}/state\n"
