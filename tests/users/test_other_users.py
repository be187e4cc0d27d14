"""People who share a machine and an engine: what is one's is not another's."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.users.people import Person, open_to_all

pytestmark = pytest.mark.engine

# A kernel is started, and left running by a client that is gone at once
START_KERNEL = """
import os
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="host")
manager.start_kernel(independent=True)
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
os._exit(0)
"""
CONNECT = """
import socket, sys
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print("connected", path)
    except OSError as error:
        print(error.errno, path)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach; pytest's own are root's alone."""
    with open_to_all() as folder:
        yield folder


def test_a_users_kernel_is_nobody_elses(alice: Person, bob: Person) -> None:
    """Sockets, keys and records lie behind a folder of mode 0700: another user cannot list, read or
    connect, and nothing listens on a port."""
    alice.mooring("kernel", "install", "--name", "host")
    alice.python(START_KERNEL)
    (folder,) = (alice.state / "sessions").glob("*/run/k/*")
    sockets = sorted(folder.glob("s-*"))
    assert len(sockets) == 5
    run = folder.parent.parent
    host = run / "kernelhost.sock"
    everything = [*sockets, host]
    words = [alice.wheel.python, "-c", CONNECT, *everything]
    assert alice.run(*words).stdout.count("connected") == 6
    told = bob.run(*words).stdout
    assert told.splitlines() == [f"13 {path}" for path in everything]
    for path in (folder / "c.json", run, run.parent / "record.json", alice.state / "history.db"):
        assert bob.run("ls", path, check=2).stdout == ""
        assert bob.run("cat", path, check=1).stdout == ""
    assert stat.S_IMODE(alice.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "c.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(host.stat().st_mode) == 0o600
    # even through a state folder that somebody opened
    alice.state.chmod(0o711)
    try:
        assert bob.run("cat", folder / "c.json", check=1).stdout == ""
        assert "connected" not in bob.run(*words).stdout
    finally:
        alice.state.chmod(0o700)
    container = alice.sessions()[0]["container"]
    words = ["docker", "inspect", "-f", "{{.State.Pid}}", container]
    pid = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    assert listening(Path("/proc/net"), alice.uid) == []
    # ipykernel has a pipe for its children on the container's own loopback: nobody else's
    inside = listening(Path("/proc", pid, "net"), alice.uid)
    assert [address for address in inside if not address.startswith("0100007F:")] == []
    alice.mooring("kernel", "remove", "host")


def listening(net: Path, uid: int) -> list[str]:
    """The TCP sockets that a user's processes listen at, in a network namespace (proc(5))."""
    tables = [(net / name).read_text() for name in ("tcp", "tcp6")]
    rows = [line.split() for text in tables for line in text.splitlines()]
    return [row[1] for row in rows if row[3] == "0A" and row[7] == str(uid)]


def test_a_users_sessions_are_nobody_elses(alice: Person, bob: Person) -> None:
    """Another user's mooring lists, finds, stops and removes its own sessions only, also where
    names are the same; what would end another's says whose it is."""
    for user in (alice, bob):
        user.mooring("create", "--name", "same", "-d", "--", "sleep", "300")
    alice.mooring("create", "--name", "hers", "-d", "--", "sleep", "300")
    assert [row["name"] for row in bob.sessions()] == ["same"]
    for words, code, told in (
        (["describe", "hers"], 1, "no session named hers"),
        (["exec", "hers", "--", "id"], 125, "no session named hers"),
        (["stop", "hers"], 1, f"session hers belongs to {alice.name}"),
        (["rm", "-f", "hers"], 1, f"session hers belongs to {alice.name}"),
    ):
        done = bob.mooring(*words, check=code)
        assert told in done.stderr
    bob.mooring("stop", "same")
    bob.mooring("rm", "same")
    assert [row["state"] for row in alice.sessions()] == ["running", "running"]
    assert alice.mooring("exec", "same", "--", "id", "-u").stdout == f"{alice.uid}\n"


def test_anothers_state_folder_is_refused(alice: Person, bob: Person, open_folder: Path) -> None:
    """A state folder that belongs to somebody else is not used, whoever made it readable."""
    alice.mooring("ps")
    done = bob.mooring("ps", env={"MOORING_STATE_DIR": str(alice.state)}, check=1)
    assert "error: " in done.stderr
    theirs = open_folder / "state"
    theirs.mkdir()
    os.chown(theirs, alice.uid, alice.gid)
    theirs.chmod(0o777)
    done = bob.mooring("ps", env={"MOORING_STATE_DIR": str(theirs)}, check=1)
    assert "belongs to another user" in done.stderr


def test_who_may_not_use_the_engine_is_told(carol: Person) -> None:
    """A user outside the engine's group gets one error and one hint that names the group."""
    for words in (["ps"], ["create", "-d", "--", "true"], ["doctor"]):
        done = carol.mooring(*words, check=None)
        assert done.returncode != 0
        told = done.stdout + done.stderr
        assert "no permission" in told
        assert "docker" in told
        assert "Traceback" not in told
    assert json.loads(carol.mooring("ps", "--json", check=None).stdout or "[]") == []


def test_the_check_for_connections_can_fail(open_folder: Path, bob: Person) -> None:
    """A socket that is open to all is connected to by the other user: the attack above works."""
    path = open_folder / "open.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    path.chmod(0o777)
    told = bob.run(bob.wheel.python, "-c", CONNECT, path).stdout
    listener.close()
    assert told == f"connected {path}\n"
