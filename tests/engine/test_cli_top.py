"""`mooring top` in a real terminal: it draws, follows keys and sizes, and leaves no trace."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

LEFT = b"\033[?25h\033[?1049l"  # the cursor, and the screen that was there before
SGR = re.compile(r"\033\[[0-9;]*m")


class Screen:
    """A terminal in which `mooring top` runs, and all that it has written."""

    def __init__(self, *arguments: str, columns: int = 80) -> None:
        self.ours, theirs = pty.openpty()
        self.resize(24, columns)
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mooring_cli", "top", "-n", "0.5", *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color"},
        )  # fmt: skip
        self.written = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def wait_for(self, holds: Callable[[bytes], bool], timeout_s: float = 60) -> bytes:
        """Read until that holds of all that was written."""
        deadline = time.monotonic() + timeout_s
        while not holds(self.written):
            assert time.monotonic() < deadline, self.written[-2000:]
            if select.select([self.ours], [], [], 0.2)[0]:
                self.written += os.read(self.ours, 65536)
        return self.written

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def screens() -> Iterator[Callable[..., Screen]]:
    made: list[Screen] = []

    def make(*arguments: str, columns: int = 80) -> Screen:
        made.append(Screen(*arguments, columns=columns))
        return made[-1]

    yield make
    for screen in made:
        screen.close()


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        (lambda screen: screen.press(b"q"), 0),
        (lambda screen: screen.press(b"\x04"), 0),
        (lambda screen: screen.process.send_signal(signal.SIGINT), 0),
        (lambda screen: screen.process.send_signal(signal.SIGTERM), 128 + signal.SIGTERM),
    ],
    ids=["q", "ctrl-d", "ctrl-c", "sigterm"],
)
def test_it_leaves_the_terminal_as_it_was(mooring, screens, leave, code: int) -> None:
    """However it ends: cursor, screen and the terminal's modes are those of before."""
    screen = screens()
    screen.wait_for(lambda said: said.count(b"NAME") >= 2)
    leave(screen)
    assert screen.wait_for(lambda said: LEFT in said).endswith(LEFT)
    assert screen.process.wait(timeout=30) == code
    assert termios.tcgetattr(screen.theirs) == screen.before


def test_it_shows_what_comes_and_fits_a_terminal_that_changes(cli, mooring, screens) -> None:
    """A new session appears by itself; a narrower terminal is drawn anew, no line too wide."""
    screen = screens(columns=120)
    screen.wait_for(lambda said: b"0 running of 0" in said)
    cli("create", "-d", "--name", "comes", "--", "sleep", "1000", check=0)
    screen.wait_for(lambda said: b"comes" in said and b"1 running of 1" in said)
    screen.resize(24, 50)
    drawn = len(screen.written)
    time.sleep(1)
    screen.wait_for(lambda said: said[drawn:].count(b"\033[H") >= 3)
    last = screen.written[drawn:].split(b"\033[H")[-2].decode()
    lines = SGR.sub("", last).replace("\033[K", "").replace("\033[J", "").splitlines()
    assert any(line.startswith("comes") for line in lines)
    assert max(map(len, lines)) <= 50


def test_a_pause_gives_the_terminal_back(mooring, screens) -> None:
    """Ctrl-Z leaves the screen; when it goes on, it draws again."""
    screen = screens()
    screen.wait_for(lambda said: b"NAME" in said)
    screen.process.send_signal(signal.SIGTSTP)
    screen.wait_for(lambda said: said.endswith(LEFT))
    assert termios.tcgetattr(screen.theirs) == screen.before
    stat = Path(f"/proc/{screen.process.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)
    drawn = len(screen.written)
    screen.process.send_signal(signal.SIGCONT)
    screen.wait_for(lambda said: b"NAME" in said[drawn:])
    screen.press(b"q")
    assert screen.process.wait(timeout=30) == 0


def test_once_and_without_a_terminal(cli, mooring, project: Path) -> None:
    """One table, or JSON, and it leaves; names choose."""
    cli("create", "-d", "--name", "one", "--memory", "1GiB", "--", "sleep", "1000", check=0)
    said = cli("top", check=0).stdout.splitlines()
    assert said[0].split()[:4] == ["NAME", "STATE", "CPU", "MEMORY"]
    assert said[1].split()[:2] == ["one", "running"]
    assert "\033" not in "".join(said)
    assert '"name": "one"' in cli("top", "--json", check=0).stdout
    assert len(cli("top", "--once", "o*", check=0).stdout.splitlines()) == 2
    assert "no session named x" in cli("top", "--once", "x", check=1).stderr
