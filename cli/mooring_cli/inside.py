"""exec, logs: what goes on inside a session."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from typing import Annotated

import typer

from mooring.errors import MooringError
from mooring_cli import options as opt
from mooring_cli.attaching import attach_to, in_new_terminal, told_why
from mooring_cli.habits import Interactive
from mooring_cli.joining import forwarding, join
from mooring_cli.later import Rank
from mooring_cli.output import explain


def exec_(
    name: opt.Name,
    command: Annotated[list[str] | None, typer.Argument(help="The command, after --.")] = None,
    workdir: Annotated[str | None, typer.Option("--workdir", "-w", help="Where to run it.")] = None,
    env: opt.Env = None,
    tty: Annotated[
        bool | None,
        typer.Option("--tty/--no-tty", "-t/-T", help="A terminal; default: if here is one."),
    ] = None,
    interactive: Interactive = False,
    no_stdin: Annotated[
        bool, typer.Option("--no-stdin", "-n", help="Leave standard input alone.")
    ] = False,
    again: Annotated[
        str,
        typer.Option(
            metavar="LABEL",
            hidden=True,
            help="Take up a terminal opened with the same label that nobody is attached to.",
        ),
    ] = "",
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
    rank: Rank = None,
) -> None:
    """Run a command or a new shell in a session.

    Options come before NAME. Standard input is passed on and its end too, and Ctrl-C; the exit
    code is the command's. Leaving it leaves the session running. At a terminal it is a terminal of
    the session, which outlives this one: mooring terminals, mooring attach.
    """
    if command and command[0].startswith("-") and command[0] != "--":
        raise typer.BadParameter(f"{command[0]} stands after NAME; options come before it")
    try:
        code = _exec(
            name, opt.after_dashes(command), workdir, env, tty, no_stdin, detach_keys, again
        )
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
    label: str,
) -> int:
    from mooring.service import Mooring
    from mooring.terminals.pump import is_interactive

    opt.check_keys(detach_keys)
    variables = dict(opt.variable(text) for text in env or [])
    mooring = Mooring()
    session = mooring.running(name)
    if is_interactive() if tty is None else tty:
        from mooring.terminals.listing import unattached

        known = unattached(mooring.terminals(session), label) if label else ""
        if known:
            return attach_to(mooring, session, known, detach_keys)
        return in_new_terminal(
            mooring,
            session,
            command,
            detach_keys,
            workdir=workdir,
            variables=variables,
            no_stdin=no_stdin,
            label=label,
        )
    mark, began = secrets.token_hex(4), time.time()
    try:
        stream = mooring.exec(
            session,
            command,
            tty=False,
            stdin=not no_stdin,
            env=variables,
            workdir=workdir,
            mark=mark,
        )
    except KeyboardInterrupt:
        mooring.signal(session, "INT", mark)
        raise
    try:
        with forwarding(mooring, session, stream, mark):
            code = join(stream, stdin=None if no_stdin else 0, detach_keys="")
    except BrokenPipeError:  # as `mooring exec NAME -- yes | head -1` does
        return 128 + signal.SIGPIPE
    return told_why(mooring, session, code or 0, began)


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
        from mooring.sessions.record import Folder
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
    app.command()(logs)
