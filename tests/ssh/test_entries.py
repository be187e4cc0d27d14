"""mooring ssh-config, as a user runs it, and a connection by what it wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ssh.conftest import Cli, Client, need

pytestmark = pytest.mark.engine

# An ssh that reaches another machine: this one
ELSEWHERE = """#!/bin/sh
[ "$1 $2" = "-T gpu1" ] && [ $# = 3 ] || exit 99
exec sh -c "$3"
"""


def test_it_names_the_hosts_and_the_line_to_add(
    cli: Cli, project: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the line is there; a second run changes nothing, and --install adds it once."""
    monkeypatch.setenv("HOME", str(state))
    cli("create", "-d", "--name", "one", "--", "sleep", "1000", check=0)
    include = f'Include "{state}/ssh/config"'
    first = cli("ssh-config", check=0)
    assert first.stdout.splitlines() == ["ssh one", include]
    assert f"wrote {state}/ssh/config" in first.stderr
    written = (state / "ssh" / "config").read_bytes()
    assert f"unchanged: {state}/ssh/config" in cli("ssh-config", check=0).stderr
    assert (state / "ssh" / "config").read_bytes() == written
    for _ in range(2):
        assert cli("ssh-config", "--install", check=0).stdout == "ssh one\n"
    assert (state / ".ssh" / "config").read_text() == f"{include}\n\n"
    assert cli("ssh-config", "--print", "one", check=0).stdout.encode() == written
    cli("rm", "-f", "one", check=0)
    assert "there are no sessions" in cli("ssh-config", check=0).stderr
    assert "Host one" not in (state / "ssh" / "config").read_text()
    cli("ssh-config", "nosuch", check=1)


def test_the_entries_for_another_machine_connect_from_there(
    ssh: Client, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through ssh to the machine that has the session; the host key is checked there, too."""
    need("ssh")
    real = shutil.which("ssh")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(ELSEWHERE)
    (tmp_path / "bin" / "ssh").chmod(0o755)
    config = tmp_path / "config"
    config.write_text(cli("ssh-config", "--via", "gpu1", check=0).stdout)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    words = [str(real), "-F", str(config), "box", "echo there"]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"there\n", b"")
    key = "AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    lines = config.read_text().splitlines()
    other = [f"{line[: line.index('ssh-ed')]}ssh-ed25519 {key}" if "ssh-ed" in line else line
             for line in lines]  # fmt: skip
    config.write_text("\n".join(other) + "\n")
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.returncode == 255
    assert b"HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_nothing_of_the_current_folder_runs_on_this_machine(ssh: Client, project: Path) -> None:
    """A session can write to it: a package of mooring's name there must not become the proxy."""
    for name in ("mooring", "mooring_cli", "asyncssh", "typer"):
        (project / name).mkdir()
        (project / name / "__init__.py").write_text("raise SystemExit(77)\n")
    (project / "asyncio.py").write_text("raise SystemExit(77)\n")
    assert ssh.text("echo whole") == "whole\n"


def test_a_terminal_is_no_place_for_the_proxy(state: Path) -> None:
    """Run by hand it says what to run instead."""
    master, slave = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "mooring_cli", "ssh-proxy", "box"],
        stdin=slave, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(master)
    os.close(slave)
    assert done.stderr.startswith(b"error: ssh-proxy speaks SSH on its standard streams")
