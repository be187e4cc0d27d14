"""start: start stopped sessions again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from mooring import Wait
from mooring_cli import options as opt
from mooring_cli.progress import parse_max_wait, show_progress
from mooring_cli.selection import apply, select
from mooring_cli.terminal_io import interruptible

if TYPE_CHECKING:
    from mooring import Session


def start(
    names: opt.SomeNames = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
    max_wait: opt.MaxWait = None,
) -> None:
    """Start stopped sessions again.

    Files and installed packages are kept; the idle timeout and the maximum duration begin anew.
    A session with GPUs is queued again if none is free; Ctrl-C then leaves it stopped.
    """
    from mooring import Mooring, State

    max_wait_s = parse_max_wait(max_wait)
    mooring = Mooring()
    deadline: float | None = None

    def act(session: Session) -> None:
        nonlocal deadline
        left_s = None
        if max_wait_s is not None:
            deadline = deadline or time.monotonic() + max_wait_s  # shared by all sessions
            left_s = max(0.0, deadline - time.monotonic())
        with interruptible(), show_progress() as progress:
            mooring.sessions.start(session, wait=Wait(progress=progress, max_wait_s=left_s))

    selection = select(
        mooring,
        names,
        everything,
        yes=yes,
        verb="start",
        fits=lambda session: session.state in (State.STOPPED, State.LOST),
    )
    apply(selection, act)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(start)
