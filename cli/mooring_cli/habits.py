"""What fingers know from docker and kubectl: taken where it changes nothing, else pointed on."""

from __future__ import annotations

from typing import Annotated

import typer

_MOUNTS = (
    "--input PATH mounts it read-only, under /mnt/inputs; --output PATH writable, under "
    "/mnt/outputs"
)
_TERMINAL = "leave it out: at a terminal it is a terminal, and standard input is passed on"
# By option; a command's own comes before everybody's, which is under ""
_POINTERS = {
    "": {
        "-v": _MOUNTS,
        "--volume": _MOUNTS,
        "--mount": _MOUNTS,
        "--publish": "-p [HERE:]THERE opens a port of the session",
        "--workdir": "it is the current folder; `mooring exec -w` has another one",
        "-w": "it is the current folder; `mooring exec -w` has another one",
        "-i": _TERMINAL,
        "--interactive": _TERMINAL,
        "-t": _TERMINAL,
        "--tty": _TERMINAL,
    },
    "logs": {"-n": "the last lines: --tail N"},
}
_RUN = "see: mooring run --help; a command to run is one argument: --exec 'COMMAND …'"

# For `exec` and `run`, whose standard input is passed on anyway; a parameter of this type says
# nothing
Interactive = Annotated[
    bool,
    typer.Option("-i", "--interactive", hidden=True, help="As it is; taken for docker's sake."),
]


def pointer(command: str, option: str) -> str:
    """What to use instead of an option that a command does not have; empty if nothing is known.

    Args:
        command: its last word: ``logs``.
        option: as it was typed: ``-n``, ``--volume``.
    """
    known = _POINTERS.get(command, {}).get(option) or _POINTERS[""].get(option, "")
    return known or (_RUN if command == "run" and option else "")
