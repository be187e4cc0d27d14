"""exec: run a command in a session."""

from __future__ import annotations

import secrets
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mooring import MooringError
from mooring_cli import options as opt
from mooring_cli.attach import attach_to, note_if_killed, open_terminal
from mooring_cli.option_hints import Interactive
from mooring_cli.output import FAILED, print_error
from mooring_cli.terminal_io import forwarding, join
from mooring_cli.unsupported import Rank

if TYPE_CHECKING:
    from mooring import Mooring, Session

# Used by the server extension, to reopen a terminal page
Again = Annotated[
    str,
    typer.Option(
        metavar="LABEL",
        hidden=True,
        help="Attach to a terminal that was opened with this label and has no client.",
    ),
]


def exec_(
    name: opt.Name,
    command: Annotated[list[str] | None, typer.Argument(help="The command, after --.")] = None,
    workdir: Annotated[
        str | None, typer.Option("--workdir", "-w", help="Working directory of the command.")
    ] = None,
    env: opt.Env = None,
    tty: opt.Tty = None,
    interactive: Interactive = False,
    no_stdin: opt.NoStdin = False,
    again: Again = "",
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
    rank: Rank = None,
) -> None:
    """Run a command or a new shell in a session.

    Options come before NAME. Standard input, its end and Ctrl-C are forwarded; the exit code is the
    command's. The session keeps running after the command. At a terminal, the command gets a
    terminal of the session, which outlives this one: see mooring terminals, mooring attach.
    """
    if command and command[0].startswith("-") and command[0] != "--":
        raise typer.BadParameter(f"option {command[0]} must come before NAME")
    argv = opt.after_dashes(command)
    try:
        from mooring import Mooring, is_interactive

        opt.check_keys(detach_keys)
        variables = dict(opt.variable(text) for text in env or [])
        mooring = Mooring()
        session = mooring.sessions.get_running(name)
        at_terminal = is_interactive() and not no_stdin if tty is None else tty
        terminal_id = _unattached(mooring, session, again) if at_terminal and again else ""
        if terminal_id:
            code = attach_to(mooring, session, terminal_id, detach_keys)
        elif at_terminal:
            code = open_terminal(
                mooring,
                session,
                argv,
                detach_keys,
                workdir=workdir,
                variables=variables,
                no_stdin=no_stdin,
                label=again,
            )
        else:
            code = _exec_piped(
                mooring, session, argv, workdir=workdir, variables=variables, no_stdin=no_stdin
            )
    except MooringError as error:
        print_error(error)
        code = FAILED
    raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("exec", context_settings={"allow_interspersed_args": False})(exec_)


def _unattached(mooring: Mooring, session: Session, label: str) -> str:
    """Return the id of a terminal with a label and without a client; empty for none."""
    from mooring import unattached

    return unattached(mooring.terminals.list(session), label)


def _exec_piped(
    mooring: Mooring,
    session: Session,
    argv: list[str],
    *,
    workdir: str | None,
    variables: dict[str, str],
    no_stdin: bool,
) -> int:
    """Run a command without a terminal, with this process's standard streams.

    Args:
        mooring: the core.
        session: a running session.
        argv: the argument list; empty for a shell.
        workdir: an absolute path in the session; None for the session's working directory.
        variables: environment variables, added to the command's environment.
        no_stdin: do not forward standard input.

    Returns:
        The command's exit code.
    """
    mark, began = secrets.token_hex(4), time.time()
    try:
        stream = mooring.sessions.exec(
            session,
            argv,
            stdin=not no_stdin,
            env=variables,
            workdir=workdir,
            mark=mark,
        )
    except KeyboardInterrupt:
        mooring.sessions.signal(session, "INT", mark)
        raise
    try:
        with forwarding(mooring, session, stream, mark):
            code = join(stream, stdin=None if no_stdin else 0, detach_keys="") or 0
    except BrokenPipeError:  # as in `mooring exec NAME -- yes | head -1`
        return 128 + signal.SIGPIPE
    note_if_killed(mooring, session, code, began)
    return code
