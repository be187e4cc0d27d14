"""ssh-proxy: be the SSH server of a session, for ssh's ProxyCommand."""

from __future__ import annotations

import sys

import typer

from mooring import SpecError, quoted
from mooring_cli import options as opt


def ssh_proxy(name: opt.Name) -> None:
    """Serve ssh on standard input and output, as a ProxyCommand of ssh.

    ssh itself runs this, by the entries that mooring ssh-config writes. Only the program that has
    started it can reach it, so that it asks for no key or password.
    """
    if sys.stdin.isatty() or sys.stdout.isatty():
        raise SpecError(
            "ssh-proxy speaks SSH on its standard streams, which are a terminal here",
            f"to write what ssh needs: mooring ssh-config; a shell: mooring exec {quoted(name)}",
        )
    from mooring import Mooring, ssh_host_key

    mooring = Mooring()
    key = ssh_host_key(mooring.installation)
    from mooring import serve_ssh  # after that, which tells if asyncssh is missing

    session = mooring.sessions.get_running(name)
    serve_ssh(mooring, session.name, key)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("ssh-proxy")(ssh_proxy)
