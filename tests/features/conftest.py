"""What the tests of features share: a terminal that a person sits at, and an image with a shell."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from mooring.client import Mooring
from tests.support.docker import imported

DETACH = "\x10\x11"  # ctrl-p,ctrl-q
APPLETS = "sh cat ls id whoami sleep stat tail date rm mv mkdir touch env pwd stty grep kill seq"


class Terminal(pexpect.spawn):  # type: ignore[type-arg]
    """The command line at a terminal of 30 rows and 100 columns."""

    def __init__(self, *arguments: str, term: str = "xterm") -> None:
        super().__init__(
            sys.executable,
            ["-m", "mooring_cli", *arguments],
            encoding="utf-8",
            timeout=30,
            dimensions=(30, 100),
            env=os.environ | {"TERM": term},
        )
        self.delaybeforesend = None
        self._asked = 0

    def ask(self, command: str) -> str:
        """What a command typed into the shell prints, in one line.

        It is told from the command's echo by a mark that only the shell puts together, and from
        what is shown again by its number.
        """
        self._asked += 1
        mark = f"{id(self):x}-{self._asked}"
        self.sendline(f"echo A''{mark} $({command}) E''F")
        self.expect(f"A{mark} (.*?) EF")
        return str(self.match.group(1))

    def leave(self) -> None:
        """Type the detach keys, and wait until it has let go."""
        self.send(DETACH)
        self.expect("; to attach again: ")
        assert self.code() == 0

    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        self.expect(pexpect.EOF)
        self.close()
        return self.exitstatus  # type: ignore[no-any-return]


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(mooring: Mooring, project: Path) -> Iterator[Open]:
    """Starts the command line at a terminal."""
    opened: list[Terminal] = []

    def start(*arguments: str, term: str = "xterm") -> Terminal:
        opened.append(Terminal(*arguments, term=term))
        return opened[-1]

    yield start
    for child in opened:
        child.close(force=True)


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """An image of busybox: a shell, no Python, no tmux, and another's name for everybody."""
    busybox = shutil.which("busybox")
    if busybox is None:
        missing = "the image is made of busybox-static, which is not here"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for folder in ("bin", "etc", "tmp", "proc", "sys", "dev", "run", "mnt"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        content = Path(busybox).read_bytes()
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
        for applet in APPLETS.split():
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        users = f"squatter:x:{os.getuid()}:{os.getgid()}::/squat:/bin/false\n".encode()
        entry = tarfile.TarInfo("etc/passwd")
        entry.size, entry.mode = len(users), 0o644
        tar.addfile(entry, io.BytesIO(users))
    with imported(written.getvalue(), "features") as reference:
        yield reference
