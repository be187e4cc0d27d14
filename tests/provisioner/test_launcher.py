"""The launcher's command: what it says where it cannot start a kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ([], "two arguments are needed", "usage, by Jupyter clients"),
        (["file"], "installed by an older version", "mooring kernel install"),
        (["folder", "nothing.json"], "is not a connection file", "usage, by Jupyter clients"),
    ],
)
def test_a_wrong_call_is_explained(
    project: Path, arguments: list[str], message: str, hint: str
) -> None:
    """Clients show standard error: an error, a hint, and no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "mooring_provisioner.launcher", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    error, _, rest = done.stderr.partition("\n")
    assert error.startswith("error: ")
    assert message in error
    assert rest.startswith("hint: ")
    assert hint in rest
    assert done.stdout == ""
