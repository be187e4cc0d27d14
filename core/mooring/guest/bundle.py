"""The programs that mooring puts into a session's container, and their command lines.

They lie on a read-only mount, with the gate and the settings (see ``guest.paths``), and find the
session's run folder by the link ``run`` beside them. A session keeps the programs of the version
that created it.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from mooring.errors import NotSupported
from mooring.guest.gate import gate_program
from mooring.guest.paths import GUEST_RUN

#: The file names of all programs.
PROGRAMS = (
    "init.sh",
    "exec.sh",
    "command.sh",
    "clock.sh",
    "proc.sh",
    "probes.sh",
    "end.sh",
    "kernelhost.py",
    "kernelprocess.py",
    "debugger.py",
    "preload.py",
    "recorder.py",
)
# The FIFO that the gate waits for a writer of
_FIFO = "gate.fifo"


def write_programs(folder: Path) -> None:
    """Write all programs to a session's folder of programs, before its container is created.

    Idempotent.

    Raises:
        NotSupported: there is no gate for this machine's processor.
        OSError: the folder cannot be written to.
    """
    from importlib import resources

    programs = resources.files("mooring") / "guest"
    for name in PROGRAMS:
        (folder / name).write_text((programs / name).read_text())
    with contextlib.suppress(FileExistsError):
        (folder / "run").symlink_to(GUEST_RUN)
    gate = gate_program(platform.machine())
    if gate is None:
        raise NotSupported(
            f"sessions are not supported on a processor of type {platform.machine()}",
            "use a machine with x86_64 or aarch64",
        )
    (folder / "gate").write_bytes(gate)
    (folder / "gate").chmod(0o700)


def close_gate(folder: Path) -> None:
    """Give a gate a new FIFO, before its container is started.

    A process that has opened the last one may live on in another session, with a descriptor that it
    was sent: a read-only mount does not keep a FIFO from being opened for writing.

    Args:
        folder: the session's folder of programs.

    Raises:
        OSError: the folder cannot be written to.
    """
    (folder / _FIFO).unlink(missing_ok=True)
    os.mkfifo(folder / _FIFO, 0o600)


def open_gate(folder: Path) -> int:
    """Let a gate's program go on; return a descriptor, which must be open until it has begun.

    Args:
        folder: the session's folder of programs.

    Raises:
        OSError: the FIFO cannot be opened.
    """
    # read and write: not blocked if the gate does not wait yet, see fifo(7)
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(folder / _FIFO, flags)


def main_argv(
    programs: str, command: Sequence[str] | None, size: tuple[int, int] | None
) -> tuple[str, ...]:
    """The command line of a container's main process.

    Args:
        programs: the folder of the programs in the container.
        command: the session's command; empty for a shell, None for the clock only.
        size: the initial rows and columns of its terminal; None without a terminal.
    """
    init = (f"{programs}/gate", f"{programs}/{_FIFO}", "/bin/sh", f"{programs}/init.sh")
    if command is None:
        return (*init, "clock")
    if size is None:
        return (*init, "command", "--", *(command or ("/bin/sh",)))
    return (*init, "terminal", *map(str, size), "--", *command)


def exec_argv(programs: str, mark: str, command: Sequence[str]) -> list[str]:
    """The command line of a process without a terminal that counts as activity while it runs.

    Args:
        programs: the folder of the programs in the container.
        mark: a plain word that identifies it, used as a file name in ``x/`` of the run folder.
        command: the command and its arguments; empty for a shell.
    """
    words = command or ("/bin/sh",)
    return ["/bin/sh", f"{programs}/exec.sh", "counted", mark, "--", *words]


def terminal_argv(programs: str, size: tuple[int, int], command: Sequence[str]) -> list[str]:
    """The command line of a process in a terminal.

    Args:
        programs: the folder of the programs in the container.
        size: the terminal's initial rows and columns.
        command: the command and its arguments; empty for a shell.
    """
    return ["/bin/sh", f"{programs}/exec.sh", "terminal", *map(str, size), "--", *command]


def end_argv(programs: str, reason: str, detail: str) -> list[str]:
    """The command line that ends a session: SIGTERM to every process, SIGKILL after the grace.

    Args:
        programs: the folder of the programs in the container.
        reason: one word, recorded as the reason.
        detail: one line, shown to users.
    """
    return ["/bin/sh", f"{programs}/clock.sh", "end", reason, detail]
