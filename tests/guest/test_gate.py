"""The gate: a static program that waits at a FIFO and becomes another program."""

from __future__ import annotations

import hashlib
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mooring.guest.gate import gate_program
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a program for Linux")

# What was seen to work: x86_64 on that processor, aarch64 in an emulator
SEEN = {
    "x86_64": "452971420927ed02e97101c79eb89b5f743a8a4bb988d846b1313dc2d50ae7ae",
    "aarch64": "a0d0edc4024a15502b524abccd4d6c279658c600e63cbdb30bd830cbd71f5e8c",
}


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    program = gate_program(platform.machine())
    if program is None:
        pytest.skip(f"no gate for {platform.machine()}")
    path = tmp_path / "gate"
    path.write_bytes(program)
    path.chmod(0o700)
    os.mkfifo(tmp_path / "fifo")
    return path


def begin(gate: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [gate, gate.with_name("fifo"), *words], env=env, stdout=subprocess.PIPE, text=True
    )


def open_gate(gate: Path) -> int:
    return os.open(gate.with_name("fifo"), os.O_RDWR | os.O_NONBLOCK)


def waits(process: subprocess.Popen[str]) -> bool:
    """Whether it sleeps, and is the gate and not yet what made it."""
    name, _, rest = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")
    return name.endswith("(gate") and rest.split()[0] == "S"


@pytest.mark.parametrize("machine", sorted(SEEN))
def test_it_is_what_was_seen_to_work(machine: str) -> None:
    """Each byte is as it was when the program was tried on that processor."""
    program = gate_program(machine)
    assert program is not None
    assert hashlib.sha256(program).hexdigest() == SEEN[machine]


@pytest.mark.parametrize("machine", sorted(SEEN))
def test_it_is_static(machine: str) -> None:
    """One segment, which is the file, readable and executable; no interpreter, no library."""
    program = gate_program(machine)
    assert program is not None
    assert len(program) < 256
    assert program[:7] == b"\x7fELF\x02\x01\x01"
    entry, segments = struct.unpack_from("<QQ", program, 24)
    assert struct.unpack_from("<HH", program, 54) == (56, 1)
    kind, flags, offset, address, _, size, memory = struct.unpack_from("<IIQQQQQ", program, 64)
    assert (segments, kind, flags, offset, size, memory) == (64, 1, 5, 0, len(program), size)
    assert entry == address + 64 + 56


def test_there_is_none_for_other_processors() -> None:
    """Where there is no gate, that is said before anything is made."""
    assert gate_program("riscv64") is None


def test_it_waits_and_becomes_the_program(gate: Path) -> None:
    """Arguments and environment are the program's, and so is the exit code; no descriptor stays."""
    said = "echo $0 $1 $NAME; ls /proc/self/fd; exit 7"
    process = begin(gate, "/bin/sh", "-c", said, "a b", "", NAME="value", PATH="/usr/bin:/bin")
    eventually(lambda: waits(process))
    assert process.poll() is None
    opened = open_gate(gate)
    output, _ = process.communicate(timeout=10)
    os.close(opened)
    assert process.returncode == 7
    assert output.splitlines() == ["a b value", "0", "1", "2", "3"]  # 3 is ls's own


@pytest.mark.parametrize(
    "env",
    [
        {"LD_PRELOAD": "/nowhere.so"},
        {"LD_AUDIT": "/nowhere.so", "LD_LIBRARY_PATH": "/nowhere"},
        {"PATH": "", "IFS": "x", "ENV": "/nowhere"},
        {f"NAME_{number}": "x" * 1000 for number in range(100)},
        {},
    ],
    ids=["preload", "audit", "shell", "large", "none"],
)
def test_no_variable_changes_what_it_does(gate: Path, env: dict[str, str]) -> None:
    """It has no loader and no shell: it waits, and hands all variables on."""
    process = begin(gate, "/bin/cat", "/proc/self/environ", **env)
    eventually(lambda: waits(process))
    opened = open_gate(gate)
    output, _ = process.communicate(timeout=10)
    os.close(opened)
    assert dict(line.split("=", 1) for line in output.split("\0") if line) == env


@pytest.mark.parametrize(
    ("words", "code"), [((), 127), (("/nowhere",), 127), (("/etc/passwd",), 127)]
)
def test_what_cannot_be_run_has_a_code(gate: Path, words: Sequence[str], code: int) -> None:
    """A program that is missing or cannot be run ends it as in a shell."""
    opened = open_gate(gate)
    process = begin(gate, *words)
    process.communicate(timeout=10)
    os.close(opened)
    assert process.returncode == code


def test_without_a_fifo_it_opens_for_nobody(gate: Path) -> None:
    """What it cannot open does not let the program pass."""
    gate.with_name("fifo").unlink()
    process = begin(gate, "/bin/true")
    process.communicate(timeout=10)
    assert process.returncode == 125
