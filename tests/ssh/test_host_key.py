"""The host key: one for an installation, made once, nobody else's to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mooring.errors import MooringError
from mooring.host.paths import Installation
from mooring.ssh import host_key


def test_it_is_made_once_and_is_private(state: Path) -> None:
    """Also where several processes make it at a time."""
    script = (
        "from mooring.host.paths import Installation as I; from mooring.ssh.host_key import *\n"
        "print(public_key(I.here()))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(4)
    ]
    said = {process.communicate(timeout=60)[0] for process in running}
    assert len(said) == 1
    assert said.pop().decode().strip() == host_key.public_key(Installation.here())
    assert (state / "ssh" / "host_key").stat().st_mode & 0o777 == 0o600
    assert (state / "ssh").stat().st_mode & 0o777 == 0o700


def test_its_mode_is_made_good(state: Path) -> None:
    """A copy of the state folder may have lost it."""
    host_key.host_key(Installation.here())
    (state / "ssh" / "host_key").chmod(0o644)
    host_key.host_key(Installation.here())
    assert (state / "ssh" / "host_key").stat().st_mode & 0o777 == 0o600


def test_the_known_hosts_follow_it(state: Path) -> None:
    """A line with the alias and the key; written anew after the key was."""
    here = Installation.here()
    path = host_key.known_hosts(here)
    first = path.read_text()
    assert first == f"mooring-{here.id} {host_key.public_key(here)}\n"
    (state / "ssh" / "host_key").unlink()
    assert host_key.known_hosts(here).read_text() not in ("", first)


def test_a_damaged_one_is_told_of(state: Path) -> None:
    """With the command that removes it."""
    host_key.host_key(Installation.here())
    for content in ("", "no key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"):
        (state / "ssh" / "host_key").write_text(content)
        with pytest.raises(MooringError, match="is damaged") as caught:
            host_key.host_key(Installation.here())
        assert "rm " in caught.value.hint
