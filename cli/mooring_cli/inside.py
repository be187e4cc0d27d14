"""attach, exec, logs: what goes on inside a session."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mooring.errors import MooringError, SessionNotFound
from mooring_cli import options as opt
from mooring_cli.lifecycle import DETACH_KEYS, DetachKeys
from mooring_cli.output import explain, note


def exec_(
    name: opt.Name,
    command: Annotated[list[str] | None, typer.Argument(help="The command, after --.")] = None,
    workdir: Annotated[str | None, typer.Option("--workdir", "-w", help="Where to run it.")] = None,
    env: opt.Env = None,
    tty: Annotated[
        bool | None,
        typer.Option("--tty/--no-tty", "-t/-T", help="A terminal; default: if here is one."),
    ] = None,
    no_stdin: Annotated[
        bool, typer.Option("--no-stdin", "-n", help="Leave standard input alone.")
    ] = False,
    detach_keys: DetachKeys = DETACH_KEYS,
) -> None:
    """Run a command in a session, or open a new terminal in it.

    Standard input is passed on and its end too; the exit code is the command's. Leaving it leaves
    the session running.
    """
    try:
        code = _exec(name, opt.after_dashes(command), workdir, env, tty, no_stdin, detach_keys)
    except MooringError as error:
        explain(error)
        code = opt.FAILED
    sys.exit(code)


def _exec(
    name: str,
    command: list[str],
    workdir: str | None,
    env: list[str] | None,
    tty: bool | None,
    no_stdin: bool,
    detach_keys: str,
) -> int:
    from mooring.service import Mooring
    from mooring.terminals import connect, exit_code, is_interactive, terminal_size

    mooring = Mooring()
    session = mooring.running(name)
    terminal = is_interactive() if tty is None else tty
    variables = dict(opt._variable(text) for text in env or [])
    if terminal:
        variables.setdefault("TERM", os.environ.get("TERM", "xterm-256color"))
    stream = mooring.exec(
        session,
        command,
        tty=terminal,
        stdin=not no_stdin,
        size=terminal_size() if terminal else None,
        env=variables,
        workdir=workdir,
        detach_keys=detach_keys if terminal else "",
    )
    connect(stream, stdin=None if no_stdin else 0, size=terminal_size if terminal else None)
    code = exit_code(stream)
    if code is None:
        note(f"left it running in {session.name}")
        return 0
    return code


def attach(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A session; without: your only running one.", autocompletion=opt.complete_names
        ),
    ] = None,
    detach_keys: DetachKeys = DETACH_KEYS,
) -> None:
    """Attach to a session's main process: its terminal, as you left it.

    The exit code is the main process's if it ends meanwhile.
    """
    try:
        code = _attach(name, detach_keys)
    except MooringError as error:
        explain(error)
        code = opt.FAILED
    sys.exit(code)


def _attach(name: str | None, detach_keys: str) -> int:
    from mooring.service import Mooring
    from mooring.session import State
    from mooring.terminals import connect, exit_code, terminal_size

    mooring = Mooring()
    if name is None:
        live = [session for session in mooring.list() if session.state is State.RUNNING]
        if len(live) != 1:
            names = ", ".join(session.name for session in live)
            raise SessionNotFound(
                f"{len(live)} sessions are running: {names}" if live else "no session is running",
                "name one: mooring attach NAME" if live else "make one: mooring create",
            )
        name = live[0].name
    session = mooring.running(name)
    stream = mooring.attach(session, detach_keys=detach_keys)
    if stream is None:
        note(f"{session.name} has kernels and no main terminal; this is a new shell in it")
        return _exec(name, [], None, None, None, False, detach_keys)
    if stream.tty:
        rows, columns = terminal_size()
        stream.resize(rows, max(1, columns - 1))  # a change of size makes programs draw anew
        note(f"session {session.name}; leave it running with {detach_keys}")
    connect(stream, size=terminal_size if stream.tty else None)
    code = exit_code(stream, patience_s=0.5)
    if code is None:
        note(f"left {session.name} running; come back with: mooring attach {session.name}")
        return 0
    mooring.list()
    return code


def logs(
    name: opt.Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it prints.")] = False,
    tail: Annotated[int | None, typer.Option(min=1, help="Only so many last lines.")] = None,
) -> None:
    """Print what a session's main process printed."""
    from mooring.service import Mooring

    mooring = Mooring()
    session = mooring.get(name)
    for chunk in mooring.logs(session, follow=follow, tail=tail):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command("exec", context_settings={"allow_interspersed_args": False})(exec_)
    app.command()(attach)
    app.command()(logs)
