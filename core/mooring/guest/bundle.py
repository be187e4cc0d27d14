"""The programs that mooring puts into a session's /run/mooring, and their command lines.

A session keeps the programs of the version that created it, and its container their command line.
A session of an earlier version therefore starts as before, and its programs are called with that
version's arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from mooring.guest.channel import Guest
from mooring.guest.paths import GUEST_RUN

INIT = f"{GUEST_RUN}/init.sh"
EXEC = f"{GUEST_RUN}/exec.sh"
CLOCK = f"{GUEST_RUN}/clock.sh"
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
    "recorder.py",
)


def write_programs(guest: Guest) -> None:
    """Write all programs to a session's run folder, before its container is created."""
    from importlib import resources

    programs = resources.files("mooring") / "guest"
    for name in PROGRAMS:
        guest.write(name, (programs / name).read_text())


def main_argv(command: Sequence[str] | None, size: tuple[int, int] | None) -> tuple[str, ...]:
    """The command line of a container's main process.

    Args:
        command: the session's command; empty for a shell, None for the clock only.
        size: the initial rows and columns of its terminal; None without a terminal.
    """
    if command is None:
        return ("/bin/sh", INIT, "clock")
    if size is None:
        return ("/bin/sh", INIT, "command", "--", *(command or ("/bin/sh",)))
    return ("/bin/sh", INIT, "terminal", *map(str, size), "--", *command)


def exec_argv(guest: Guest, mark: str, command: Sequence[str]) -> list[str]:
    """The command line of a process without a terminal that counts as activity while it runs.

    Args:
        guest: the session's run folder.
        mark: a plain word that identifies it, used as a file name in ``x/`` there.
        command: the command and its arguments; empty for a shell.
    """
    program = (CLOCK, "exec") if _is_earlier(guest) else (EXEC, "counted")
    return ["/bin/sh", *program, mark, "--", *(command or ("/bin/sh",))]


def terminal_argv(guest: Guest, size: tuple[int, int], command: Sequence[str]) -> list[str]:
    """The command line of a process in a terminal.

    Args:
        guest: the session's run folder.
        size: the terminal's initial rows and columns.
        command: the command and its arguments; empty for a shell.
    """
    program = (CLOCK, "shell") if _is_earlier(guest) else (EXEC, "terminal")
    return ["/bin/sh", *program, *map(str, size), "--", *command]


def end_argv(reason: str, detail: str) -> list[str]:
    """The command line that ends a session: SIGTERM to every process, SIGKILL after the grace.

    Args:
        reason: one word, recorded as the reason.
        detail: one line, shown to users.
    """
    return ["/bin/sh", CLOCK, "end", reason, detail]


def _is_earlier(guest: Guest) -> bool:
    """Whether an earlier version created it, whose clock.sh also ran the main process and execs."""
    return not guest.exists("exec.sh")
