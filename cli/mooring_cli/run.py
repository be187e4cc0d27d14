"""run: run code or a command in a new session of an image, with copies of files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mooring import MooringError, SpecError, current_dir, quoted
from mooring_cli import options as opt
from mooring_cli.launch import LaunchFlags, launch
from mooring_cli.option_hints import Interactive
from mooring_cli.output import FAILED, note, print_error
from mooring_cli.progress import parse_max_wait
from mooring_cli.spec_flags import NO_VALUES, Values, resolve_spec, with_spec_flags

# $0 is the code. The name of the image's Python is known only inside the running container.
_PYTHON = """
for python in python3 python; do
    command -v $python >/dev/null 2>&1 && exec $python -c "$0"
done
echo "error: the image has no python3 on its PATH, which -c needs" >&2
echo "hint: use an image with Python, or a shell's command: --exec 'COMMAND'" >&2
exit 125
"""
# With this project no folder is mounted, and the working directory is the private home
_NOWHERE = Path("/")
_AFTER_DASHES = "--after-dashes"
_UNUSED_FLAGS = ("image", "environment", "kernel", "preload", "home", "encrypt", "record")


class _WithCommand(TyperCommand):
    """A command that tells what comes after ``--`` from its own arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args = args[:at] + [f"{_AFTER_DASHES}={word}" for word in args[at + 1 :]]
        return super().parse_args(ctx, args)


Image = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="host (this machine), or [docker://]repository/name:tag.",
        autocompletion=opt.complete_images,
    ),
]
Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FILES]... [-- COMMAND...]",
        help="Files and folders, copied into its working directory ('.' copies the contents of the "
        "current folder), and a command to run.",
    ),
]
Code = Annotated[
    str | None, typer.Option("--code", "-c", help="Python code to run, as with python3 -c.")
]
Line = Annotated[
    str | None, typer.Option("--exec", metavar="COMMAND", help="A shell command to run.")
]
Words = Annotated[list[str] | None, typer.Option(_AFTER_DASHES, hidden=True)]


def run(
    image: Image,
    files: Files = None,
    code: Code = None,
    command: Line = None,
    words: Words = None,
    name: opt.NewName = None,
    remove: opt.Remove = False,
    detach: opt.Detach = False,
    tty: opt.Tty = None,
    no_stdin: opt.NoStdin = False,
    interactive: Interactive = False,
    max_wait: opt.MaxWait = None,
    enqueue: opt.Enqueue = False,
    values: Values = NO_VALUES,
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
) -> None:
    """Run code or a command in a new session of an image.

    The command comes after --; without it, -c and --exec, it runs a shell. The working directory is
    a private home: the current folder is not mounted, and FILES are copied. The exit code is the
    command's, or 125 when mooring itself fails. Without --rm the session stays, stopped, with its
    files: see mooring logs, mooring start.
    """
    try:
        opt.check_keys(detach_keys)
        _refuse_file(image)
        flags = LaunchFlags(
            detach=detach,
            remove=remove,
            tty=tty,
            no_stdin=no_stdin,
            max_wait_s=parse_max_wait(max_wait),
            enqueue=enqueue,
            files=[path for file in files or [] for path in _paths_to_send(file, image)],
            folderless=True,
            detach_keys=detach_keys,
        )
        result = _launch(
            image, {**values, "name": name}, _main_process(code, command, words), flags
        )
    except MooringError as error:
        print_error(error)
        result = FAILED if error.exit_code == 1 else error.exit_code
    raise typer.Exit(result)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=_WithCommand)(with_spec_flags(run, without=_UNUSED_FLAGS))


def _refuse_file(image: str) -> None:
    # A file may have the name of an image, such as host
    if os.path.isfile(image) and (os.sep in image or os.path.splitext(image)[1]):
        raise SpecError(
            f"{image} is a file, and the first argument is an image",
            f"name the image first, host for this machine: mooring run host {quoted(image)}",
        )


def _launch(image: str, values: Values, argv: list[str] | None, flags: LaunchFlags) -> int:
    """Launch a session of an image without mounting the current folder or the home.

    Args:
        image: the image.
        values: values of the spec flags, and the session's name.
        argv: the argument list of the main process; None for a shell.
        flags: how to start and attach.

    Returns:
        The exit code.
    """
    from mooring import Mooring, is_interactive

    values = {
        **values,
        **{key: _with_absolute_paths(values[key]) for key in ("inputs", "outputs")},
        **{"image": image, "home": False},
    }
    resolved = resolve_spec(None, values, argv)
    resolved = dataclasses.replace(
        resolved, project=_NOWHERE, spec=resolved.spec.model_copy(update={"kernel": None})
    )
    code = launch(Mooring().sessions.plan(resolved), flags)
    if flags.files and argv is None and not (flags.detach or is_interactive()):
        note("a shell read standard input; to run one of the files: --exec 'COMMAND …'")
    return code


def _main_process(
    code: str | None, command: str | None, words: list[str] | None
) -> list[str] | None:
    given = {"-c": code is not None, "--exec": command is not None, "a command after --": words}
    if len(names := [name for name, there in given.items() if there]) > 1:
        raise SpecError(f"{' and '.join(names)} cannot be combined", "use one of them")
    if words:
        return words
    if code is not None:
        return ["/bin/sh", "-c", _PYTHON, code]
    return None if command is None else ["/bin/sh", "-c", command]


def _paths_to_send(file: Path, image: str) -> list[Path]:
    """Return the paths to copy for a FILE argument: ``.`` means the current folder's contents.

    Args:
        file: the argument.
        image: the image, for the error's hint.

    Raises:
        SpecError: there is no such file; the hint covers commands, which other tools accept here.
    """
    if len(file.parts) == 1 and not os.path.lexists(file):
        raise SpecError(
            f"there is no {file} here, and arguments after IMAGE are files to send",
            f"correct the path; or, to run a command: mooring run {quoted(image)} -- "
            f"{quoted(file)} …",
        )
    return sorted(current_dir().iterdir()) if file == Path() else [Path(os.path.abspath(file))]


def _with_absolute_paths(texts: list[str] | None) -> list[str] | None:
    """Make the paths in ``[NAME=]PATH`` texts absolute."""
    absolute = []
    for text in texts or []:
        name, equals, source = text.rpartition("=")
        paths = [os.path.abspath(os.path.expanduser(part)) for part in source.split(",") if part]
        absolute.append(name + equals + ",".join(paths))
    return absolute or None
