"""logs: print the output of a session's main process, or of its kernels."""

from __future__ import annotations

from typing import Annotated

import typer

from mooring_cli import options as opt
from mooring_cli.output import note, print_chunks


def logs(
    name: opt.Name,
    kernel_id: Annotated[
        str | None,
        typer.Argument(metavar="[KERNEL]", help="With --kernel: the start of a kernel's id."),
    ] = None,
    kernel: Annotated[
        bool,
        typer.Option(
            "--kernel",
            "-k",
            help="Print the output of its kernels, whether a client has seen it or not.",
        ),
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow new output.")] = False,
    tail: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show the last N lines.")
    ] = None,
) -> None:
    """Print the output of a session's main process or kernels.

    A session that is only for kernels has no main process: its kernels' output is printed.
    """
    from mooring import Mooring, SessionStateError

    if kernel_id and not kernel:
        raise typer.BadParameter("a kernel's id requires --kernel")
    if kernel and tail:
        raise typer.BadParameter("--tail and --kernel cannot be combined")
    mooring = Mooring()
    session = mooring.sessions.get(name)
    if not kernel and not session.container:
        raise SessionStateError(
            f"session {session.name} has no container, and so no output",
            f"see what happened: mooring events {session.name}",
        )
    if session.only_kernels and tail:
        raise SessionStateError(
            f"session {session.name} has no main process, whose output --tail is for",
            f"for what its kernels printed: mooring logs --kernel {session.name}",
        )
    if kernel or session.only_kernels:
        from mooring_cli.kernel_logs import print_kernels

        if session.declared.get("record") == 0:
            note("what its kernels print is not kept: record is off")
        print_kernels(mooring, session.id, kernel_id or "", follow=follow)
        return
    print_chunks(mooring.sessions.logs(session, follow=follow, tail=tail))


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(logs)
