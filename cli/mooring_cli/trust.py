"""trust: allow a spec file to use paths outside its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mooring_cli.output import one_line


def trust(file: Annotated[Path, typer.Argument(help="The spec file.")]) -> None:
    """Trust a spec file to use paths outside its folder.

    Trust covers the file as it is now, in this folder; after a change, and for a copy in another
    folder, you are asked again.
    """
    from mooring import Mooring, resolve

    resolved = resolve(flags={}, file=file)
    # the policy is not asked: flags may still change the spec
    plan = Mooring().sessions.plan(resolved, resolved.project, check_policy=False).with_trust()
    for grant in plan.grants:
        print(one_line(f"trusted: {grant.key}: {grant.what}"))
    if not plan.grants:
        print("the file uses nothing outside its own folder")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(trust)
