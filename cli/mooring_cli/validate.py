"""validate: check a spec file, and what create would do with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mooring import SpecError, quoted
from mooring_cli.output import clean, note
from mooring_cli.spec_flags import resolve_spec

DEFAULT = Path("session.yml")


def validate(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help=f"Spec files. Default: {DEFAULT}."),
    ] = None,
) -> None:
    """Check spec files.

    Each mistake is printed with its place: in the files, and against this machine and the
    administrator's policy. The engine is not asked; for that, see mooring create --dry-run.
    """
    from mooring import Mooring, MooringError
    from mooring_cli.output import print_error

    if not files and not DEFAULT.exists():
        raise SpecError(f"there is no {DEFAULT} here", "to write one: mooring init")
    code = 0
    for file in files or [DEFAULT]:
        try:
            plan = Mooring().sessions.plan(resolve_spec(file, {}))
        except MooringError as error:
            print_error(error)
            code = max(code, error.exit_code)
            continue
        print(f"{clean(str(file))}: no mistakes")
        for grant in plan.needs_trust:
            note(f"it needs your trust for {grant.key}: {grant.what}")
        if plan.needs_trust:
            note(f"to give it: mooring trust {quoted(file)}")
    raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(validate)
