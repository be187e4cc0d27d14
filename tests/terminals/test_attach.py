"""A client of a terminal: all of the output, the exit code, and a keeper that may be replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import SessionStateError
from mooring.terminals.attach import REPLACED, Attachment
from mooring.terminals.keeper import protocol
from mooring.terminals.keeper.client import KeeperClient, keeper_pid
from mooring.terminals.listing import terminals
from mooring.terminals.terminal import MainTerminal, PersistentTerminal
from tests.support.waiting import eventually

KEYS = "ctrl-p,ctrl-q"
TIMEOUT_S = 30.0


@pytest.fixture
def pipe() -> Iterator[Callable[[], tuple[int, int]]]:
    ends: list[int] = []

    def make() -> tuple[int, int]:
        ends.extend(os.pipe())
        return ends[-2], ends[-1]

    yield make
    for end in ends:
        os.close(end)


def kept(engine: Any, session_dir: Path) -> Any:
    return MainTerminal(engine, session_dir).keep("c1", None)


class Running:
    """An attachment that runs beside the test, and what it warned of."""

    def __init__(self, terminal: Any, **options: Any) -> None:
        self.warnings: list[str] = []
        self.warned = threading.Event()
        self.error: BaseException | None = None
        self.code: int | None = None
        self._attachment = Attachment(terminal, warn=self._warn, **options)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        self.warned.set()

    def _run(self) -> None:
        try:
            self.code = self._attachment.run()
        except BaseException as error:
            self.error = error

    def result(self) -> int | None:
        """The exit code, once it has ended. Raises what it raised."""
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error
        return self.code


def test_a_client_has_all_of_the_output_and_the_exit_code(
    engine: Any, session_dir: Path, pipe: Callable[[], tuple[int, int]]
) -> None:
    """Also output from before it came, and of a program that has ended meanwhile."""
    reading, writing = pipe()
    terminal = kept(engine, session_dir)
    engine.programs[0].sendall(b"first\nlast words")
    engine.end(7)
    client = Running(terminal, stdin=None, stdout=writing)
    assert client.result() == 7
    assert os.read(reading, 100) == b"first\nlast words"


def test_detach_keys_leave_the_program_running(
    engine: Any, session_dir: Path, pipe: Callable[[], tuple[int, int]]
) -> None:
    """What was typed before them is the program's, and they are not."""
    (stdin, typing), (reading, writing) = pipe(), pipe()
    client = Running(kept(engine, session_dir), stdin=stdin, stdout=writing, detach_keys=KEYS)
    engine.programs[0].sendall(b"$")
    assert os.read(reading, 1) == b"$"
    os.write(typing, b"ls\x10x\x10\x11")
    assert client.result() is None
    received = b""
    while len(received) < 4:
        received += engine.programs[0].recv(100)
    assert received == b"ls\x10x"
    assert engine.code is None


def test_input_ends_without_ending_the_client(
    engine: Any, session_dir: Path, pipe: Callable[[], tuple[int, int]]
) -> None:
    """A terminal's input has no end: the output goes on."""
    reading, writing = pipe()
    stdin = os.open(os.devnull, os.O_RDONLY)
    client = Running(kept(engine, session_dir), stdin=stdin, stdout=writing)
    engine.programs[0].sendall(b"still here")
    assert os.read(reading, 100) == b"still here"
    engine.end(0)
    assert client.result() == 0
    os.close(stdin)


def test_a_killed_keeper_is_replaced_and_the_user_is_warned(
    engine: Any, session_dir: Path, pipe: Callable[[], tuple[int, int]]
) -> None:
    """The main terminal is connected anew; its output continues, and a gap is told."""
    reading, writing = pipe()
    client = Running(kept(engine, session_dir), stdin=None, stdout=writing)
    engine.programs[0].sendall(b"before")
    assert os.read(reading, 100) == b"before"
    os.kill(keeper_pid(session_dir), signal.SIGKILL)
    assert client.warned.wait(TIMEOUT_S)
    assert client.warnings[0] == REPLACED
    engine.programs[1].sendall(b"after")
    assert os.read(reading, 100) == b"after"
    engine.end(4)
    assert client.result() == 4


def test_a_terminal_whose_keeper_was_killed_is_lost(
    engine: Any, session_dir: Path, pipe: Callable[[], tuple[int, int]]
) -> None:
    """No engine connects to an exec again: the client ends, and says why."""
    reading, writing = pipe()
    stream = engine.attach("c1", tty=True, detach_keys="")
    name = KeeperClient.start(session_dir).hand_over(stream, "", {"exec": "e1"})
    stream.close()
    terminal = PersistentTerminal(engine, "c1", session_dir, name, "e1")
    client = Running(terminal, stdin=None, stdout=writing)
    engine.programs[0].sendall(b"x")
    assert os.read(reading, 1) == b"x"
    os.kill(keeper_pid(session_dir), signal.SIGKILL)
    with pytest.raises(SessionStateError, match="terminal t1 cannot be reached any more"):
        client.result()


def test_a_removed_session_ends_its_clients(
    engine: Any, session_dir: Path, pipe: Callable[[], tuple[int, int]]
) -> None:
    """A client does not wait for a keeper that will not come."""
    reading, writing = pipe()
    client = Running(kept(engine, session_dir), stdin=None, stdout=writing)
    engine.programs[0].sendall(b"x")
    assert os.read(reading, 1) == b"x"
    pid = keeper_pid(session_dir)
    (session_dir / "record.json").unlink()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(SessionStateError, match="the session was removed"):
        client.result()


def test_a_terminal_that_is_not_there_is_refused(engine: Any, session_dir: Path) -> None:
    """The keeper's own words are in the error."""
    KeeperClient.start(session_dir).connect().close()
    terminal = PersistentTerminal(engine, "c1", session_dir, "t9", "e9")
    with pytest.raises(SessionStateError, match="terminal t9: no such terminal"):
        Running(terminal, stdin=None).result()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        protocol.HEADER.pack(protocol.MESSAGE, 2 << 20),
        protocol.HEADER.pack(protocol.MESSAGE, 2) + b"{]",
        protocol.HEADER.pack(protocol.MESSAGE, 2) + b"{}",
        protocol.encode("hello", offset="x", taken=None),
        protocol.encode("hello", offset=0, end=[], taken=None),
        protocol.encode("hello"),
        protocol.encode("ack"),
        protocol.encode("apply", rows=1),
        protocol.encode("lost", bytes=1),
        protocol.encode_data(b"output before it is due"),
    ],
)
def test_a_keeper_that_is_not_understood_is_an_error(
    engine: Any, session_dir: Path, answer: bytes
) -> None:
    """Whatever another version's keeper answers, the client ends with one line and a hint."""
    with keeper_that_answers(session_dir, answer):
        terminal = PersistentTerminal(engine, "c1", session_dir, "t1", "e1")
        with pytest.raises(SessionStateError, match="answer is not understood") as caught:
            Running(terminal, stdin=None).result()
        assert caught.value.hint


def test_a_list_that_is_not_understood_is_an_error(session_dir: Path) -> None:
    """What asks a keeper for its terminals says so too."""
    answering = keeper_that_answers(session_dir, protocol.HEADER.pack(protocol.MESSAGE, 2 << 20))
    with answering, pytest.raises(SessionStateError, match="answer is not understood"):
        terminals(session_dir)


@contextlib.contextmanager
def keeper_that_answers(session_dir: Path, answer: bytes) -> Iterator[None]:
    """Serve one client: whatever it asks, it is answered the same."""
    term = session_dir / "term"
    term.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(term, os.O_PATH)
        listener.bind(f"/proc/self/fd/{folder}/{protocol.SOCKET}")
        os.close(folder)
        listener.listen()
        listener.settimeout(TIMEOUT_S)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(protocol.CHUNK)
                connection.sendall(answer)
                connection.recv(protocol.CHUNK)  # until the client has left

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield
        serving.join(TIMEOUT_S)
        (term / protocol.SOCKET).unlink()


def test_the_end_of_input_can_detach(
    engine: Any, session_dir: Path, pipe: Callable[[], tuple[int, int]]
) -> None:
    """For a client whose input ends with its connection: what was typed before is the program's."""
    (stdin, typing), (_, writing) = pipe(), pipe()
    client = Running(kept(engine, session_dir), stdin=os.dup(stdin), stdout=writing,
                     detach_at_end=True)  # fmt: skip
    os.write(typing, b"ls\n")
    assert engine.programs[0].recv(100) == b"ls\n"
    os.dup2(writing, typing)  # the pipe's last writer is gone
    assert client.result() is None
    assert engine.code is None


def test_a_size_can_change_without_a_terminal_here(
    engine: Any, session_dir: Path, pipe: Callable[[], tuple[int, int]]
) -> None:
    """A descriptor says when, so that no signal is needed and any thread will do."""
    (resized, changing), (stdin, _), (_, writing) = pipe(), pipe(), pipe()
    size = [(30, 90)]
    client = Running(
        kept(engine, session_dir), stdin=stdin, stdout=writing, size=lambda: size[0],
        resized=resized,
    )  # fmt: skip
    eventually(lambda: (30, 90) in engine.sizes)
    size[0] = (40, 120)
    os.write(changing, b"x")
    eventually(lambda: engine.sizes[-1] == (40, 120))
    engine.end(0)
    assert client.result() == 0
