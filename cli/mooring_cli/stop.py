"""stop: stop sessions and keep their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mooring_cli import options as opt
from mooring_cli.output import note
from mooring_cli.selection import PARALLEL, apply, is_alive, select

if TYPE_CHECKING:
    from mooring import Session


def stop(
    names: opt.SomeNames = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Include another user's session.")
    ] = False,
) -> None:
    """Stop sessions and keep their files.

    Their processes end and their GPUs are released; `mooring start` starts them again. A session
    that is queued or starting is cancelled and removed.
    """
    from mooring import Mooring

    mooring = Mooring()

    def act(session: Session) -> None:
        if session.foreign and force:
            note(f"{session.name} belongs to {session.owner}, who loses what runs in it")
        mooring.sessions.stop(session, force=force)

    selection = select(mooring, names, everything, yes=yes, verb="stop", fits=is_alive, others=True)
    apply(selection, act, parallel=PARALLEL)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(stop)
