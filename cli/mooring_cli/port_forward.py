"""port-forward: forward ports of the host to a session."""

from __future__ import annotations

import resource
from typing import Annotated

import typer

from mooring_cli import options as opt
from mooring_cli.output import note

OPEN_FILES = 8192


def port_forward(
    name: opt.Name,
    ports: Annotated[
        list[str],
        typer.Argument(
            metavar="[LOCAL:]REMOTE...", help="6006, 8080:80, or 0:80 for any free local port."
        ),
    ],
) -> None:
    """Open ports of a session on this machine, until Ctrl-C.

    They listen on 127.0.0.1. LOCAL defaults to REMOTE; 0 means any free port. Only you can connect;
    other users of this machine are refused. The session needs no network. Forwarding does not count
    as activity: an idle session still stops, and this command ends with it.
    """
    from mooring import Mooring, parse_port

    _allow_open_files()
    pairs = [parse_port(text) for text in ports]
    mooring = Mooring()
    session = mooring.sessions.get_running(name)
    forwarder = mooring.ports.forwarder(session, pairs, note)
    try:
        for here, there in forwarder.open():
            print(f"http://127.0.0.1:{here} -> {session.name}:{there}", flush=True)
        note(forwarder.serve())
    finally:
        forwarder.close()
    raise typer.Exit(1)


def _allow_open_files() -> None:
    """Raise the limit of open files, of which each connection takes some."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    if limit != resource.RLIM_INFINITY and limit < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("port-forward")(port_forward)
