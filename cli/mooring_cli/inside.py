"""attach, exec, logs: what goes on inside a session."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mooring.errors import MooringError, SessionNotFound
from mooring_cli import options as opt
from mooring_cli.joining import forwarding, join
from mooring_cli.later import Rank
from mooring_cli.output import explain, note

if TYPE_CHECKING:
    from mooring.service import Mooring


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
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
    rank: Rank = None,
) -> None:
    """Run a command or a new shell in a session.

    Options come before NAME. Standard input is passed on and its end too, and Ctrl-C; the exit
    code is the command's. Leaving it leaves the session running.
    """
    if command and command[0].startswith("-") and command[0] != "--":
        raise typer.BadParameter(f"{command[0]} stands after NAME; options come before it")
    try:
        code = _exec(name, opt.after_dashes(command), workdir, env, tty, no_stdin, detach_keys)
    except MooringError as error:
        explain(error)
        code = opt.FAILED
    raise typer.Exit(code)


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
    from mooring.terminals import is_interactive, raw, terminal_size

    opt.check_keys(detach_keys)
    variables = dict(opt.variable(text) for text in env or [])
    terminal = is_interactive() if tty is None else tty
    if terminal:
        variables.setdefault("TERM", os.environ.get("TERM", "xterm-256color"))
    mooring = Mooring()
    session = mooring.running(name)
    mark, began = secrets.token_hex(4), time.time()
    # raw from the start: a Ctrl-C that comes while the command starts is the command's
    with raw(0) if terminal and not no_stdin else contextlib.nullcontext():
        try:
            stream = mooring.exec(
                session,
                command,
                tty=terminal,
                stdin=not no_stdin,
                size=terminal_size() if terminal else None,
                env=variables,
                workdir=workdir,
                detach_keys=detach_keys if terminal else "",
                mark=mark,
            )
        except KeyboardInterrupt:
            mooring.signal(session, "INT", mark)
            raise
        try:
            with forwarding(mooring, session, stream, mark):
                code = join(stream, stdin=None if no_stdin else 0, detach_keys=detach_keys)
        except BrokenPipeError:  # as `mooring exec NAME -- yes | head -1` does
            return 128 + signal.SIGPIPE
    if code is None:
        note(f"left it running in {session.name}")
        return 0
    if code == 128 + signal.SIGKILL and (why := mooring.why_killed(session, began)):
        note(f"killed in {session.name}: {why}")
    return code


def attach(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A session; without: your only running one.", autocompletion=opt.complete_names
        ),
    ] = None,
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
    rank: Rank = None,
) -> None:
    """Attach to a session's main process.

    It is the terminal as you left it. The exit code is the main process's if it ends meanwhile.
    """
    try:
        code = _attach(name, detach_keys)
    except MooringError as error:
        explain(error)
        code = opt.FAILED
    raise typer.Exit(code)


def _attach(name: str | None, detach_keys: str) -> int:
    from mooring.service import Mooring
    from mooring.terminals import terminal_size

    opt.check_keys(detach_keys)
    mooring = Mooring()
    session = mooring.running(name or _only_running(mooring))
    stream = mooring.attach(session, detach_keys=detach_keys)
    if stream is None:
        note(f"{session.name} has kernels and no main terminal; this is a new shell in it")
        return _exec(session.name, [], None, None, None, False, detach_keys)
    if stream.tty:
        rows, columns = terminal_size()
        stream.resize(rows, max(1, columns - 1))  # a change of size makes programs draw anew
        note(f"session {session.name}; leave it running with {detach_keys}")
    with forwarding(mooring, session, stream):
        code = join(stream, detach_keys=detach_keys)
    if code is None:
        note(f"left {session.name} running; come back with: mooring attach {session.name}")
        return 0
    mooring.sessions()  # writes the end down
    return code


def _only_running(mooring: Mooring) -> str:
    from mooring.session import State

    live = [session.name for session in mooring.sessions() if session.state is State.RUNNING]
    if not live:
        raise SessionNotFound("no session is running", "make one: mooring create")
    if len(live) > 1:
        raise SessionNotFound(
            f"{len(live)} sessions are running: {', '.join(live)}",
            f"name one, as in: mooring attach {live[0]}",
        )
    return live[0]


def logs(
    name: opt.Name,
    kernel_id: Annotated[
        str | None,
        typer.Argument(metavar="[KERNEL]", help="With --kernel: one, by the start of its id."),
    ] = None,
    kernel: Annotated[
        bool, typer.Option("--kernel", "-k", help="What its kernels printed, whoever listened.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it prints.")] = False,
    tail: Annotated[int | None, typer.Option(min=1, help="Only so many last lines.")] = None,
) -> None:
    """Print what a session's main process printed, or what its kernels did."""
    from mooring.errors import SessionStateError
    from mooring.service import Mooring

    if kernel_id and not kernel:
        raise typer.BadParameter("a kernel is named after --kernel")
    if kernel and tail:
        raise typer.BadParameter("--tail is for the main process, not for --kernel")
    mooring = Mooring()
    session = mooring.get(name)
    if kernel:
        from mooring.folder import Folder
        from mooring_cli.printed import print_kernels

        print_kernels(Folder.open(session.id), kernel_id or "", follow=follow)
        return
    if not session.container:
        raise SessionStateError(
            f"session {session.name} has no container, and so no output",
            f"what happened to it: mooring events {session.name}",
        )
    for chunk in mooring.logs(session, follow=follow, tail=tail):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command("exec", context_settings={"allow_interspersed_args": False})(exec_)
    app.command()(attach)
    app.command()(logs)
