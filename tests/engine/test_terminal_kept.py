"""Terminals that outlive their clients: killed, cut off, slow, several at once, or gone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from mooring.client import Mooring
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import State
from mooring.terminals.keeper import protocol
from mooring.terminals.keeper.client import keeper_pid
from tests.support.invariants import leaks
from tests.support.memory import peak_kib
from tests.support.sessions import session_folder

pytestmark = pytest.mark.engine

MOORING = [sys.executable, "-m", "mooring_cli"]
DETACH = "\x10\x11"  # ctrl-p,ctrl-q
SIZE = 100 << 20
KEEPER_KIB, CLIENT_KIB = 24 << 10, 100 << 10


def ended(child: pexpect.spawn[str]) -> int | None:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def until(what: str, true: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)


def folder_of(mooring: Mooring, name: str) -> SessionFolder:
    return session_folder(mooring.sessions.get(name).id)


def keeper_of(folder: SessionFolder) -> int:
    return keeper_pid(folder.path)


# Nothing is lost


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 MB in which every byte counts, and none means anything to a terminal."""
    path = tmp_path_factory.mktemp("big") / "100MB"
    path.write_bytes(random.Random(1).randbytes(SIZE // 2).hex().encode())  # noqa: S311
    return path


@pytest.fixture
def printing(cli, project: Path, big: Path) -> str:
    """A session whose terminal prints those as soon as there is a file `go`, and ends with 5."""
    os.link(big, project / "data") if os.stat(big).st_dev == os.stat(project).st_dev else (
        project / "data"
    ).write_bytes(big.read_bytes())
    script = "stty raw -echo; until [ -e go ]; do sleep 0.1; done; cat data; exit 5"
    cli("create", "-d", "--name", "big", "--", "sh", "-c", script, check=0)
    return "big"


def test_100_mb_with_the_client_killed_on_the_way(printing, project, big, mooring) -> None:
    """`kill -9` of clients in the middle of 100 MB: with its offset the next one goes on, and in
    the end the count and the hash are right. Neither keeper nor client grows.
    """
    digest, count, clients, peak = hashlib.sha256(), 0, 0, 0
    keeper = keeper_of(folder_of(mooring, printing))
    code = None
    while code is None:
        clients += 1
        assert clients < 20
        client = subprocess.Popen(
            [*MOORING, "attach", "--since", str(count), printing],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert client.stdout is not None
        (project / "go").touch()
        limit = SIZE if clients > 5 else count + random.Random(clients).randrange(20 << 20)  # noqa: S311
        while piece := client.stdout.read1(1 << 20):
            digest.update(piece)
            count += len(piece)
            peak = max(peak, peak_kib(client.pid))
            if count > limit:
                client.kill()  # what is in the pipe already has arrived
                limit = 2 * SIZE
        code = None if client.wait() < 0 else client.returncode
        _, said = client.communicate()
        assert code in (None, 5), said
    assert clients > 5, count
    assert (code, count) == (5, SIZE)
    assert digest.hexdigest() == hashlib.sha256(big.read_bytes()).hexdigest()
    print(f"peak: keeper {peak_kib(keeper)} KiB, client {peak} KiB")
    assert 0 < peak_kib(keeper) < KEEPER_KIB or not peak_kib(keeper)
    assert 0 < peak < CLIENT_KIB


class Cutter:
    """Stands between clients and a keeper, and cuts every connection after a while."""

    def __init__(self, folder: SessionFolder, seed: int) -> None:
        self._term, self._random = folder.path / "term", random.Random(seed)  # noqa: S311
        (self._term / "sock").rename(self._term / "real")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._term / "sock"))
        self._listener.listen()
        self.cuts = 0
        self.most = 6 << 20
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                keeper = socket.socket(socket.AF_UNIX)
                keeper.connect(str(self._term / "real"))
                left = [self._random.randrange(self.most)]
                threading.Thread(target=self._join, args=(client, keeper, left)).start()

    def _join(self, client: socket.socket, keeper: socket.socket, left: list[int]) -> None:
        with client, keeper:
            back = threading.Thread(target=self._pass, args=(keeper, client, left))
            back.start()
            self._pass(client, keeper, left)
            back.join()

    def _pass(self, one: socket.socket, other: socket.socket, left: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(min(65536, max(1, left[0]))):
                other.sendall(data)
                left[0] -= len(data)
                if left[0] <= 0:
                    self.cuts += 1
                    break
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with contextlib.suppress(OSError):
            (self._term / "real").rename(self._term / "sock")


@pytest.fixture
def cutting() -> Iterator[Callable[[SessionFolder, int], Cutter]]:
    made: list[Cutter] = []

    def make(folder: SessionFolder, seed: int) -> Cutter:
        made.append(Cutter(folder, seed))
        return made[-1]

    yield make
    for cutter in made:
        cutter.close()


def test_100_mb_over_a_connection_that_is_cut(printing, project, big, mooring, cutting) -> None:
    """A client whose connection is cut at any byte, again and again, goes on by itself, and
    nothing is lost or doubled of 100 MB.
    """
    cutter = cutting(folder_of(mooring, printing), 2)
    client = subprocess.Popen(
        [*MOORING, "attach", "--replay", "all", printing],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    (project / "go").touch()
    assert client.stdout is not None
    digest, count, peak = hashlib.sha256(), 0, 0
    while piece := client.stdout.read1(1 << 20):
        digest.update(piece)
        count += len(piece)
        peak = max(peak, peak_kib(client.pid))
    _, said = client.communicate()
    assert (client.returncode, count) == (5, SIZE), said
    assert digest.hexdigest() == hashlib.sha256(big.read_bytes()).hexdigest()
    assert cutter.cuts > 10
    assert 0 < peak < CLIENT_KIB
    assert b"missing" not in said


def test_what_is_typed_arrives_once_over_a_connection_that_is_cut(
    cli, mooring, project, cutting
) -> None:
    """1 MB of keys through a connection that is cut at any byte arrive whole, each once."""
    typed = random.Random(3).randbytes(1 << 19).hex().encode()  # noqa: S311
    script = f"stty raw -echo; echo ready >ready; head -c {len(typed)} | sha256sum >sum"
    cli("create", "-d", "--name", "keys", "--", "sh", "-c", script, check=0)
    until("the program", (project / "ready").exists)
    cutter = cutting(folder_of(mooring, "keys"), 4)
    cutter.most = 150_000
    command = [*MOORING, "attach", "keys"]
    done = subprocess.run(command, input=typed, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (project / "sum").read_text().split()[0] == hashlib.sha256(typed).hexdigest()
    assert cutter.cuts > 5


def test_the_rest_is_there_when_the_session_has_ended_meanwhile(cli, project, mooring) -> None:
    """Who comes when all is over reads the rest, once, and gets the exit code."""
    script = "until [ -e go ]; do sleep 0.1; done; seq 200000; exit 7"
    cli("create", "-d", "--name", "late", "--", "sh", "-c", script, check=0)
    (project / "go").touch()
    until("its end", lambda: mooring.sessions.get("late").state is State.STOPPED)
    until("the keeper's", lambda: not keeper_of(folder_of(mooring, "late")))
    (row,) = cli("terminals", "late", check=0).stdout.splitlines()[1:]
    assert row.split()[:3] == ["main", "ended", "(7)"]
    done = subprocess.run(
        [*MOORING, "attach", "--replay", "all", "late"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout == b"".join(b"%d\r\n" % number for number in range(1, 200001))
    until("its end", lambda: not keeper_of(folder_of(mooring, "late")))
    done = cli("attach", "late", check=125)
    assert done.stderr.startswith("error: session late is stopped (exit code 7)")


# Several clients


def test_two_clients_see_the_same_and_the_last_used_one_gives_the_size(terminal, mooring) -> None:
    """What one types both see; the terminal has the size of the one that was used last."""
    first = terminal("create", "--name", "both")
    first.sendline("echo o''ne $(stty size)")
    first.expect("one 31 97")
    second = terminal("attach", "both", size=(20, 60))
    second.expect("one 31 97")  # its scrollback
    second.sendline("echo t''wo $(stty size)")
    second.expect("two 20 60")
    first.expect("two 20 60")
    assert [one.clients for one in mooring.terminals.list(mooring.sessions.get("both"))] == [2]
    first.sendline("")
    until(
        "the size", lambda: mooring.terminals.list(mooring.sessions.get("both"))[0].size == (31, 97)
    )
    for _ in range(20):  # its client has the engine apply the size, after the keeper knows it
        first.sendline("echo t''hree $(stty size)")
        if second.expect(["three 31 97", "three 20 60"]) == 0:
            break
    else:
        pytest.fail("the terminal never got the size")
    first.send(DETACH)
    assert ended(first) == 0
    until(
        "the size", lambda: mooring.terminals.list(mooring.sessions.get("both"))[0].size == (20, 60)
    )
    for _ in range(20):
        second.sendline("sleep 0.3; echo f''our $(stty size)")
        if second.expect(["four 20 60", "four 31 97"]) == 0:
            break
    else:
        pytest.fail("the terminal never got the size back")


def test_a_stopped_client_blocks_nobody(cli, mooring, project) -> None:
    """A client that takes nothing (SIGSTOP) neither stops the program nor another client, nor
    does the keeper grow; when it goes on it gets everything.
    """
    script = "stty -echo; until [ -e go ]; do sleep 0.1; done; seq 1500000; cat"
    cli("create", "-d", "--name", "slow", "--", "sh", "-c", script, check=0)
    keeper = keeper_of(folder_of(mooring, "slow"))
    with open(project / "out", "wb") as out:
        slow = subprocess.Popen(
            [*MOORING, "attach", "--replay", "all", "slow"], stdin=subprocess.PIPE, stdout=out
        )
    until(
        "the client", lambda: mooring.terminals.list(mooring.sessions.get("slow"))[0].clients == 1
    )
    slow.send_signal(signal.SIGSTOP)
    try:
        (project / "go").touch()
        other = subprocess.Popen(
            [*MOORING, "attach", "--replay", "all", "slow"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert other.stdout is not None
        assert len(other.stdout.read(11_000_000)) == 11_000_000
        other.kill()
        other.communicate()
        assert peak_kib(keeper) < KEEPER_KIB
        slow.send_signal(signal.SIGCONT)
        expected = b"".join(b"%d\r\n" % number for number in range(1, 1_500_001))
        until("the rest", lambda: (project / "out").stat().st_size == len(expected))
    finally:
        slow.kill()
        slow.communicate()
    assert (project / "out").read_bytes() == expected


def test_a_program_waits_for_its_only_client(terminal) -> None:
    """Ctrl-C ends a flood at once: no more of it was let out than the client could show."""
    child = terminal("create", "--name", "flood")
    child.sendline("yes mooring-flood")
    child.expect("mooring-flood\r\nmooring-flood")
    time.sleep(1)  # nobody reads
    child.sendcontrol("c")
    child.sendline("echo o''ver")
    began = time.monotonic()
    child.expect("over", timeout=20)
    assert time.monotonic() - began < 10


# Coming back


def test_terminals_are_listed_and_found_again(terminal, cli, mooring) -> None:
    """`exec` at a terminal is one of the session's: it survives its client, is listed, and
    `attach NAME TERMINAL` finds it with its scrollback; one that ended keeps its code until seen.
    """
    cli("create", "-d", "--name", "many", check=0)
    first = terminal("exec", "many")
    first.sendline("KEPT=yes; echo s''een")
    first.expect("seen")
    second = terminal(
        "exec", "many", "--", "sh", "-c", "echo here; read x; echo last words; exit 9"
    )
    second.expect("here")
    lines = cli("terminals", "many", check=0).stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["main", "running", "0", "24x80"],
        ["t1", "running", "1", "31x97"],
        ["t2", "running", "1", "31x97"],
    ]
    for child in (first, second):
        child.kill(signal.SIGKILL)
        child.expect(pexpect.EOF)
    again = terminal("attach", "many", "t1")
    again.expect("seen")
    again.sendline("echo k''ept $KEPT")
    again.expect("kept yes")
    again.sendline("exit 4")
    assert ended(again) == 4
    assert [one.id for one in mooring.terminals.list(mooring.sessions.get("many"))] == [
        "main",
        "t2",
    ]
    other = terminal("attach", "many", "t2")
    other.expect("here")
    other.kill(signal.SIGHUP)  # its window is closed
    other.expect(pexpect.EOF)
    folder = folder_of(mooring, "many")
    link = socket.socket(socket.AF_UNIX)
    link.connect(str(folder.path / "term" / "sock"))
    attach = protocol.encode("attach", terminal="t2", client="x", offset=0)
    link.sendall(attach + protocol.encode_data(b"\r"))
    time.sleep(0.3)
    link.close()

    def code() -> int | None:
        return {
            one.id: one.code for one in mooring.terminals.list(mooring.sessions.get("many"))
        }.get("t2")

    until("its code", lambda: code() == 9)
    assert "ended (9)" in cli("terminals", "many", check=0).stdout
    done = subprocess.run([*MOORING, "attach", "many", "t2"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (9, "last words")
    assert [one.id for one in mooring.terminals.list(mooring.sessions.get("many"))] == ["main"]
    done = cli("attach", "many", "t2", check=125)
    assert done.stderr == "error: session many has no terminal t2\nhint: it has: main\n"


def test_attach_in_a_session_of_kernels(terminal, cli, mooring) -> None:
    """Without a main terminal, `attach` is the newest one that nobody is attached to, and a new
    shell only when there is none.
    """
    cli("create", "--name", "nb", "--kernel", "python3", check=0)
    assert mooring.terminals.list(mooring.sessions.get("nb")) == []
    assert keeper_of(folder_of(mooring, "nb")) == 0
    first = terminal("attach", "nb")
    first.expect("opening a new shell")
    first.sendline("MINE=1; echo r''eady")
    first.expect("ready")
    second = terminal("attach", "nb")
    second.expect("opening a new shell")
    first.kill(signal.SIGKILL)
    first.expect(pexpect.EOF)
    again = terminal("attach", "nb")
    again.expect("nb has no main terminal; attaching to t1")
    again.sendline("echo m''ine $MINE")
    again.expect("mine 1")


def test_nothing_printed_before_anybody_came_is_lost(cli, project) -> None:
    """`create -d` has its terminal kept from its first byte on."""
    cli("create", "-d", "--name", "early", "--", "sh", "-c", "seq 20000; cat", check=0)
    time.sleep(1)
    command = [*MOORING, "attach", "--replay", "all", "early"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        lines = [client.stdout.readline() for _ in range(20000)]
        client.kill()
    assert lines == [b"%d\r\n" % number for number in range(1, 20001)]


def test_how_much_is_shown_again(cli, project) -> None:
    """`--replay` takes all, none or a size; nonsense is told in one line."""
    cli("create", "-d", "--name", "much", "--", "sh", "-c", "seq 100000; sleep 2", check=0)
    time.sleep(0.7)
    shown = {
        how: len(cli("attach", *(["--replay", how] if how else []), "much", timeout=30).stdout)
        for how in ("none",)
    }
    assert shown == {"none": 0}
    done = cli("attach", "--replay", "some", "much", check=125)
    assert "hint: use all, none, or a size such as 1MiB" in done.stderr
    done = cli("attach", "--replay", "all", "--since", "3", "much", check=125)
    assert "cannot be combined" in done.stderr


FULL_SCREEN = r"""
import os, signal, time
def draw(*_):
    drawn = "\x1b[H\x1b[2Jdrawn %dx%d" % tuple(reversed(os.get_terminal_size()))
    os.write(1, drawn.encode())  # unbuffered: the signal may come while the last one is written
signal.signal(signal.SIGWINCH, draw)
os.write(1, b"\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[6n")
draw()
while True:
    time.sleep(1)
"""


def test_a_full_screen_program_draws_anew(terminal, cli, project) -> None:
    """Who comes back to a program on the full screen gets that screen, drawn for its size, and
    none of the program's questions to the terminal; who leaves it gets the own screen back.
    """
    (project / "full.py").write_text(FULL_SCREEN)
    cli("create", "-d", "--name", "full", "--", "python3", "full.py", check=0)
    time.sleep(1)
    child = terminal("attach", "full", size=(25, 70))
    child.expect_exact("\x1b[?1049h\x1b[?25l\x1b[?2004h")
    child.expect_exact("drawn 25x70")
    assert "\x1b[6n" not in child.before
    child.setwinsize(30, 90)
    child.expect_exact("drawn 30x90")
    child.send(DETACH)
    child.expect_exact("\x1b[?1049l\x1b[?2004l\x1b[?25h\x1b[0m")
    child.expect("detached from full")
    assert ended(child) == 0


def test_questions_are_not_asked_again(terminal, cli, project) -> None:
    """What is shown once more makes the terminal answer nothing: that would be typed text."""
    program = r"printf 'a\033[6nb\033[cc\033]11;?\007d\n'; sleep 100"
    cli("create", "-d", "--name", "asks", "--", "sh", "-c", program, check=0)
    time.sleep(0.7)
    child = terminal("attach", "asks")
    child.expect("abcd")


# Any image


def test_an_image_with_hardly_anything(terminal, cli, mooring, bare_image) -> None:
    """Terminals outlive their clients in an image with nothing but a shell, and `--tmux` says
    that it has none.
    """
    child = terminal("create", "--image", bare_image, "--name", "bare")
    child.sendline("KEPT=yes; echo r''eady")
    child.expect("ready")
    other = terminal("exec", "bare")
    other.sendline("OTHER=1; echo r''eady")
    other.expect("ready")
    for client in (child, other):
        client.kill(signal.SIGKILL)
        client.expect(pexpect.EOF)
    again = terminal("attach", "--tmux", "bare")
    again.expect("the image of bare has no tmux; attaching to a terminal of the session")
    again.expect("ready")
    again.sendline("echo k''ept $KEPT")
    again.expect("kept yes")
    again = terminal("attach", "bare", "t1")
    again.sendline("echo o''ther $OTHER; exit 6")
    again.expect("other 1")
    assert ended(again) == 6


@pytest.mark.skipif(shutil.which("tmux") is None, reason="the host image has no tmux")
def test_tmux_of_the_image(terminal, cli, mooring) -> None:
    """`attach --tmux` joins the image's tmux; a client that was killed leaves none behind that
    the next one does not take up.
    """
    cli("create", "-d", "--name", "mux", check=0)
    child = terminal("attach", "--tmux", "mux")
    child.expect(r"\[mooring")
    child.sendline("KEPT=yes; echo r''eady")
    child.expect("ready")
    child.kill(signal.SIGKILL)
    child.expect(pexpect.EOF)
    again = terminal("attach", "--tmux", "mux")
    again.expect("ready")
    again.sendline("echo k''ept $KEPT")
    again.expect("kept yes")
    found = [one.id for one in mooring.terminals.list(mooring.sessions.get("mux"))]
    assert found == ["main", "t1"]
    again.send(DETACH)
    assert ended(again) == 0


# The keeper


def test_there_is_one_keeper_and_it_ends_with_its_session(cli, mooring, project) -> None:
    """Clients that come at once find one keeper; it is gone when the session has stopped, and
    comes back with it; a removal takes it along.
    """
    cli("create", "--name", "nb", "--kernel", "python3", check=0)
    folder = folder_of(mooring, "nb")
    script = "until [ -e go ]; do sleep 0.1; done"
    command = [*MOORING, "exec", "-t", "nb", "--", "sh", "-c", script]
    clients = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(4)
    ]
    try:
        session = mooring.sessions.get("nb")
        until(
            "all four", lambda: sum(one.clients for one in mooring.terminals.list(session)) == 4, 60
        )
        search = ["pgrep", "-f", f"terminals.keeper.process import.*{folder.path}"]
        found = subprocess.run(search, capture_output=True, text=True)
        assert found.stdout.split() == [str(keeper_of(folder))]
        (project / "go").touch()
        assert [client.wait(timeout=60) for client in clients] == [0] * 4
    finally:
        for client in clients:
            client.kill()
            client.wait()
    cli("create", "-d", "--name", "shell", check=0)
    folder = folder_of(mooring, "shell")
    assert keeper_of(folder)
    cli("stop", "shell", check=0)
    until("its end", lambda: not keeper_of(folder))
    assert not (folder.path / "term" / "sock").exists()
    cli("start", "shell", check=0)
    keeper = Path(f"/proc/{keeper_of(folder)}/cmdline")
    assert str(folder.path) in keeper.read_text()
    cli("rm", "-f", "shell", check=0)
    assert not keeper.exists() or not keeper.read_text()  # nobody may have collected it


def test_the_invariants_see_a_keeper_that_is_left(cli, mooring, real_engine, state) -> None:
    """The check after every test turns red while a keeper runs, or its socket is there."""
    from mooring.host.paths import Installation

    cli("create", "-d", "--name", "left", check=0)
    keeper = keeper_of(folder_of(mooring, "left"))
    found = "\n".join(leaks(real_engine, state, Installation.here().id))
    assert f"process {keeper} is left" in found
    assert re.search("socket .*/term/sock is left", found)


def test_a_killed_keeper_is_replaced(terminal, cli, mooring) -> None:
    """After a `kill -9` of the keeper the main terminal goes on, also for a client that is
    attached, and what may be missing is said; another terminal is told to be lost.
    """
    child = terminal("create", "--name", "hard")
    child.sendline("KEPT=yes; echo b''efore")
    child.expect("before")
    other = terminal("exec", "hard")
    other.sendline("echo o''pen")
    other.expect("open")
    folder = folder_of(mooring, "hard")
    keeper = keeper_of(folder)
    os.kill(keeper, signal.SIGKILL)
    child.expect("output may be missing here")
    other.expect("terminal t1 cannot be reached any more: its keeper was killed")
    assert ended(other) == 125
    child.sendline("echo a''fter $KEPT")
    child.expect("after yes")
    assert keeper_of(folder) not in (0, keeper)
    assert "lost" in cli("terminals", "hard", check=0).stdout
    child.send(DETACH)
    assert ended(child) == 0
    os.kill(keeper_of(folder), signal.SIGKILL)
    again = terminal("attach", "hard")
    again.expect("earlier output may be missing")
    again.expect("before")  # the scrollback is still there
    again.sendline("echo n''ow $KEPT")
    again.expect("now yes")
    again.sendline("exit 3")
    assert ended(again) == 3


def test_a_client_of_a_removed_session_ends(terminal, cli, mooring) -> None:
    """`stop` and `rm -f` from elsewhere end an attached client with the container's code."""
    for how, code in ((["stop"], None), (["rm", "-f"], 137)):
        child = terminal("create", "--name", "gone")
        child.sendline("echo r''eady")
        child.expect("ready")
        cli(*how, "gone", check=0)
        status = ended(child)
        assert status == code or (code is None and status not in (0, 125)), status
        if code is None:
            cli("rm", "gone", check=0)


def test_a_long_state_folder_is_no_obstacle(tmp_path, monkeypatch, cli, mooring, terminal) -> None:
    """The keeper's socket may lie deeper than a socket's path may be long."""
    deep = tmp_path / ("deep" * 20) / ("deeper" * 10)
    deep.mkdir(parents=True)
    monkeypatch.setenv("MOORING_STATE_DIR", str(deep))
    child = terminal("create", "--rm", "--name", "deep")
    child.sendline("echo r''eady")
    child.expect("ready")
    child.send(DETACH)
    assert ended(child) == 0
    again = terminal("attach", "deep")
    again.expect("ready")
    again.sendline("exit 2")
    assert ended(again) == 2


def test_secrets_of_this_environment_are_not_the_keepers(cli, mooring, project) -> None:
    """A process that lives as long as the session does not carry the environment it began with."""
    environ = os.environ | {"HF_TOKEN": "sentinel-4711"}
    cli("create", "-d", "--name", "quiet", check=0, env=environ)
    keeper = keeper_of(folder_of(mooring, "quiet"))
    assert b"sentinel-4711" not in Path(f"/proc/{keeper}/environ").read_bytes()
    assert mooring.sessions.get("quiet").state is State.RUNNING
