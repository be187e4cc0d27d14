"""run: a session from an image, files sent into it, and one command."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from mooring.errors import MooringError, SpecError
from mooring_cli import options as opt
from mooring_cli.habits import Interactive
from mooring_cli.launching import Launch, launch
from mooring_cli.output import explain, note
from mooring_cli.waiting import longest_wait

# $0 the code. Which Python there is only the image knows, and only once it runs.
_PYTHON = """
for python in python3 python; do
    command -v $python >/dev/null 2>&1 && exec $python -c "$0"
done
echo "error: the image has no python3 on its PATH, which -c needs" >&2
echo "hint: use an image with Python, or a shell's command: --exec 'COMMAND'" >&2
exit 125
"""
# It has a private home for a working directory, and a command for a main process
_NOWHERE = Path("/")
_NOT_HERE = ("image", "environment", "kernel", "home", "encrypt", "record")


def run(
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            help="host (this machine), or [docker://]repository/name:tag.",
            autocompletion=opt.complete_images,
        ),
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILES]...",
            help="Files and folders, copied into its working directory; '.' is all that is here.",
        ),
    ] = None,
    code: Annotated[
        str | None, typer.Option("--code", "-c", help="Python code to run, as python3 -c does.")
    ] = None,
    command: Annotated[
        str | None, typer.Option("--exec", metavar="COMMAND", help="A line for the shell to run.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name; one is made up without.")] = None,
    remove: Annotated[
        bool, typer.Option("--rm", help="Remove it when its command has ended.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave it in the background; print its name.")
    ] = False,
    tty: Annotated[
        bool | None,
        typer.Option("--tty/--no-tty", "-t/-T", help="A terminal; default: if here is one."),
    ] = None,
    interactive: Interactive = False,
    max_wait: opt.MaxWait = None,
    enqueue: opt.Enqueue = False,
    values: opt.Values = opt.NO_VALUES,
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
) -> None:
    """Run code, a command or a shell in a new session of an image, with files sent along.

    Its working directory is its own private home: the current folder is not mounted, and FILES are
    copied. The exit code is the command's, and 125 when mooring itself failed. Without --rm the
    session stays, stopped, with its files: mooring logs, mooring start.
    """
    from mooring.terminals.pump import is_interactive

    try:
        opt.check_keys(detach_keys)
        how = Launch(
            detach=detach,
            remove=remove,
            tty=tty,
            max_wait_s=longest_wait(max_wait),
            enqueue=enqueue,
            files=[path for file in files or [] for path in _sent(file, image)],
            folderless=True,
            detach_keys=detach_keys,
        )
        flags = {
            **values,
            **{key: _absolute(values[key]) for key in ("inputs", "outputs")},
            **{"image": image, "name": name, "home": False},
        }
        resolved = opt.resolve_spec(None, flags, _main_process(code, command))
        # "/" is nobody's project: no folder is mounted, and the working directory is the home
        resolved = dataclasses.replace(
            resolved, project=_NOWHERE, spec=resolved.spec.model_copy(update={"kernel": None})
        )
        result = launch(resolved, _NOWHERE, how)
        if how.files and code is None and command is None and not (detach or is_interactive()):
            note("a shell read standard input; to run what was sent: --exec 'COMMAND …'")
    except MooringError as error:
        explain(error)
        result = opt.FAILED if error.exit_code == 1 else error.exit_code
    raise typer.Exit(result)


def register(app: typer.Typer) -> None:
    """Put this command on the command line."""
    app.command()(opt.with_spec_flags(run, without=_NOT_HERE))


def _main_process(code: str | None, command: str | None) -> list[str] | None:
    if code is not None and command is not None:
        raise SpecError("-c and --exec both say what to run", "keep one of them")
    if code is not None:
        return ["/bin/sh", "-c", _PYTHON, code]
    return None if command is None else ["/bin/sh", "-c", command]


def _sent(file: Path, image: str) -> list[Path]:
    """What is copied for a file of the command line: ``.`` is all that lies in this folder.

    Raises:
        SpecError: there is none; it may be a command, for other tools have theirs in its place.
    """
    if len(file.parts) == 1 and not os.path.lexists(file):
        raise SpecError(
            f"there is no {file} here, and what stands after IMAGE are files to send",
            f"correct it; or, to run a command: mooring run {image} --exec '{file} …'",
        )
    here = Path.cwd()
    return sorted(here.iterdir()) if file == Path() else [Path(os.path.abspath(file))]


def _absolute(texts: list[str] | None) -> list[str] | None:
    """``[NAME=]PATH`` with paths that mean the same from anywhere."""
    absolute = []
    for text in texts or []:
        name, equals, source = text.rpartition("=")
        paths = [os.path.abspath(os.path.expanduser(part)) for part in source.split(",") if part]
        absolute.append(name + equals + ",".join(paths))
    return absolute or None
