"""Streams: bytes pass whole, in any pieces, and neither side's silence blocks the other."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import signal
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.engines.streams import SocketStream
from mooring.terminals.modes import Modes
from mooring.terminals.pump import connect, exit_code, key_codes, raw, terminal_size, undo
from tests.support.waiting import eventually

DEADLINE_S = 30.0
MIB = 1 << 20


def frame(kind: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", kind, len(data)) + data


# Joining


class Far(SocketStream):
    """The far process's end of a stream; a thread plays the process."""

    def __init__(self, tty: bool = False) -> None:
        self.near, self.far = socket.socketpair()
        super().__init__(self.near, tty)
        self.sizes: list[tuple[int, int]] = []
        self.resized = threading.Semaphore(0)
        self.code: int | None = 0

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))
        self.resized.release()

    def exit_code(self) -> int | None:
        return self.code

    def close(self) -> None:
        super().close()
        self.far.close()


@pytest.fixture
def far() -> Iterator[Far]:
    made = Far()
    yield made
    made.close()


@pytest.fixture
def terminal() -> Iterator[Far]:
    made = Far(tty=True)
    yield made
    made.close()


@contextlib.contextmanager
def playing(play: Callable[[], object]) -> Iterator[None]:
    """Run a function beside the test, and make sure that it returned without an error."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            play()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "the other side is stuck"
    assert not failed, failed


class Pipe:
    """A pipe whose ends are closed at the end of the test."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.write_end, view) :]

    def close_writer(self) -> None:
        os.close(self.write_end)
        self.write_end = -1

    def content(self) -> bytes:
        data = b""
        while more := os.read(self.read_end, 65536):
            data += more
        return data


@pytest.fixture
def pipe() -> Iterator[Callable[[], Pipe]]:
    made: list[Pipe] = []

    def make() -> Pipe:
        made.append(Pipe())
        return made[-1]

    yield make
    for one in made:
        for end in (one.read_end, one.write_end):
            with contextlib.suppress(OSError):
                os.close(end)


def received(end: socket.socket) -> bytes:
    data = b""
    while more := end.recv(65536):
        data += more
    return data


def test_both_outputs_reach_their_places(far: Far, tmp_path: Path) -> None:
    """Standard output and standard error end up where they belong."""
    far.far.sendall(frame(1, b"out\n") + frame(2, b"err\n") + frame(1, b"more\n"))
    far.far.close()
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
        assert connect(far, stdin=None, stdout=out.fileno(), stderr=err.fileno()) is False
    assert (tmp_path / "out").read_bytes() == b"out\nmore\n"
    assert (tmp_path / "err").read_bytes() == b"err\n"


def test_end_of_input_is_passed_on(far: Far, pipe: Callable[[], Pipe]) -> None:
    """When our input ends, the far process reads end of file, and its answer still comes."""
    source, sink = pipe(), pipe()

    def process() -> None:
        far.far.sendall(frame(1, hashlib.sha256(received(far.far)).hexdigest().encode()))
        far.far.close()

    source.send(b"ahoy")
    source.close_writer()
    with playing(process):
        connect(far, stdin=source.read_end, stdout=sink.write_end)
    sink.close_writer()
    assert sink.content().decode() == hashlib.sha256(b"ahoy").hexdigest()


def test_no_input_is_an_end_of_input(far: Far, pipe: Callable[[], Pipe]) -> None:
    """Without input the far process reads end of file at once."""
    sink = pipe()

    def process() -> None:
        assert received(far.far) == b""
        far.far.close()

    with playing(process):
        connect(far, stdin=None, stdout=sink.write_end)


def test_a_regular_file_as_input(far: Far, tmp_path: Path, pipe: Callable[[], Pipe]) -> None:
    """A file of many chunks arrives whole."""
    content = os.urandom(3 * MIB + 17)
    (tmp_path / "input").write_bytes(content)
    got: list[bytes] = []

    def process() -> None:
        got.append(received(far.far))
        far.far.close()

    with playing(process), open(tmp_path / "input", "rb") as file:
        connect(far, stdin=file.fileno(), stdout=pipe().write_end)
    assert got == [content]


def test_a_process_that_does_not_read_blocks_nothing(
    far: Far, tmp_path: Path, pipe: Callable[[], Pipe]
) -> None:
    """While the far process reads nothing of a large input, its output still comes."""
    content = os.urandom(4 * MIB)
    (tmp_path / "input").write_bytes(content)
    sink, seen, got = pipe(), threading.Event(), []

    def process() -> None:
        # nothing is read before the output has been seen on our side
        far.far.sendall(frame(1, b"first\n"))
        assert seen.wait(DEADLINE_S)
        got.append(received(far.far))
        far.far.close()

    def reader() -> None:
        assert os.read(sink.read_end, 100) == b"first\n"
        seen.set()

    with playing(process), playing(reader), open(tmp_path / "input", "rb") as file:
        connect(far, stdin=file.fileno(), stdout=sink.write_end)
    assert got == [content]


def test_a_large_stream_both_ways_at_once(
    far: Far, tmp_path: Path, pipe: Callable[[], Pipe]
) -> None:
    """Megabytes in both directions at the same time come through whole."""
    content = os.urandom(4 * MIB)
    (tmp_path / "input").write_bytes(content)
    sink, got = pipe(), []

    def process() -> None:
        while data := far.far.recv(65536):
            far.far.sendall(frame(1, data))
        far.far.close()

    def reader() -> None:
        got.append(sink.content())

    with playing(process), playing(reader):
        with open(tmp_path / "input", "rb") as file:
            connect(far, stdin=file.fileno(), stdout=sink.write_end)
        sink.close_writer()
    assert got == [content]


def test_a_process_that_reads_no_more(far: Far, tmp_path: Path, pipe: Callable[[], Pipe]) -> None:
    """A far process that closes its input ends nothing: its output is still carried."""
    (tmp_path / "input").write_bytes(b"x" * 4 * MIB)
    sink = pipe()

    def process() -> None:
        far.far.shutdown(socket.SHUT_RD)
        far.far.sendall(frame(1, b"still here\n"))
        far.far.close()

    with playing(process), open(tmp_path / "input", "rb") as file:
        connect(far, stdin=file.fileno(), stdout=sink.write_end)
    sink.close_writer()
    assert sink.content() == b"still here\n"


def test_a_connection_that_is_reset_is_an_end(far: Far, pipe: Callable[[], Pipe]) -> None:
    """A far side that goes away with our bytes unread is the end of its output, not an error."""
    source = pipe()
    source.send(b"never read")
    far.near.sendall(b"never read either")
    far.far.close()
    assert connect(far, stdin=source.read_end, stdout=pipe().write_end) is False


def test_nobody_reads_our_output(far: Far, pipe: Callable[[], Pipe]) -> None:
    """When the reader of our output has gone, BrokenPipeError says so, as ``head -1`` needs it."""
    sink = pipe()
    os.close(sink.read_end)
    sink.read_end = -1
    far.far.sendall(frame(1, b"x"))
    with pytest.raises(BrokenPipeError):
        connect(far, stdin=None, stdout=sink.write_end)


def test_an_output_that_does_not_block(far: Far, pipe: Callable[[], Pipe]) -> None:
    """A non-blocking output that is full is waited for, and no byte is lost."""
    content = os.urandom(MIB)
    sink, got = pipe(), []
    os.set_blocking(sink.write_end, False)

    def process() -> None:
        far.far.sendall(frame(1, content))
        far.far.close()

    def reader() -> None:
        got.append(sink.content())

    with playing(process), playing(reader):
        connect(far, stdin=None, stdout=sink.write_end)
        sink.close_writer()
    assert got == [content]


def test_an_input_that_cannot_be_read_is_an_end(far: Far, pipe: Callable[[], Pipe]) -> None:
    """An input that was hung up counts as ended."""

    def process() -> None:
        assert received(far.far) == b""
        far.far.close()

    folder = os.open("/", os.O_RDONLY)  # reading it is an OSError
    with playing(process):
        connect(far, stdin=folder, stdout=pipe().write_end)
    os.close(folder)


# Terminals


@pytest.fixture
def user() -> Iterator[tuple[int, int]]:
    """A terminal: the person's end, and the program's."""
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)


def test_a_terminals_bytes_are_not_framed(terminal: Far, pipe: Callable[[], Pipe]) -> None:
    """With a terminal every byte is the terminal's own, in both directions."""
    source, sink = pipe(), pipe()
    source.send(b"typed\x03\x00")

    def process() -> None:
        assert terminal.far.recv(100) == b"typed\x03\x00"
        terminal.far.sendall(b"\x01\x00\x00\x00\x00\x00\x00\x02hi")
        terminal.far.close()

    with playing(process):
        connect(terminal, stdin=source.read_end, stdout=sink.write_end, size=lambda: (24, 80))
    sink.close_writer()
    assert sink.content() == b"\x01\x00\x00\x00\x00\x00\x00\x02hi"


def test_size_at_once_and_after_each_change(terminal: Far, pipe: Callable[[], Pipe]) -> None:
    """The far terminal has our size before the first byte and after every SIGWINCH."""
    sizes = iter([(24, 80), (30, 90), (40, 100)])
    before = signal.getsignal(signal.SIGWINCH)

    def process() -> None:
        for _ in range(2):
            assert terminal.resized.acquire(timeout=DEADLINE_S)
            os.kill(os.getpid(), signal.SIGWINCH)
        assert terminal.resized.acquire(timeout=DEADLINE_S)
        terminal.far.close()

    with playing(process):
        connect(terminal, stdin=None, stdout=pipe().write_end, size=lambda: next(sizes))
    assert terminal.sizes == [(24, 80), (30, 90), (40, 100)]
    assert signal.getsignal(signal.SIGWINCH) is before


@pytest.mark.parametrize("fails", [False, True])
def test_raw_while_joined_and_as_before_afterwards(
    terminal: Far, user: tuple[int, int], pipe: Callable[[], Pipe], fails: bool
) -> None:
    """Our terminal is raw while it is joined, and as it was afterwards, whatever happened."""
    _, program = user
    before = termios.tcgetattr(program)
    during: list[int] = []
    sink = pipe()
    if fails:
        os.close(sink.read_end)
        sink.read_end = -1

    def process() -> None:
        assert terminal.resized.acquire(timeout=DEADLINE_S)
        eventually(lambda: not termios.tcgetattr(program)[3] & termios.ICANON, DEADLINE_S)
        os.write(user[0], b"\x03")
        assert terminal.far.recv(1) == b"\x03"  # Ctrl-C is a byte like any other
        during.append(termios.tcgetattr(program)[3] & (termios.ECHO | termios.ISIG))
        terminal.far.sendall(b"x")
        terminal.far.close()

    def size() -> tuple[int, int]:
        return 24, 80

    with playing(process), contextlib.ExitStack() as stack:
        if fails:
            stack.enter_context(pytest.raises(BrokenPipeError))
        connect(terminal, stdin=program, stdout=sink.write_end, size=size)
    assert during == [0]
    assert termios.tcgetattr(program) == before


def test_raw_is_for_terminals(pipe: Callable[[], Pipe]) -> None:
    """A file that is not a terminal is left as it is."""
    with raw(None), raw(pipe().read_end):
        pass


def test_a_terminal_that_hangs_up_is_no_error() -> None:
    """A terminal that is gone cannot be put back; what ended the command is what counts."""
    person, program = pty.openpty()
    with raw(program):
        os.close(person)
    modes = Modes()
    modes.feed(b"\x1b[?1003h")
    undo(modes, program, program)
    os.close(program)


def test_modes_are_undone_on_an_engines_own_stream(
    terminal: Far, user: tuple[int, int], pipe: Callable[[], Pipe]
) -> None:
    """Where nothing keeps a terminal, the modes are undone too, and reports that are left are not
    for the user's shell."""
    sink = pipe()

    def process() -> None:
        assert terminal.resized.acquire(timeout=DEADLINE_S)
        terminal.far.sendall(b"\x1b[?1003h\x1b[>1u")
        assert os.read(sink.read_end, 100) == b"\x1b[?1003h\x1b[>1u"
        os.write(user[0], b"\x1b[112;5u\x1b[113;5u")

    with playing(process):
        left = connect(
            terminal,
            stdin=user[1],
            stdout=sink.write_end,
            size=lambda: (24, 80),
            detach_keys="ctrl-p,ctrl-q",
        )
    assert left is True
    assert os.read(sink.read_end, 100) == b"\x1b[?1003l\x1b[<1u\x1b[0m"


def test_a_locked_keyboard_is_unlocked_at_once(
    terminal: Far, user: tuple[int, int], pipe: Callable[[], Pipe]
) -> None:
    """A terminal that honours the lock (ECMA-48, KAM) would send no key, nor those that detach."""
    sink = pipe()
    seen: list[bytes] = []

    def process() -> None:
        assert terminal.resized.acquire(timeout=DEADLINE_S)
        terminal.far.sendall(b"abc\x1b[2h")
        while b"\x1b[2l" not in b"".join(seen):
            seen.append(os.read(sink.read_end, 100))
        os.write(user[0], b"\x10\x11")

    with playing(process):
        left = connect(
            terminal,
            stdin=user[1],
            stdout=sink.write_end,
            size=lambda: (24, 80),
            detach_keys="ctrl-p,ctrl-q",
        )
    assert left is True
    assert b"".join(seen).startswith(b"abc\x1b[2h")


@pytest.mark.parametrize("pieces", [[b"abc\x10\x11"], [b"abc\x10", b"\x11"]], ids=["once", "cut"])
def test_detach_keys_leave(terminal: Far, pipe: Callable[[], Pipe], pieces: list[bytes]) -> None:
    """The detach keys detach though the far process goes on, in one piece or in several."""
    source = pipe()

    def person() -> None:
        for piece in pieces:
            source.send(piece)
            assert terminal.far.recv(100) == piece  # it was passed on before the next one

    with playing(person):
        left = connect(
            terminal,
            stdin=source.read_end,
            stdout=pipe().write_end,
            size=lambda: (24, 80),
            detach_keys="ctrl-p,ctrl-q",
        )
    assert left is True


@pytest.mark.parametrize(
    ("names", "codes"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("a", b"a"), ("ctrl-@,ctrl-_", b"\x00\x1f"), ("", b"")],
)
def test_key_codes(names: str, codes: bytes) -> None:
    """Detach keys are written as the engine takes them."""
    assert key_codes(names) == codes


@pytest.mark.parametrize("names", ["ctrl-", "ctrl-1", "ab", "ctrl-pq", "é"])
def test_what_is_no_key(names: str) -> None:
    """A name that is not a key is a ValueError with that name."""
    with pytest.raises(ValueError, match="is not a key"):
        key_codes(names)


def test_the_code_may_come_later_than_the_output(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is waited for: an engine closes the output a moment before it knows it."""
    codes = iter([None, None, 7])
    monkeypatch.setattr(far, "exit_code", lambda: next(codes))
    assert exit_code(far) == 7


def test_a_size_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any terminal, the size is that of the oldest one."""

    def none(descriptor: int) -> os.terminal_size:
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(os, "get_terminal_size", none)
    assert terminal_size() == (24, 80)
