"""update: change the deadlines and the limits of sessions."""

from __future__ import annotations

import typer

from mooring import SpecError
from mooring_cli import options as opt
from mooring_cli import spec_flags
from mooring_cli.selection import apply, is_running, select


def update(
    names: opt.SomeNames = None,
    idle_timeout: opt.IdleTimeout = None,
    max_duration: opt.MaxDuration = None,
    cpus: spec_flags.Cpus = None,
    memory: spec_flags.Memory = None,
    pids_limit: spec_flags.PidsLimit = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
) -> None:
    """Change the deadlines and the limits of sessions.

    All of it changes at once, and limits stay when a session is started again; one that is stopped
    can be given other limits too. A deadline that has already passed is refused, and so is less
    memory than the session uses.
    """
    from mooring import Mooring, ResourceLimits, flag_of, parse_limits

    idle_s = None if idle_timeout is None else opt.duration("--idle-timeout", idle_timeout)
    max_s = None if max_duration is None else opt.duration("--max-duration", max_duration)
    limits = parse_limits({"cpus": cpus, "memory": memory, "pids_limit": pids_limit}, flag_of)
    if idle_s is None and max_s is None and limits == ResourceLimits():
        raise SpecError("nothing to update", "use --idle-timeout 1h, --memory 8GiB or the like")
    mooring = Mooring()
    apply(
        select(mooring, names, everything, yes=yes, verb="update", fits=is_running),
        lambda session: mooring.sessions.update(
            session, idle_timeout_s=idle_s, max_duration_s=max_s, limits=limits
        ),
    )


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(update)
