"""Options and commands of other systems: ignored if without effect, otherwise with a hint."""

from __future__ import annotations

from typing import Annotated

import typer

_MOUNTS = (
    "--input PATH mounts a path read-only under /mnt/inputs, --output PATH writable under "
    "/mnt/outputs"
)
_WORKDIR = "the working directory is the current folder; for another one: mooring exec -w PATH"
_TERMINAL = "omit it: standard input is always passed on, and at a terminal you get a terminal"
# By command, then by option; "" applies to all commands, after the command's own entry
_POINTERS = {
    "": {
        "-v": _MOUNTS,
        "--volume": _MOUNTS,
        "--mount": _MOUNTS,
        "--publish": "use -p [HERE:]THERE to open a port of the session",
        "--workdir": _WORKDIR,
        "-w": _WORKDIR,
        "-i": _TERMINAL,
        "--interactive": _TERMINAL,
        "-t": _TERMINAL,
        "--tty": _TERMINAL,
    },
    "logs": {"-n": "for the last lines use --tail N"},
    "rm": dict.fromkeys(
        ("-r", "-R", "--recursive"), "rm always removes the whole session; leave out -r"
    ),
}
#: What people type who come from elsewhere, and what it runs; the command's own help names it.
ALIASES = {
    **dict.fromkeys(("ls", "list", "status"), "ps"),
    **dict.fromkeys(("shell", "ssh"), "exec"),
    "connect": "attach",
    "inspect": "describe",
    "kernels": "kernel list",
}
#: Commands of other systems, and what does the same in mooring.
OTHERS = {
    "sessions": "ps",
    **dict.fromkeys(("new", "up", "launch", "submit"), "create"),
    **dict.fromkeys(("sh", "bash", "enter"), "exec NAME"),
    **dict.fromkeys(("delete", "del", "remove"), "rm"),
    **dict.fromkeys(("kill", "cancel", "down"), "stop"),
    **dict.fromkeys(("show", "info"), "describe"),
    "history": "events",
    "log": "logs",
    "restart": "stop NAME, and mooring start NAME",
    "stats": "top",
    "copy": "cp",
    "notebook": "kernel install",
    "install": "kernel install",
    "version": "--version",
    "help": "--help",
}
_RUN = "see: mooring run --help; the command to run comes after --: mooring run IMAGE -- COMMAND"


def command(name: str) -> str:
    """Return a hint for a command that mooring does not have; empty if none is known."""
    own = OTHERS.get(name)
    return f"use: mooring {own}" if own else ""


# For `exec` and `run`, which always forward standard input; a parameter of this type is ignored
Interactive = Annotated[
    bool,
    typer.Option(
        "-i", "--interactive", hidden=True, help="Ignored; accepted for compatibility with docker."
    ),
]


def pointer(command: str, option: str) -> str:
    """Return a hint for an option that a command does not have; empty if none is known.

    Args:
        command: the command's last word, such as ``logs``.
        option: the option as typed, such as ``-n`` or ``--volume``.
    """
    hint = _POINTERS.get(command, {}).get(option) or _POINTERS[""].get(option, "")
    return hint or (_RUN if command == "run" and option else "")
