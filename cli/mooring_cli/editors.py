"""code: an editor's window inside a session."""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import subprocess
import urllib.parse
from typing import TYPE_CHECKING, Annotated

import typer

from mooring.errors import MooringError
from mooring_cli import options as opt
from mooring_cli.output import note

if TYPE_CHECKING:
    from mooring.sessions.model import Session

# Where the Dev Containers extension looks for itself
USUAL_ENGINE = "unix:///var/run/docker.sock"


def code(
    name: opt.Name,
    folder: Annotated[
        str | None, typer.Option("--folder", help="What to open, a path in the session.")
    ] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the address, and open nothing.")
    ] = False,
) -> None:
    """Open a session in a window of VS Code, as its Dev Containers extension attaches to it.

    The address is printed, for a VS Code that is not on this machine's PATH.
    """
    from mooring.engines.docker import local_address
    from mooring.service import Mooring

    session = Mooring().running(name)
    path = _folder_of(session) if folder is None else folder
    if not posixpath.isabs(path):
        raise typer.BadParameter(f"--folder {path}: a path in the session begins with /")
    address = attach_address(session, path, engine=local_address(os.environ))
    print(address, flush=True)
    if only_print:
        return
    program = shutil.which("code")
    if program is None:
        note("no program named code is here; on the machine that has VS Code:")
        note("code --folder-uri ADDRESS")
        return
    done = subprocess.run([program, "--folder-uri", address], check=False)
    if done.returncode:
        raise MooringError(
            f"{program} ended with exit code {done.returncode}",
            "does VS Code have the Dev Containers extension?",
        )


def attach_address(session: Session, path: str, *, engine: str) -> str:
    """What VS Code's Dev Containers extension calls a folder of a running container.

    Args:
        path: absolute, in the container.
        engine: the address of the engine that it is on, as in ``DOCKER_HOST``.

    Its form is the extension's own: https://github.com/microsoft/vscode-remote-release/issues/8764
    """
    from mooring.labels import container_name

    said: dict[str, object] = {"containerName": f"/{container_name(session.name, session.id)}"}
    if engine != USUAL_ENGINE:
        said["settings"] = {"host": engine}
    authority = json.dumps(said, separators=(",", ":")).encode().hex()
    return f"vscode-remote://attached-container+{authority}{urllib.parse.quote(path)}"


def _folder_of(session: Session) -> str:
    """Its project's folder, which has the same path inside; the home where that is not in it."""
    from mooring.host.users import caller
    from mooring.sessions.record import Folder

    record = Folder.open(session.id).record()
    project = os.path.realpath(str(record.get("project") or "/"))
    inside = [target for _, target in record.get("mounts", [])]
    return project if project in inside else caller().home


def register(app: typer.Typer) -> None:
    """Put this command on the command line."""
    app.command()(code)
