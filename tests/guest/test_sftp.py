"""The SFTP server for images without one: OpenSSH's own client, and messages that no client sends.

It runs here, on files of the test's own.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest_scripts import GUEST

SERVER = [sys.executable, "-ISc", (GUEST / "sftp.py").read_text()]
OK, EOF, NO_FILE, DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
OPEN, CLOSE, READ, OPENDIR, REALPATH, EXTENDED = 3, 4, 5, 11, 16, 200


def sftp(folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    """Run a batch of the client's commands in a folder."""
    if shutil.which("sftp") is None:
        pytest.skip("sftp is not installed (apt-get install openssh-client)")
    server = f"{sys.executable} -IS {GUEST / 'sftp.py'}"
    return subprocess.run(
        ["sftp", "-q", "-b", "-", "-D", server],
        input="\n".join(lines) + "\n", capture_output=True, text=True, cwd=folder, timeout=30,
        check=False,
    )  # fmt: skip


def test_the_client_finds_what_it_knows_of_openssh(tmp_path: Path) -> None:
    """Files, folders, links, modes and times, with OpenSSH's extensions."""
    (tmp_path / "source").write_bytes(os.urandom(700_000))
    os.utime(tmp_path / "source", (1e9, 1e9))
    for number in range(250):
        (tmp_path / f"f{number:03}").touch()
    done = sftp(
        tmp_path,
        "put -p source a", "rename a b", "get -p b c", "reget b c", "chmod 4751 b", "ln b hard",
        "ln -s nowhere soft", "mkdir d", "rename source d/e", "ls -l f*", "df .", "rmdir missing",
    )  # fmt: skip
    assert done.returncode == 1, "the last one fails"
    assert done.stdout.count("-rw-") == 250
    assert (tmp_path / "c").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "c").stat().st_mtime == 1e9
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o4751
    assert (tmp_path / "b").stat().st_nlink == 2
    assert os.readlink(tmp_path / "soft") == "nowhere"
    assert (tmp_path / "d" / "e").exists()


def test_a_link_is_changed_itself_where_the_client_says_so(tmp_path: Path) -> None:
    """Its target stays as it is, and one that leads nowhere does no harm."""
    (tmp_path / "file").write_text("text")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "link").symlink_to("file")
    done = sftp(tmp_path, "-chmod -h 644 link", "ls -l", "rm link")
    assert done.returncode == 0
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert not (tmp_path / "link").is_symlink()


def test_names_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    """They are bytes."""
    folder = os.fsencode(tmp_path)
    with open(folder + b"/\xff name", "wb") as file:
        file.write(b"x")
    assert sftp(tmp_path, "get *name got", "rm *name", "ls").returncode == 0
    assert os.listdir(folder) == [b"got"]


class Server:
    """A server that the test talks to itself."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=folder,
        )  # fmt: skip
        self.number = 0

    def send(self, kind: int, content: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(struct.pack(">IB", len(content) + 1, kind) + content)
        self.process.stdin.flush()

    def ask(self, kind: int, content: bytes) -> tuple[int, bytes]:
        """Send a request; return the kind and the content of the answer to it."""
        self.number += 1
        self.send(kind, struct.pack(">I", self.number) + content)
        assert self.process.stdout is not None
        length, kind, number = struct.unpack(">IBI", self.process.stdout.read(9))
        assert number == self.number
        return kind, self.process.stdout.read(length - 5)

    def status(self, kind: int, content: bytes) -> int:
        found, answer = self.ask(kind, content)
        assert found == STATUS
        code: int = struct.unpack(">I", answer[:4])[0]
        return code


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.process.communicate(timeout=10)


def text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_malformed_requests_are_answered_and_nothing_else(server: Server) -> None:
    """Strings longer than their message, handles that are none, kinds and extensions unknown."""
    nothing = struct.pack(">I", 0)
    assert server.status(OPEN, struct.pack(">I", 1 << 31) + b"x") == BAD_MESSAGE
    assert server.status(OPEN, b"") == BAD_MESSAGE
    assert server.status(OPEN, text(b"a\0b") + struct.pack(">I", 1) + nothing) == NO_FILE
    assert server.status(OPEN, text(b"a") + nothing + nothing) == BAD_MESSAGE
    assert server.status(CLOSE, text(b"7")) == FAILURE
    assert server.status(READ, text(b"7") + struct.pack(">QI", 0, 1)) == FAILURE
    assert server.status(99, b"") == UNSUPPORTED
    assert server.status(EXTENDED, text(b"evil@example.org")) == UNSUPPORTED
    assert server.status(OPENDIR, text(b"x" * 5000)) == FAILURE
    kind, answer = server.ask(REALPATH, text(b""))
    assert kind == NAME
    assert answer.startswith(struct.pack(">I", 1))


def test_one_read_has_a_limit_and_handles_have_one(server: Server, tmp_path: Path) -> None:
    """A client that asks for 4 GiB, or opens without end, takes no memory by it."""
    (tmp_path / "zero").touch()
    os.truncate(tmp_path / "zero", 1 << 30)
    flags = struct.pack(">II", 1, 0)
    kind, answer = server.ask(OPEN, text(b"zero") + flags)
    assert kind == HANDLE
    kind, data = server.ask(READ, answer + struct.pack(">QI", 0, 0xFFFFFFFF))
    assert kind == DATA
    assert len(data) <= 1 << 18
    assert server.status(READ, answer + struct.pack(">QI", 1 << 31, 10)) == EOF
    for _ in range(2000):
        kind, answer = server.ask(OPEN, text(b"zero") + flags)
        if kind != HANDLE:
            break
    assert kind == STATUS


def test_a_message_that_is_too_long_ends_it(server: Server) -> None:
    """It cannot be skipped without reading it."""
    assert server.process.stdin is not None
    server.process.stdin.write(struct.pack(">IB", 0x7FFFFFFF, OPEN))
    server.process.stdin.flush()
    assert server.process.wait(10) == 1


def test_the_script_needs_only_what_python_3_8_has() -> None:
    """It is read by the image's interpreter, whatever that is."""
    done = subprocess.run(
        [sys.executable, "-c", "import ast, sys; ast.parse(sys.stdin.read(), feature_version=8)"],
        input=(GUEST / "sftp.py").read_text(), text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0
