"""Arguments and options that several commands share, and their shell completion."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mooring import SpecError

if TYPE_CHECKING:
    from mooring import Mooring

DETACH_KEYS = "ctrl-p,ctrl-q"


# How long a completion waits for the engine, in seconds
ENGINE_TIMEOUT_S = 1.0


# Completion of sessions reads records on the host and does not call the engine. All exceptions are
# suppressed: a traceback would be printed into the prompt.


def complete_names(incomplete: str) -> list[str]:
    """Return shell completions for names of sessions."""
    try:
        from mooring import Mooring

        names = Mooring().records.names()
    except Exception:
        return []
    return sorted(name for name in names if name.startswith(incomplete))


def complete_images(incomplete: str) -> list[str]:
    """Return shell completions for images: ``host``, those of sessions and those of the engine.

    Images that mooring made for itself are left out.
    """
    images = {"host"}
    with contextlib.suppress(Exception):
        from mooring import Mooring

        mooring = Mooring()
        images.update(mooring.records.images())
        asking = threading.Thread(target=_add_images, args=(mooring, images), daemon=True)
        asking.start()
        asking.join(ENGINE_TIMEOUT_S)
    return sorted(image for image in images if image.startswith(incomplete))


def _add_images(mooring: Mooring, images: set[str]) -> None:
    from mooring import SupportsImageNames

    with contextlib.suppress(Exception):
        if isinstance(mooring.engine, SupportsImageNames):
            names = mooring.engine.image_names()
            images.update(name for name in names if not name.startswith("mooring/"))


Name = Annotated[
    str,
    typer.Argument(help="A session's name, or the start of its id.", autocompletion=complete_names),
]
Names = Annotated[
    list[str],
    typer.Argument(
        help="Names, starts of ids, or patterns such as 'bert-*'.", autocompletion=complete_names
    ),
]
# For commands that also have --all
SomeNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAMES]...",
        help="Names, starts of ids, or patterns such as 'bert-*'.",
        autocompletion=complete_names,
    ),
]
Everything = Annotated[
    bool,
    typer.Option("--all", "-a", help="Select every session it applies to; asks for confirmation."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
File = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", metavar="PATH", help="The spec: session.yml, or an Azure ML job.yml."
    ),
]

# For commands that create sessions or attach to them
NewName = Annotated[
    str | None, typer.Option("--name", help="The session's name. Default: generated.")
]
Detach = Annotated[
    bool, typer.Option("--detach", "-d", help="Run in the background and print the name.")
]
Remove = Annotated[bool, typer.Option("--rm", help="Remove the session when its command ends.")]
Tty = Annotated[
    bool | None,
    typer.Option(
        "--tty/--no-tty",
        "-t/-T",
        help="Allocate a terminal. Default: if stdin and stdout are terminals, without -n.",
    ),
]
NoStdin = Annotated[
    bool,
    typer.Option("--no-stdin", "-n", help="Do not forward standard input; for `while read` loops."),
]
Enqueue = Annotated[
    bool,
    typer.Option(
        "--enqueue-only",
        help="Return at once; a queued session starts by itself when its turn comes. With "
        "--max-wait: wait that long, then leave it in the queue.",
    ),
]
MaxWait = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Give up with exit code 3 if the session does not run after this long: 60s, 10m.",
    ),
]
DetachKeys = Annotated[str, typer.Option(help="Key sequence for detaching.")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", help="NAME=VALUE, or NAME to copy it from here; repeatable."),
]
IdleTimeout = Annotated[
    str | None, typer.Option(help="Stop after this long without activity: 30m; off for never.")
]
MaxDuration = Annotated[
    str | None,
    typer.Option(help="Stop after this long, active or not: 8h, 90m; off for never."),
]


def after_dashes(command: list[str] | None) -> list[str]:
    """Remove the ``--`` that separates a command from mooring's own arguments."""
    return command[1:] if command and command[0] == "--" else list(command or [])


def check_keys(names: str) -> None:
    """Check detach keys.

    Raises:
        SpecError: they are not a valid key sequence.
    """
    from mooring import key_codes

    try:
        key_codes(names)
    except ValueError as error:
        raise SpecError(f"flag --detach-keys: {error}") from None


def variable(text: str) -> tuple[str, str]:
    """Parse ``NAME=VALUE``, or ``NAME`` for a variable of this process's environment.

    Returns:
        The name and the value.

    Raises:
        SpecError: the variable is not set in this process's environment.
    """
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        raise SpecError(
            f"flag --env: {name} is not set in the environment", f"use --env {name}=VALUE"
        )
    return name, os.environ[name]


def duration(flag: str, text: str) -> float:
    """Parse a duration.

    Args:
        flag: the flag's name for the error message, such as ``--idle-timeout``.
        text: the flag's value.

    Returns:
        The duration in seconds; 0 for ``off``.

    Raises:
        SpecError: the text is not a duration.
    """
    from mooring import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise SpecError(f"{flag}: {text!r} {error}") from None
