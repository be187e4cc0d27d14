"""The ports that a kernel holds for VS Code are its user's alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.relays import relay_to

NOBODY = 65534
ASK = """
import socket, sys
said = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
said.sendall(b"let me in")
try:
    print(said.recv(100).decode())
except ConnectionError:
    print("turned away")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_of_the_machine_is_turned_away(tmp_path: Path) -> None:
    """Who is neither the kernel's user nor root reads nothing, not even what needs no key."""

    def ask(port: int, user: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/usr/bin/python3", "-c", ASK, str(port)],
            user=user,
            group=user,
            cwd="/",
            stdout=subprocess.PIPE,
            text=True,
        )

    with relay_to(tmp_path / "s") as ((_, port), behind):
        with ask(port, NOBODY) as stranger:
            assert stranger.communicate(timeout=20)[0].strip() in ("", "turned away")
        behind.setblocking(False)
        with pytest.raises(BlockingIOError):
            behind.accept()
        behind.settimeout(10)
        with ask(port, 0) as own:
            there, _ = behind.accept()
            assert there.recv(100) == b"let me in"
            there.sendall(b"welcome")
            assert own.communicate(timeout=20)[0].strip() == "welcome"
            there.close()
