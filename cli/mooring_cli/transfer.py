"""cp and port-forward: bytes between this machine and a session."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mooring.errors import SessionStateError, SpecError
from mooring_cli import options as opt
from mooring_cli.output import note

if TYPE_CHECKING:
    from mooring.files.copier import Copier
    from mooring.files.paths import Place
    from mooring.files.stopped import StoppedCopier
    from mooring.service import Mooring


def complete_places(incomplete: str) -> list[str]:
    """Sessions for the shell, as ``NAME:`` and ``NAME:~/``, with this machine's files beside them.

    Nothing where no session fits: the shell then completes files by itself. Two for each session,
    so that no shell takes the first colon for the end of the word.
    """
    if ":" in incomplete or "/" in incomplete:
        return []
    places = [f"{name}:{path}" for name in opt.complete_names(incomplete) for path in ("", "~/")]
    if places:
        with contextlib.suppress(OSError):
            places += sorted(
                f"{entry.name}/" if entry.is_dir() else entry.name
                for entry in os.scandir()
                if entry.name.startswith(incomplete) and entry.name[:1] != "."
            )
    return places


def cp(
    source: Annotated[
        str,
        typer.Argument(
            help="PATH, NAME:PATH, or - for a tar stream.", autocompletion=complete_places
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            help="NAME:PATH, PATH, or - for a tar stream.", autocompletion=complete_places
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow-link", "-L", help="If SOURCE is a link, what it leads to.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Copy files and folders to or from a session, by docker cp's rules.

    One side is NAME:PATH; a relative PATH starts at the session's working directory, and ~/ is
    its home. Of a session that is stopped, its home and its mounts can be copied. A folder
    becomes TARGET, or goes into it if that is there; SOURCE/. means what is in it. Modes, times
    and links are kept. Each file appears whole or not at all; nothing is put in place where a
    file would take a folder's place, or a folder a file's. Exit code 1 if something had to be
    left out.
    """
    from mooring.files.paths import Place
    from mooring.service import Mooring

    sides = Place.parse(source), Place.parse(target)
    names = [side.session for side in sides if side.session]
    if len(names) != 1:
        raise SpecError(
            "both sides are on this machine" if not names else "both sides are sessions",
            f"a session's side has a colon, as in: mooring cp {source} NAME:"
            if not names
            else f"copy by a stream: mooring cp {source} - | mooring cp - {target}",
        )
    mooring = Mooring()
    with _progress(quiet, lambda: _size(sides[0])) as progress:
        whole = _copy(_copier(mooring, names[0], progress), *sides, follow)
    if not whole:
        raise typer.Exit(1)


def _copier(mooring: Mooring, name: str, progress: Callable[[int], None]) -> Copier | StoppedCopier:
    """The one for a session as it is: running, or ended with its files still here."""
    from mooring.files.copier import Copier

    try:
        return Copier(mooring, mooring.running(name), told=note, progress=progress)
    except SessionStateError:
        from mooring.files.stopped import StoppedCopier

        session = mooring.get(name)
        if not StoppedCopier.takes(session):
            raise
        return StoppedCopier(session, told=note, progress=progress)


def _copy(copier: Copier | StoppedCopier, source: Place, target: Place, follow: bool) -> bool:
    from mooring.files.paths import CopyError

    if source.is_stream:
        if sys.stdin.isatty():
            raise CopyError("a terminal sends no tar stream", "pipe one in")
        copier.send_tar(sys.stdin.buffer, target.path)
        return True
    if target.is_stream:
        if sys.stdout.isatty():
            raise CopyError("a tar stream is nothing for a terminal", "send it into a file")
        return copier.fetch_tar(source.path, sys.stdout.buffer, follow=follow)
    if source.session:
        return copier.fetch(source.path, target.path, follow=follow)
    return copier.send(source.path, target.path, follow=follow)


def _size(source: Place) -> int | None:
    """How many bytes are going to be copied; None where only the copying tells."""
    if source.session or source.is_stream:
        return None
    from mooring.files.pack import measure, opened

    try:
        above, name = opened(source.path)
    except OSError:
        return None
    try:
        return measure(above, name)
    finally:
        os.close(above)


@contextlib.contextmanager
def _progress(quiet: bool, size: Callable[[], int | None]) -> Iterator[Callable[[int], None]]:
    """A callable that is told of bytes; a bar where a person watches, else nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=size())
        yield lambda count: shown.advance(task, count)


def port_forward(
    name: opt.Name,
    ports: Annotated[
        list[str], typer.Argument(metavar="[LOCAL:]REMOTE...", help="6006, 8080:80, or 0:80.")
    ],
) -> None:
    """Open ports of a session on this machine's 127.0.0.1, until Ctrl-C.

    LOCAL is REMOTE when it is left out, and 0 is any free port. Only you can connect; other users
    of this machine are turned away. It works without a network in the session, and is no
    activity: an idle session still ends, and this command with it.
    """
    from mooring.forward import Forwarder, parse
    from mooring.service import Mooring

    pairs = [parse(text) for text in ports]
    mooring = Mooring()
    session = mooring.running(name)
    forwarder = Forwarder(mooring, session, pairs, note)
    try:
        for here, there in forwarder.open():
            print(f"127.0.0.1:{here} -> {session.name}:{there}", flush=True)
        note(forwarder.serve())
    finally:
        forwarder.close()
    raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command()(cp)
    app.command("port-forward")(port_forward)
