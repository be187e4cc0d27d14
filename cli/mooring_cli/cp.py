"""cp: copy files and folders to or from a session."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mooring import SpecError, quoted
from mooring_cli import options as opt
from mooring_cli.output import note

if TYPE_CHECKING:
    from mooring import Copier, Place, StoppedCopier


def complete_places(incomplete: str) -> list[str]:
    """Return shell completions: each session as ``NAME:`` and ``NAME:~/``, and local files.

    If no session matches, the list is empty and the shell completes files. A session has two
    entries, so that a single match does not complete the word.
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
        bool, typer.Option("--follow-link", "-L", help="If SOURCE is a link, copy its target.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Copy files and folders to or from a session.

    The rules are those of docker cp. One side is NAME:PATH; a relative PATH starts at the session's
    working directory, and ~/ is its home. From and to a stopped session only its home and its
    mounts can be copied. A folder becomes TARGET, or goes into TARGET if that exists; SOURCE/.
    means the folder's contents. Modes, times and links are kept. Each file appears whole or not at
    all; a file never replaces a folder, nor a folder a file. The exit code is 1 if something was
    left out.
    """
    from mooring import Mooring, Place

    sides = Place.parse(source), Place.parse(target)
    names = [side.session for side in sides if side.session]
    if not names:
        raise SpecError(
            "both sides are on this machine",
            f"a session's side has a colon, as in: mooring cp {quoted(source)} NAME:",
        )
    if len(names) > 1:
        raise SpecError(
            "both sides are sessions",
            f"copy through a pipe: mooring cp {quoted(source)} - | mooring cp - {quoted(target)}",
        )
    mooring = Mooring()
    with _progress(quiet, lambda: _size(sides[0])) as progress:
        whole = _copy(mooring.files.copier(names[0], warn=note, progress=progress), *sides, follow)
    if not whole:
        raise typer.Exit(1)


def _copy(copier: Copier | StoppedCopier, source: Place, target: Place, follow: bool) -> bool:
    """Copy; return whether everything was copied."""
    from mooring import CopyError

    if source.is_stream:
        if sys.stdin.isatty():
            raise CopyError(
                "standard input is a terminal, not a tar stream", "pipe a tar stream in"
            )
        copier.send_tar(sys.stdin.buffer, target.path)
        return True
    if target.is_stream:
        if sys.stdout.isatty():
            raise CopyError("a tar stream cannot be shown on a terminal", "redirect it to a file")
        return copier.fetch_tar(source.path, sys.stdout.buffer, follow=follow)
    if source.session:
        return copier.fetch(source.path, target.path, follow=follow)
    return copier.send(source.path, target.path, follow=follow)


def _size(source: Place) -> int | None:
    """Return the number of bytes to copy; None if it is not known in advance."""
    if source.session or source.is_stream:
        return None
    from mooring import size_of

    return size_of(source.path)


@contextlib.contextmanager
def _progress(quiet: bool, size: Callable[[], int | None]) -> Iterator[Callable[[int], None]]:
    """Show a progress bar at a terminal; yield a function that adds a number of copied bytes."""
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=size())
        yield lambda count: bar.advance(task, count)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(cp)
