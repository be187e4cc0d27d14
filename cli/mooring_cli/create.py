"""create: create a session from a spec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mooring import SpecError, current_dir, quoted
from mooring_cli import options as opt
from mooring_cli.launch import LaunchFlags, launch
from mooring_cli.progress import parse_max_wait
from mooring_cli.spec_flags import NO_VALUES, Values, plan_with_trust, resolve_spec, with_spec_flags
from mooring_cli.unsupported import SaveImage


@with_spec_flags
def create(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE] [-- COMMAND...]",
            help="A spec file, as for -f; and the session's command.",
        ),
    ] = None,
    file: opt.File = None,
    name: opt.NewName = None,
    detach: opt.Detach = False,
    remove: opt.Remove = False,
    no_stdin: opt.NoStdin = False,
    tmux: Annotated[
        bool,
        typer.Option("--tmux", help="Attach inside the image's tmux, or else to a new terminal."),
    ] = False,
    max_wait: opt.MaxWait = None,
    enqueue: opt.Enqueue = False,
    values: Values = NO_VALUES,
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what would be created, and what would be refused; create nothing.",
        ),
    ] = False,
    save_image: SaveImage = None,
) -> None:
    """Create a session from a spec and attach to it.

    The default command is a shell; its exit code is returned. If no GPU is free, the session is
    queued. Until the session runs, Ctrl-C cancels it; after that, Ctrl-C goes to the program
    inside.
    """
    opt.check_keys(detach_keys)
    file, command = _file_and_command(file, words or [])
    max_wait_s = parse_max_wait(max_wait)
    cwd = current_dir()
    resolved = resolve_spec(file, {**values, "name": name}, command)
    if dry_run:
        from mooring_cli.dry_run import show

        show(resolved, cwd)
        return
    plan = plan_with_trust(resolved, cwd)
    flags = LaunchFlags(
        detach=detach or resolved.spec.only_kernels,
        remove=remove,
        no_stdin=no_stdin,
        max_wait_s=max_wait_s,
        enqueue=enqueue,
        tmux=tmux,
        detach_keys=detach_keys,
    )
    raise typer.Exit(launch(plan, flags))


def _file_and_command(file: Path | None, words: list[str]) -> tuple[Path | None, list[str]]:
    """Return the spec file and the session's command of ``[FILE] [-- COMMAND...]``.

    Raises:
        SpecError: the spec file does not exist, there are two, or an option comes after it.
    """
    if not (words and words[0].endswith((".yml", ".yaml"))):
        return file, opt.after_dashes(words)
    if not os.path.isfile(words[0]):
        raise SpecError(f"there is no file {words[0]}", "to write one: mooring init")
    found, rest = words[0], words[1:]
    if file is not None:
        raise SpecError(f"two spec files: {file} and {found}", "use only one of them")
    if rest and rest[0].startswith("-") and rest[0] != "--":
        raise SpecError(
            f"option {rest[0]} must come before {found}",
            f"as in: mooring create {quoted(rest[0])} … {quoted(found)}",
        )
    return Path(found), opt.after_dashes(rest)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(context_settings={"allow_interspersed_args": False})(create)
