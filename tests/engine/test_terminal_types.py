"""A terminal of a kind that the image does not know works inside, as it does outside."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mooring.client import Mooring
from tests.conftest import Cli
from tests.features.conftest import Open, terminal

__all__ = ["terminal"]
pytestmark = pytest.mark.engine

NAME = "mt-odd-terminal"


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that only this machine's own TERMINFO has, as kitty and ghostty bring theirs."""
    source = f"{NAME}|of the tests,\n\tam, colors#77, cols#80, lines#24, cr=\\r, ind=\\n,\n"
    (tmp_path / "odd.ti").write_text(source)
    folder = tmp_path / "terminfo"
    subprocess.run(["tic", "-x", "-o", str(folder), str(tmp_path / "odd.ti")], check=True)
    monkeypatch.setenv("TERMINFO", str(folder))


@pytest.mark.usefixtures("odd")
def test_a_command_at_its_own_terminal(terminal: Open, project: Path, mooring: Mooring) -> None:
    """`create` brings the description along (toolbox#1244: kitty and others)."""
    child = terminal(
        "create", "--name", "one", "--", "sh", "-c", "echo $TERM; tput colors", term=NAME
    )
    child.expect_exact(f"{NAME}\r\n77\r\n")


@pytest.mark.usefixtures("odd")
def test_a_shell_at_another_terminal(
    terminal: Open, cli: Cli, project: Path, mooring: Mooring
) -> None:
    """`exec` does so from whatever terminal it is used at, and known ones stay as they are."""
    cli("create", "-d", "--name", "one", "--", "sleep", "100", check=0)
    child = terminal("exec", "one", term=NAME)
    assert child.ask("tput colors") == "77"
    assert child.ask("TERM=xterm-256color tput colors") == "256"
    child = terminal("exec", "one", term="xterm-256color")
    assert child.ask("echo $TERM; tput colors").split() == ["xterm-256color", "256"]


@pytest.mark.usefixtures("odd")
def test_a_variable_of_the_spec(cli: Cli, project: Path, mooring: Mooring) -> None:
    """The spec's own TERMINFO_DIRS counts."""
    script = "echo $TERMINFO_DIRS"
    create = ["create", "--env", "TERMINFO_DIRS=/mine", "--name", "one"]
    cli(*create, "--", "sh", "-c", script, check=0)
    assert cli("logs", "one", check=0).stdout.strip() == "/mine"
