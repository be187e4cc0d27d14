"""purge: remove all that mooring keeps of the user."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mooring_cli import options as opt
from mooring_cli.output import clean, note, print_error, print_rows, size_text
from mooring_cli.selection import PARALLEL, Selection, apply, is_alive

if TYPE_CHECKING:
    from mooring import InstalledKernelspec, Mooring, Session, StateFiles

# What other users of the machine or the engine may need
_SHARED = "what users share stays: images, the network mooring, the folder of the GPU queue"


def purge(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Include running sessions.")] = False,
    yes: opt.Yes = False,
) -> None:
    """Remove all that mooring keeps of you.

    That is your sessions with their homes, kernelspecs, history, what you trusted, and keys. Your
    configuration and profiles stay, and so do the files in your own folders, such as outputs. It
    prints what it would remove, and asks. Then `pip uninstall mooring` removes the rest.
    """
    from mooring import Mooring, SpecError, installed_kernelspecs

    mooring = Mooring()
    sessions = _sessions(mooring)
    specs = [spec for spec in installed_kernelspecs() if spec.is_users_own]
    state = mooring.records.state_files()
    _print_all(mooring, sessions, specs, state)
    if dry_run:
        return
    if not force and (alive := [one.name for one in sessions if is_alive(one)]):
        raise SpecError(
            f"sessions are running: {clean(', '.join(alive))}",
            "stop them first: mooring stop --all; or include them: mooring purge --force",
        )
    _confirm(yes)
    _remove(mooring, sessions)
    failed = _remove_kernelspecs(specs)
    mooring.records.remove_state()
    _print_rest(state)
    if failed:
        raise typer.Exit(1)


def _sessions(mooring: Mooring) -> list[Session]:
    """The user's sessions; without the engine, only if there are none."""
    from mooring import EngineUnavailable

    try:
        return mooring.sessions.list()
    except EngineUnavailable:
        if mooring.records.names():
            raise
        return []


def _print_all(
    mooring: Mooring,
    sessions: list[Session],
    specs: list[InstalledKernelspec],
    state: StateFiles,
) -> None:
    rows = []
    for session in sessions:
        files = mooring.records.home_files(session)
        rows.append(["session", session.name, f"{session.state}{f', {files}' if files else ''}"])
    rows += [["kernelspec", spec.name, spec.path] for spec in specs]
    rows.append(["files", str(state.folder), size_text(state.size_bytes)])
    print_rows(["WHAT", "NAME", "DETAILS"], [[clean(cell) for cell in row] for row in rows])
    sys.stdout.flush()


def _confirm(yes: bool) -> None:
    from mooring import SpecError

    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SpecError("purge asks for confirmation, and there is no terminal", "use --yes")
    if not typer.confirm("remove all of this?", err=True):
        raise typer.Exit(1)


def _remove(mooring: Mooring, sessions: list[Session]) -> None:
    apply(
        Selection(tuple(sessions)),
        lambda session: mooring.sessions.remove(session, force=True),
        parallel=PARALLEL,
    )


def _remove_kernelspecs(specs: list[InstalledKernelspec]) -> bool:
    """Remove kernelspecs; after an error the others too. Returns whether one has failed."""
    from mooring import MooringError, remove_kernelspec

    failed = False
    for spec in specs:
        try:
            remove_kernelspec(spec.name)
            print(clean(spec.name), flush=True)
        except MooringError as error:
            print_error(error)
            failed = True
    return failed


def _print_rest(state: StateFiles) -> None:
    from mooring import user_config_path

    if state.others:
        note(f"{state.folder} has other files, which stay: {', '.join(state.others[:5])}")
    config = user_config_path().parent
    if config.exists():
        note(f"your configuration stays: {config}")
    note("the line that includes mooring's entries in ~/.ssh/config stays, if you have one")
    note(f"{_SHARED}; then: pip uninstall mooring")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(purge)
