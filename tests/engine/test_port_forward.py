"""mooring port-forward: connections of yours, and of nobody else, into a session."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import resource
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.base import Engine
from tests.support.images import image_maker

pytestmark = pytest.mark.engine

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
MOORING = [sys.executable, "-m", "mooring_cli"]
NOBODY = 65534
# What every service of these tests is: one that says what it got, once it has got all of it
ECHO = """
import socket, sys, threading
def serve(near):
    data = b""
    while more := near.recv(65536):
        data += more
    near.sendall(b"got %d: " % len(data) + data[:100000])
    near.close()
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listening = socket.socket(family)
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listening.bind((sys.argv[1], int(sys.argv[2])))
listening.listen(100)
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],)).start()
"""


@dataclass
class Forward:
    """A running port-forward: its process, and this machine's ports in the order asked for."""

    process: subprocess.Popen[bytes]
    ports: list[int]
    errors: Path

    def complaints(self) -> str:
        return self.errors.read_text()


Start = Callable[..., Forward]


@pytest.fixture
def forward(tmp_path: Path) -> Iterator[Start]:
    """Starts port-forward, and waits until it listens; ends it after the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> Forward:
        errors = tmp_path / f"errors-{len(running)}"
        with errors.open("wb") as file:
            process = subprocess.Popen(
                [*MOORING, "port-forward", *words], stdout=subprocess.PIPE, stderr=file
            )
        running.append(process)
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in words[1:]]
        ports = [int(line.split(" ")[0].rpartition(":")[2]) for line in lines if line]
        return Forward(process, ports, errors)

    yield start
    for process in running:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def box(cli: Cli, project: Path) -> str:
    cli("create", "-d", "--name", "box", check=0)
    return "box"


def serve(cli: Cli, name: str, address: str, port: int, program: str = ECHO) -> None:
    """Start a service in a session, and wait until it listens."""
    Path("service.py").write_text(program)
    run = f"{shlex.quote(sys.executable)} service.py {address} {port} >/dev/null 2>&1 &"
    cli("exec", name, "--", "sh", "-c", run, check=0)
    wanted = f":{port:04X} "
    listening = f"until grep -q '{wanted}' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done"
    cli("exec", name, "--", "sh", "-c", listening, check=0)


def ask(port: int, data: bytes, host: str = "127.0.0.1") -> bytes:
    """Send, end, and read what comes back."""
    with socket.create_connection((host, port), timeout=30) as near:
        near.sendall(data)
        near.shutdown(socket.SHUT_WR)
        return read_all(near)


def read_all(near: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := near.recv(65536):
            data += more
    return data


def inside(cli: Cli, name: str) -> list[str]:
    """Command lines of the session's processes that belong to a forward."""
    rows = json.loads(cli("ps", "--json", check=0).stdout)
    (container,) = [row["container"] for row in rows if row["name"] == name]
    top = ["docker", "top", container, "-o", "pid,args"]
    lines = subprocess.run(top, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if "port-forward" in line or "forward.sh" in line]


def eventually(what: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])  # noqa: S104
def test_a_request_and_its_end_arrive(cli: Cli, box: str, forward: Start, address: str) -> None:
    """The service gets all of it and the end of it, and answers afterwards: half-close works."""
    serve(cli, box, address, 7001)
    there = forward(box, "0:7001")
    assert ask(there.ports[0], b"hello") == b"got 5: hello"
    assert ask(there.ports[0], b"hello", "::1") == b"got 5: hello"
    assert there.complaints() == ""


def test_a_service_on_the_containers_own_address_is_reached(
    cli: Cli, box: str, forward: Start
) -> None:
    """One that listens on the container's address alone is found in the kernel's table."""
    eventually(lambda: len(cli("exec", box, "--", "hostname", "-I").stdout.split()) > 0)
    address = cli("exec", box, "--", "hostname", "-I", check=0).stdout.split()[0]
    serve(cli, box, address, 7001)
    assert ask(forward(box, "0:7001").ports[0], b"hello") == b"got 5: hello"


@pytest.mark.parametrize("tool", ["socat", "busybox"])
def test_any_image_will_do(
    real_engine: Engine, cli: Cli, project: Path, forward: Start, tool: str
) -> None:
    """An image without Python needs socat or busybox, and nothing else."""
    with image_maker() as make:
        # busybox serves in all of them, under a name by which nothing looks for it
        image = make(tool, name=f"pf-{tool}", also={"busybox": "serving/busybox"})
        cli("create", "-d", "--name", "small", "--image", image, "--pull", "never", check=0)
        run = "/serving/busybox nc -ll -p 7001 -e /serving/busybox cat >/dev/null 2>&1 &"
        cli("exec", "small", "--", "sh", "-c", run, check=0)
        there = forward("small", "0:7001")

        def answered() -> bool:
            with socket.create_connection(("127.0.0.1", there.ports[0]), timeout=30) as near:
                near.sendall(b"hello")
                near.shutdown(socket.SHUT_WR)
                return read_all(near) == b"hello"

        eventually(answered)
        there.process.send_signal(signal.SIGINT)
        assert there.process.wait(20) == 130
        cli("rm", "-f", "small", check=0)


def test_an_image_with_nothing_says_so(
    real_engine: Engine, cli: Cli, project: Path, forward: Start
) -> None:
    """One line names what could have carried a connection, and the connection is closed."""
    with image_maker() as make:
        image = make(name="pf-nothing", also={"busybox": "serving/busybox"})
        cli("create", "-d", "--name", "small", "--image", image, "--pull", "never", check=0)
        run = "/serving/busybox nc -ll -p 7001 -e /serving/busybox cat >/dev/null 2>&1 &"
        cli("exec", "small", "--", "sh", "-c", run, check=0)
        there = forward("small", "0:7001")
        eventually(lambda: ask(there.ports[0], b"x") == b"" and "none of" in there.complaints())
        assert there.complaints().count("none of") == 1
        cli("rm", "-f", "small", check=0)


def test_many_connections_at_once(cli: Cli, box: str, forward: Start) -> None:
    """Forty at once, each with its own bytes, all come back right."""
    serve(cli, box, "127.0.0.1", 7001)
    there = forward(box, "0:7001")
    port = there.ports[0]
    answers: dict[int, bytes] = {}

    def one(number: int) -> None:
        answers[number] = ask(port, b"%d" % number * 1000)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {n: b"got %d: " % len(b"%d" % n * 1000) + b"%d" % n * 1000 for n in range(40)}
    assert answers == expected, there.complaints()


LINES = """
import asyncio, resource, sys
async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(b"got " + line)
async def main():
    server = await asyncio.start_server(serve, sys.argv[1], int(sys.argv[2]), backlog=2000)
    await server.serve_forever()
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
asyncio.run(main())
"""


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may have more files open than usual."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, min(most, 4096)), most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_stay_open(cli: Cli, box: str, forward: Start) -> None:
    """They are all open at the same time and answer in turn, by one process in the session."""
    serve(cli, box, "127.0.0.1", 7001, LINES)
    there = forward(box, "0:7001")
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", there.ports[0])
        opened = [
            stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(1000)
        ]
        for turn in range(2):
            for number, near in enumerate(opened):
                near.sendall(b"%d %d\n" % (turn, number))
            for number, near in enumerate(opened):
                assert near.recv(100) == b"got %d %d\n" % (turn, number), there.complaints()
        assert len(inside(cli, box)) == 1
    assert there.complaints() == ""


def test_one_that_does_not_read_blocks_no_other(cli: Cli, box: str, forward: Start) -> None:
    """A client that leaves what a service sends unread holds up itself alone."""
    serve(cli, box, "127.0.0.1", 7001, FLOOD)
    there = forward(box, "0:7001")
    address = ("127.0.0.1", there.ports[0])
    with socket.create_connection(address) as slow:
        slow.settimeout(3)
        with contextlib.suppress(TimeoutError):
            while True:
                slow.send(b"x" * 65536)
        before = time.monotonic()
        assert len(ask(there.ports[0], b"y" * 100_000)) == 100_000
        assert time.monotonic() - before < 5
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{there.process.pid}/status").read_text())
    assert peak
    assert int(peak.group(1)) < 100 << 10


def test_a_relay_that_died_is_replaced(cli: Cli, box: str, forward: Start) -> None:
    """Connections that it made go on, and the next one gets another relay."""
    serve(cli, box, "127.0.0.1", 7001, LINES)
    there = forward(box, "0:7001")
    with socket.create_connection(("127.0.0.1", there.ports[0]), timeout=20) as near:
        near.sendall(b"one\n")
        assert near.recv(100) == b"got one\n"
        (line,) = inside(cli, box)
        os.kill(int(line.split()[0]), signal.SIGKILL)
        eventually(lambda: line not in inside(cli, box))
        with socket.create_connection(("127.0.0.1", there.ports[0]), timeout=20) as other:
            other.sendall(b"two\n")
            assert other.recv(100) == b"got two\n"
        near.sendall(b"three\n")
        assert near.recv(100) == b"got three\n"
    assert there.complaints() == ""


FLOOD = """
import socket, sys, threading
listening = socket.socket()
listening.bind((sys.argv[1], int(sys.argv[2])))
listening.listen()
def serve(near):
    while data := near.recv(1 << 20):
        near.sendall(data)
    near.close()
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""


def test_64_mib_each_way_at_once(cli: Cli, box: str, forward: Start) -> None:
    """Nothing is lost or doubled when both directions are full, and memory stays bounded."""
    serve(cli, box, "127.0.0.1", 7001, FLOOD)
    there = forward(box, "0:7001")
    block, sent, got = os.urandom(1 << 20), hashlib.sha256(), hashlib.sha256()
    with socket.create_connection(("127.0.0.1", there.ports[0]), timeout=60) as near:

        def send() -> None:
            for number in range(64):
                piece = block[number:] + block[:number]
                sent.update(piece)
                near.sendall(piece)
            near.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        count = 0
        while data := near.recv(1 << 20):
            got.update(data)
            count += len(data)
        sender.join()
    assert count == 64 << 20
    assert got.digest() == sent.digest()
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{there.process.pid}/status").read_text())
    assert peak
    assert int(peak.group(1)) < 100 << 10


SERVER_ENDS_FIRST = """
import socket, sys
listening = socket.socket()
listening.bind((sys.argv[1], int(sys.argv[2])))
listening.listen()
near, _ = listening.accept()
near.sendall(b"first")
near.shutdown(socket.SHUT_WR)
open("late", "wb").write(near.recv(100))
"""


def test_the_service_may_end_first(cli: Cli, box: str, forward: Start, project: Path) -> None:
    """The end of what it sends arrives, and what the client says afterwards reaches it."""
    serve(cli, box, "127.0.0.1", 7001, SERVER_ENDS_FIRST)
    port = forward(box, "0:7001").ports[0]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as near:
        assert read_all(near) == b"first"
        near.sendall(b"late words")
        eventually(lambda: (project / "late").exists() and (project / "late").read_bytes())
    assert (project / "late").read_bytes() == b"late words"


def test_nothing_listens(cli: Cli, box: str, forward: Start) -> None:
    """The connection is closed, one line says so however often it is asked, and then it works."""
    there = forward(box, "0:7001")
    assert ask(there.ports[0], b"") == b""
    assert ask(there.ports[0], b"") == b""
    assert there.complaints() == "port 7001: nothing listens on it in session box\n"
    serve(cli, box, "127.0.0.1", 7001)
    assert ask(there.ports[0], b"hello") == b"got 5: hello"


FOREVER = """
import socket, sys, threading, time
listening = socket.socket()
listening.bind((sys.argv[1], int(sys.argv[2])))
listening.listen(100)
def serve(near):
    while True:
        near.sendall(b"tick")
        time.sleep(0.1)
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_inside(cli: Cli, box: str, forward: Start, how: signal.Signals) -> None:
    """Whatever ends the command, all that it started in the session is gone, mid-stream too."""
    serve(cli, box, "127.0.0.1", 7001, FOREVER)
    there = forward(box, "0:7001")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            near = stack.enter_context(socket.create_connection(("127.0.0.1", there.ports[0])))
            assert near.recv(4)
        assert len(inside(cli, box)) == 1
        there.process.send_signal(how)
        expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how]
        assert there.process.wait(20) == expected
    eventually(lambda: inside(cli, box) == [])


def test_a_client_that_goes_leaves_no_relay(cli: Cli, box: str, forward: Start) -> None:
    """A service that never stops sending does not keep the relay of a client that has gone."""
    serve(cli, box, "127.0.0.1", 7001, FOREVER)
    there = forward(box, "0:7001")
    waiting = len(inside(cli, box))
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", there.ports[0]), timeout=20) as near:
            assert near.recv(4)
    assert len(inside(cli, box)) == waiting == 1
    descriptors = Path(f"/proc/{there.process.pid}/fd")
    sockets = lambda: sum("socket" in os.readlink(one) for one in descriptors.iterdir())  # noqa: E731
    idle = 5  # two that listen, two that wake the thread, the relay's stream
    eventually(lambda: sockets() <= idle)


def test_a_stopped_session_ends_it_and_a_restart_does_not(
    cli: Cli, box: str, forward: Start
) -> None:
    """Stopped and started, it goes on; stopped for good, it ends with a line and exit code 1."""
    there = forward(box, "0:7001")
    cli("stop", box, check=0)
    cli("start", box, check=0)
    serve(cli, box, "127.0.0.1", 7001)
    eventually(lambda: ask(there.ports[0], b"hello") == b"got 5: hello")
    assert there.process.poll() is None
    cli("rm", "-f", box, check=0)
    assert there.process.wait(30) == 1
    assert "session box is gone" in there.complaints()


def test_ports_are_checked(cli: Cli, box: str, forward: Start) -> None:
    """A port that is taken is named with who holds it; so is what is no port at all."""
    there = forward(box, "0:7001")
    taken = cli("port-forward", box, f"{there.ports[0]}:7001", check=1).stderr
    assert f"port {there.ports[0]} of 127.0.0.1 is taken by process {there.process.pid}" in taken
    assert "0:7001 for any free one" in taken
    assert "omit the first number" not in taken  # here that means the same number
    for wrong in ("x", "0", "70000", "1:2:3", "-1", "80:", "99999:1"):
        assert "is not a port" in cli("port-forward", box, "--", wrong, check=2).stderr
    assert "no session named" in cli("port-forward", "nobody", "80", check=1).stderr


ASK = """
import socket, sys
said = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
try:
    said.sendall(b"let me in")
    said.shutdown(socket.SHUT_WR)
    print(said.recv(100).decode())
except OSError:  # reset, or not connected any more
    print("")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_another_user_is_turned_away(cli: Cli, box: str, forward: Start, host: str) -> None:
    """A port of loopback is open to all; who is not the user or root gets nothing."""
    serve(cli, box, "127.0.0.1", 7001)
    there = forward(box, "0:7001")
    for user, answer in ((NOBODY, ""), (0, "got 9: let me in")):
        done = subprocess.run(
            ["/usr/bin/python3", "-c", ASK, host, str(there.ports[0])],
            user=user, group=user, cwd="/", capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == answer
    assert "another user" in there.complaints()


def test_it_listens_on_loopback_alone(box: str, forward: Start) -> None:
    """No other address of this machine answers."""
    there = forward(box, "0:7001")
    wanted = f":{there.ports[0]:04X}"
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(wanted) and fields[3] == "0A":
                found.add(fields[1].removesuffix(wanted))
    assert found == {"0100007F", "00000000000000000000000001000000"}


@pytest.mark.timed
def test_it_is_no_activity(mooring: Mooring, cli: Cli, project: Path, forward: Start) -> None:
    """An open forward, also one that is used now and then, does not keep an idle session."""
    cli("create", "-d", "--name", "idle", "--idle-timeout", "12s", check=0)
    serve(cli, "idle", "127.0.0.1", 7001)
    there = forward("idle", "0:7001")
    began = time.monotonic()
    while there.process.poll() is None and time.monotonic() - began < 90:
        with contextlib.suppress(OSError):
            ask(there.ports[0], b"still there?")
        select.select([], [], [], 3)
    assert there.process.poll() == 1
    assert "idle timeout" in there.complaints()
