"""The real OpenSSH client on a session of the real engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mooring.client import Mooring
from mooring.host.paths import Installation

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
PACKAGES = {"rsync": "rsync", "sshfs": "sshfs", "fusermount3": "fuse3"}


def need(*programs: str) -> None:
    """Skip without a program of the distribution's, and fail where CI is set."""
    for program in programs:
        if shutil.which(program) is None:
            package = PACKAGES.get(program, "openssh-client")
            reason = f"{program} is not installed (apt-get install {package})"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)


@dataclass
class Client:
    """OpenSSH's programs, each with the entries that mooring ssh-config has written.

    Attributes:
        config: the file with the entries.
    """

    config: Path

    def options(self, *more: str) -> list[str]:
        return ["-F", str(self.config), *more]

    def run(
        self, *words: str, program: str = "ssh", check: int | None = None, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end; its words follow the options for the entries."""
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        done = subprocess.run(
            [program, *self.options(), *words], capture_output=True, timeout=60, **options
        )
        if check is not None:
            assert done.returncode == check, (words, done.returncode, done.stdout, done.stderr)
        return done

    def text(self, command: str, **options: Any) -> str:
        """Return what a command in the session prints; it has to succeed."""
        return self.run("box", command, check=0, **options).stdout.decode()

    def sftp(self, *lines: str, check: int = 0) -> str:
        """Run a batch of sftp's commands; return what is printed."""
        done = self.run(
            "-b", "-", "box", program="sftp", input="\n".join(lines).encode() + b"\n", check=check
        )
        return (done.stdout + done.stderr).decode()

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start ssh, and do not wait."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(["ssh", *self.options(*words)], **(pipes | options))


@pytest.fixture
def entries(mooring: Mooring, cli: Cli) -> Callable[[], Client]:
    """Writes the entries of all sessions."""

    def write() -> Client:
        need("ssh")
        cli("ssh-config", check=0)
        return Client(Installation.here().path / "ssh" / "config")

    return write


@pytest.fixture
def ssh(cli: Cli, project: Path, entries: Callable[[], Client]) -> Client:
    """A client of the session ``box``, of this machine's image."""
    cli("create", "-d", "--name", "box", "--", "sleep", "infinity", check=0)
    return entries()
