"""rm: delete sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mooring_cli import options as opt
from mooring_cli.output import note
from mooring_cli.selection import PARALLEL, apply, is_alive, select

if TYPE_CHECKING:
    from mooring import Session


def rm(
    names: opt.SomeNames = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Include running sessions.")] = False,
) -> None:
    """Delete sessions. Output folders and history are kept.

    Containers, private homes and keys are deleted. --all selects all ended sessions, and
    --all --force every session.
    """
    from mooring import Mooring, PolicyError

    mooring = Mooring()

    def act(session: Session) -> None:
        if session.foreign:
            raise PolicyError(
                f"session {session.name} belongs to {session.owner}; only they can remove it",
                f"to end what runs in it: mooring stop --force {session.name}",
            )
        files = mooring.records.home_files(session)
        mooring.sessions.remove(session, force=force)
        if files:
            note(f"{session.name}: {files.deletion_note}")

    selection = select(
        mooring,
        names,
        everything,
        yes=yes,
        verb="remove",
        fits=lambda session: force or not is_alive(session),
        otherwise="stop them first: mooring stop --all; or include them: mooring rm --all --force",
        others=True,
    )
    apply(selection, act, parallel=PARALLEL)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(rm)
