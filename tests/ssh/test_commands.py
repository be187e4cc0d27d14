"""mooring ssh-config and ssh-proxy, without an engine: what they need, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = "import sys; sys.modules['asyncssh'] = None; from mooring_cli.main import run; run()"


@pytest.mark.parametrize("words", [("ssh-config",), ("ssh-proxy", "box")])
def test_without_asyncssh_they_say_what_to_install(words: tuple[str, ...], state: Path) -> None:
    """One line, and the command that installs it for this very Python."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error == (
        "error: ssh into sessions needs the Python package asyncssh, which is not installed"
    )
    assert hint == f"hint: install it: {sys.executable} -m pip install 'mooring[ssh]'"


def test_nothing_else_imports_asyncssh(state: Path) -> None:
    """The other commands are as quick as before."""
    script = (
        "import sys, mooring, mooring_cli.main, mooring.client.sessions, mooring.client.ports\n"
        "import mooring.terminals.attach, mooring_cli.ssh_config, mooring_cli.ssh_proxy\n"
        "print('asyncssh' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"


def test_options_that_do_not_go_together_are_refused(state: Path) -> None:
    """What is printed is not installed."""
    for option in (["--print"], ["--via", "gpu1"]):
        done = subprocess.run(
            [sys.executable, "-m", "mooring_cli", "ssh-config", "--install", *option],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert done.stderr.startswith("error: --install does not go with --print or --via")
