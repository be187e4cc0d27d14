"""code: open a session in VS Code."""

from __future__ import annotations

import posixpath
import shutil
import subprocess
from typing import Annotated

import typer

from mooring import MooringError
from mooring_cli import options as opt
from mooring_cli.output import clean, note


def code(
    name: opt.Name,
    folder: Annotated[
        str | None,
        typer.Option(
            "--folder",
            help="The folder to open, a path in the session. Default: the project's folder.",
        ),
    ] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the address without opening it.")
    ] = False,
) -> None:
    """Open a session in VS Code.

    This needs its Dev Containers extension. The address is printed too, for a VS Code that is not
    on this machine's PATH.
    """
    from mooring import Mooring
    from mooring_cli.vscode import attach_address

    mooring = Mooring()
    session = mooring.sessions.get_running(name)
    path = mooring.records.project_folder(session) if folder is None else folder
    if not posixpath.isabs(path):
        raise typer.BadParameter(f"--folder {path}: must be an absolute path in the session")
    address = attach_address(session, path, engine=mooring.engine_address)
    print(clean(address), flush=True)
    if only_print:
        return
    program = shutil.which("code")
    if program is None:
        note("no program named code is on the PATH; on the machine that has VS Code, run:")
        note("code --folder-uri ADDRESS")
        return
    done = subprocess.run([program, "--folder-uri", address], check=False)
    if done.returncode:
        raise MooringError(
            f"{program} failed with exit code {done.returncode}",
            "check that the Dev Containers extension is installed in VS Code",
        )


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(code)
