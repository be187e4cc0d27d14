"""update: change the deadlines of running sessions."""

from __future__ import annotations

import typer

from mooring import SpecError
from mooring_cli import options as opt
from mooring_cli.selection import apply, is_running, select


def update(
    names: opt.SomeNames = None,
    idle_timeout: opt.IdleTimeout = None,
    max_duration: opt.MaxDuration = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
) -> None:
    """Change the deadlines of running sessions.

    The idle timeout and the maximum duration change at once. A deadline that has already passed is
    refused.
    """
    from mooring import Mooring

    if idle_timeout is None and max_duration is None:
        raise SpecError("nothing to update", "use --idle-timeout 1h or --max-duration 12h")
    idle_s = None if idle_timeout is None else opt.duration("--idle-timeout", idle_timeout)
    max_s = None if max_duration is None else opt.duration("--max-duration", max_duration)
    mooring = Mooring()
    apply(
        select(mooring, names, everything, yes=yes, verb="update", fits=is_running),
        lambda session: mooring.sessions.update(
            session, idle_timeout_s=idle_s, max_duration_s=max_s
        ),
    )


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(update)
