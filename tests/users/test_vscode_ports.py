"""The ports that a kernel holds for VS Code are its user's alone."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from mooring_provisioner.relay import Relay, listen

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
    behind = socket.socket(socket.AF_UNIX)
    behind.bind(str(tmp_path / "s"))
    behind.listen()
    behind.settimeout(10)
    port = listen("127.0.0.1", 0)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> Relay:
        relay = Relay([port], [str(tmp_path / "s")])
        await relay.start()
        return relay

    relay = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)

    def ask(user: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/usr/bin/python3", "-c", ASK, str(port.getsockname()[1])],
            user=user,
            group=user,
            cwd="/",
            stdout=subprocess.PIPE,
            text=True,
        )

    try:
        with ask(NOBODY) as stranger:
            assert stranger.communicate(timeout=20)[0].strip() in ("", "turned away")
        behind.setblocking(False)
        with pytest.raises(BlockingIOError):
            behind.accept()
        behind.settimeout(10)
        with ask(0) as own:
            there, _ = behind.accept()
            assert there.recv(100) == b"let me in"
            there.sendall(b"welcome")
            assert own.communicate(timeout=20)[0].strip() == "welcome"
            there.close()
    finally:

        async def end() -> None:
            relay.close()
            await asyncio.sleep(0.1)

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        behind.close()
