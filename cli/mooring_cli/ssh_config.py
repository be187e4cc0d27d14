"""ssh-config: write what ssh needs to know of the sessions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mooring import SpecError
from mooring_cli import options as opt
from mooring_cli.output import clean, note

if TYPE_CHECKING:
    from mooring import SshConfigFile

# Not `python -m`, which imports from the current folder first: a session can write to that
_MOORING = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from mooring_cli.__main__ import main; main()"
)


def ssh_config(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names, starts of ids, or patterns. Default: all sessions.",
            autocompletion=opt.complete_names,
        ),
    ] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the entries; write no file.")
    ] = False,
    install: Annotated[
        bool,
        typer.Option("--install", help="Also add the line that includes them to ~/.ssh/config."),
    ] = False,
    via: Annotated[
        str,
        typer.Option(
            metavar="[USER@]HOST",
            help="Print entries for another machine, from which ssh reaches this one by that name.",
        ),
    ] = "",
    prefix: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Put this before each name, if sessions and hosts share names."
        ),
    ] = "",
) -> None:
    """Write Host entries for ssh, so that ssh NAME enters a session.

    So do scp, sftp, rsync, sshfs, VS Code's Remote-SSH and PyCharm. The entries are written to a
    file in mooring's state folder, which the first line of ~/.ssh/config has to include. Run it
    again after you created or removed a session. No port is opened: ssh runs mooring ssh-proxy.
    """
    from mooring import Mooring, SshConfigFile

    if install and (only_print or via):
        raise SpecError("--install does not go with --print or --via", "leave one of them out")
    mooring = Mooring()
    command = [sys.executable, "-c", _MOORING]
    file = SshConfigFile(mooring.installation, command, via=via, prefix=prefix)
    found = mooring.sessions.find(names) if names else mooring.sessions.list()
    sessions = sorted({session.name for session in found})
    if only_print or via:
        print(file.text(sessions), end="", flush=True)
        return
    _write(file, sessions, install=install)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("ssh-config")(ssh_config)


def _write(file: SshConfigFile, sessions: list[str], *, install: bool) -> None:
    """Write the entries of sessions, and tell what was written and what is left to do."""
    changed = file.write(sessions)
    if install and not file.is_included:
        file.include()
        note("~/.ssh/config includes the entries now")
    for host in file.hidden(sessions):
        note(f"host {clean(host)} of your ~/.ssh/config is hidden by a session; see --prefix")
    for host in file.hosts(sessions):
        print(f"ssh {clean(host)}")
    if not sessions:
        note("there are no sessions: run this again after mooring create")
    note(f"{'wrote' if changed else 'unchanged:'} {clean(str(file.path))}")
    if not file.is_included:
        note("put this line at the top of ~/.ssh/config, or use --install:")
        print(clean(file.include_line), flush=True)
