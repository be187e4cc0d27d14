"""ssh -L, -D, -W and -A: the session's services for the client, and the client's agent for it."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ssh.conftest import Client, need
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

# Says what it got once it has got all of it, on a port or a Unix socket
ECHO = """
import socket, sys, threading
def serve(near):
    data = b""
    while more := near.recv(65536):
        data += more
    near.sendall(b"got %d" % len(data))
    near.close()
where = sys.argv[1]
if where.isdigit():
    listening = socket.create_server(("127.0.0.1", int(where)))
else:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(where)
    listening.listen()
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],)).start()
"""
PORT = 7654
Serve = Callable[[str], None]
Forward = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def serve(ssh: Client, project: Path) -> Iterator[Serve]:
    """Starts a service in the session, and waits until it listens."""
    running = []

    def start(where: str) -> None:
        (project / "echo.py").write_text(ECHO)
        words = shlex.join([sys.executable, str(project / "echo.py"), where])
        process = ssh.start("box", f"exec {words}")
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"

    yield start
    for process in running:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture
def forward(ssh: Client) -> Iterator[Forward]:
    """Starts ssh -N with forwards, and waits until the given local port listens."""
    running = []

    def start(port: int, *words: str) -> subprocess.Popen[bytes]:
        process = ssh.start("-N", *words, "box")
        running.append(process)

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        eventually(lambda: f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text(), 20)
        assert listens()
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ask(near: socket.socket, data: bytes = b"x" * 1000) -> bytes:
    """Send, end, and read what comes back."""
    near.settimeout(30)
    with near:
        near.sendall(data)
        near.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while more := near.recv(65536):
                answer += more
        return answer


def socks(port: int, host: str, there: int) -> tuple[int, socket.socket]:
    """Connect through a SOCKS 5 proxy (RFC 1928); return its reply, and the connection."""
    near = socket.create_connection(("127.0.0.1", port), timeout=30)
    near.sendall(b"\5\1\0")
    assert near.recv(2) == b"\5\0"
    name = host.encode()
    near.sendall(b"\5\1\0\3" + bytes([len(name)]) + name + there.to_bytes(2, "big"))
    reply = near.recv(10)
    return (reply[1] if reply else 255), near


def test_a_port_of_the_session_is_reached_by_the_sessions_names_alone(
    serve: Serve, forward: Forward
) -> None:
    """Both directions end by themselves; other hosts and other ports are refused at once."""
    serve(str(PORT))
    here, dead, far, dynamic = free_port(), free_port(), free_port(), free_port()
    process = forward(
        here,
        *("-L", f"{here}:localhost:{PORT}", "-L", f"{dead}:127.0.0.1:9"),
        *("-L", f"{far}:example.org:{PORT}", "-D", str(dynamic)),
    )
    for size in (0, 1000, 5_000_000):
        near = socket.create_connection(("127.0.0.1", here))
        assert ask(near, b"x" * size) == b"got %d" % size
    for port in (dead, far):
        assert ask(socket.create_connection(("127.0.0.1", port)), b"") == b""
    for host in ("localhost", "127.0.0.1"):
        code, near = socks(dynamic, host, PORT)
        assert (code, ask(near)) == (0, b"got 1000")
    for host in ("192.0.2.1", "example.org", "host.docker.internal"):
        code, near = socks(dynamic, host, PORT)
        near.close()
        assert code != 0
    process.kill()
    _, errors = process.communicate()
    assert b"connect failed: Connection refused" in errors
    assert b"only the session's own ports can be reached" in errors


def test_many_connections_at_a_time(serve: Serve, forward: Forward) -> None:
    """As a browser has them."""
    serve(str(PORT))
    here = free_port()
    forward(here, "-L", f"{here}:localhost:{PORT}")
    opened = [socket.create_connection(("127.0.0.1", here)) for _ in range(30)]
    assert {ask(near) for near in opened} == {b"got 1000"}


def test_a_unix_socket_and_one_connection_on_the_standard_streams(
    ssh: Client, serve: Serve, forward: Forward
) -> None:
    """ssh -L PORT:PATH, and ssh -W."""
    serve(str(PORT))
    serve("/tmp/a socket")
    here = free_port()
    forward(here, "-L", f"{here}:/tmp/a socket", "-L", f"{free_port()}:/tmp/none")
    assert ask(socket.create_connection(("127.0.0.1", here))) == b"got 1000"
    done = ssh.run("-W", f"localhost:{PORT}", "box", input=b"x" * 50, check=0)
    assert done.stdout == b"got 50"


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running ssh-agent with one key; returns the key's fingerprint."""
    need("ssh-agent", "ssh-add", "ssh-keygen")
    path = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as run:
        eventually(path.exists, 10)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        key = str(tmp_path / "key")
        subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", key], check=True)
        subprocess.run(["ssh-add", "-q", key], check=True)
        told = subprocess.run(["ssh-add", "-l"], check=True, capture_output=True, text=True)
        yield told.stdout.split()[1]
        run.send_signal(signal.SIGTERM)


def test_the_agent_is_there_for_who_asks_and_no_longer(ssh: Client, agent: str) -> None:
    """A socket for the time of the connection with -A; even `ForwardAgent yes` is not asking."""
    need("ssh-add")
    said = ssh.run(
        "-A", "box", "ssh-add -l && stat -c %a ${SSH_AUTH_SOCK%/*}", check=0
    ).stdout.decode()
    assert agent in said
    assert said.endswith("700\n")  # nobody else gets to it
    own = ssh.config.parent / "own"
    own.write_text(f"{ssh.config.read_text()}\nHost *\n    ForwardAgent yes\n")
    assert Client(own).text("echo [$SSH_AUTH_SOCK]; ls /run/mooring | grep agent; true") == "[]\n"
    held = ssh.start("-A", "box", "cat")
    eventually(lambda: "agent." in ssh.text("ls /run/mooring"), 20)
    held.communicate(b"")
    eventually(lambda: "agent." not in ssh.text("ls /run/mooring"), 20)


# what VS Code's installer sends to `bash` by ssh: it unpacks its server, starts it in the
# background, and prints the port, which the client then forwards to
INSTALLER = """
set -e
mkdir -p ~/.vscode-server/bin/abc && cd ~/.vscode-server/bin/abc
tar -xzf {archive}
nohup ./server {port} >server.log 2>&1 </dev/null &
echo $! > ../pid
while ! grep -q listening server.log; do sleep 0.1; done
echo "listeningOn=={port}=="
"""


@pytest.mark.parametrize("dynamic", [False, True], ids=["ports", "dynamic"])
def test_an_editors_server_is_installed_and_survives_the_connection(
    dynamic: bool, ssh: Client, forward: Forward, project: Path
) -> None:
    """As VS Code does it; after a lost connection the same server is found again."""
    server = project / "server"
    server.write_text(f"#!{sys.executable}\n{ECHO}")
    server.chmod(0o755)
    with tarfile.open(project / "server.tar.gz", "w:gz") as archive:
        archive.add(server, "server")
    local = free_port()
    options = ["-D", str(local)] if dynamic else []
    script = INSTALLER.format(archive=project / "server.tar.gz", port=PORT)
    bootstrap = ssh.start("-T", *options, "-o", "ConnectTimeout=15", "box", "bash")
    assert bootstrap.stdin is not None
    assert bootstrap.stdout is not None
    bootstrap.stdin.write(script.encode())
    bootstrap.stdin.flush()
    assert bootstrap.stdout.readline() == b"listeningOn==%d==\n" % PORT
    if dynamic:
        code, near = socks(local, "127.0.0.1", PORT)
        assert (code, ask(near)) == (0, b"got 1000")
    bootstrap.kill()  # the network is lost
    bootstrap.communicate()
    time.sleep(1.5)
    pid = int(ssh.text("cat ~/.vscode-server/bin/pid"))
    assert ssh.text(f"kill -0 {pid} && echo alive") == "alive\n"
    here = free_port()
    forward(here, "-L", f"{here}:127.0.0.1:{PORT}")
    assert ask(socket.create_connection(("127.0.0.1", here))) == b"got 1000"


def test_sshfs_mounts_the_sessions_files(ssh: Client, tmp_path: Path) -> None:
    """Written there and read here, until it is unmounted."""
    need("sshfs", "fusermount3")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    point = tmp_path / "mounted"
    point.mkdir()
    command = f"ssh {' '.join(ssh.options())}"
    done = subprocess.run(
        ["sshfs", "-o", f"ssh_command={command}", "box:", str(point)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if done.returncode and "fuse:" in done.stderr:
        pytest.skip(f"this machine mounts nothing: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    try:
        (point / "from-here").write_text("text")
        (point / "from-here").rename(point / "renamed")
        assert ssh.text("cat ~/renamed") == "text"
        ssh.text("mkdir ~/new; echo there > ~/new/file")
        assert (point / "new" / "file").read_text() == "there\n"
    finally:
        subprocess.run(["fusermount3", "-u", str(point)], check=True, timeout=30)
