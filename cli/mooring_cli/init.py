"""init: write a spec file to start from."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mooring import MooringError, SpecError, quoted
from mooring_cli.output import note
from mooring_cli.spec_flags import NO_VALUES, Values, spec_flags, with_spec_flags
from mooring_cli.validate import DEFAULT

# Without a value in the file, a line is a comment: an example, and what it means
_LINES = (
    ("image", "host", "this machine's own software, or an image such as python:3.12"),
    ("gpus", "1", "also 0.5, or {count: 1, memory: 40GiB, model: A100}"),
    ("cpus", "4", "a limit, in cores"),
    ("memory", "16GiB", "a limit"),
    ("inputs", "[./data]", "read-only, below /mnt/inputs"),
    ("outputs", "[./results]", "writable, below /mnt/outputs"),
    ("env", "{NAME: value}", "variables; not for passwords"),
    ("secrets", "{TOKEN: {env: TOKEN}}", "your variable, as a file in /run/secrets"),
    ("idle_timeout", "1h", "it stops when nobody has worked in it for so long"),
    ("max_duration", "8h", "it stops after so long in any case"),
)
_GIVEN = {"image": "host", "idle_timeout": "1h"}
_WIDTH = 32
_UNUSED = ("profile",)


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write.")] = DEFAULT,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    values: Values = NO_VALUES,
) -> None:
    """Write a spec file with comments, to start from.

    At a terminal and without flags, it asks for the image and the GPUs.
    """
    from mooring import is_interactive, resolve

    if os.path.lexists(file) and not force:
        raise _exists(file)
    keys = spec_flags(values)
    if not keys and is_interactive():
        keys = _ask()
    resolve(flags=keys)  # refuses what would be a mistake in the file
    _write(file, document(keys), replace=force)
    print(file)
    note(f"to start it: mooring create {quoted(file)}")
    note(f"as a kernel for Jupyter and VS Code: mooring kernel install -f {quoted(file)}")


def document(keys: Mapping[str, Any]) -> str:
    """Return the text of a spec file.

    Args:
        keys: the values that it has, in addition to or instead of those of ``_GIVEN``; the other
            common keys are comments.
    """
    from mooring import SCHEMA_FILE

    keys = {**_GIVEN, **keys}
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# A session, declared once: a shell, and kernels for notebooks.",
        "# All keys: mooring config schema. Mistakes: mooring validate",
        "",
    ]
    for key, example, meaning in _LINES:
        line = f"{key}: {_yaml(keys[key])}" if key in keys else f"# {key}: {example}"
        lines.append(f"{line:<{_WIDTH}}  # {meaning}")
    others = [key for key in keys if key not in {key for key, _, _ in _LINES}]
    lines += [f"{key}: {_yaml(keys[key])}" for key in others]
    return "\n".join(lines) + "\n"


def _ask() -> dict[str, Any]:
    """Ask for the image and the GPUs."""
    from mooring import inventory

    image = typer.prompt("Image (host is this machine's own software)", "host", err=True)
    there = len(inventory())
    gpus = typer.prompt(f"GPUs (this machine has {there or 'none'})", "0", err=True)
    return spec_flags({"image": image, "gpus": None if gpus == "0" else gpus})


def _yaml(value: Any) -> str:
    """Return a value in one line of YAML; JSON is YAML."""
    plain = isinstance(value, str) and value.replace("/", "").replace(":", "").isalnum()
    return value if plain else json.dumps(value, ensure_ascii=False)


def _exists(file: Path) -> SpecError:
    return SpecError(f"{file} exists already", "to replace it: --force")


def _write(file: Path, text: str, *, replace: bool) -> None:
    """Write a file, never through a link: what a link leads to stays as it is.

    Args:
        file: its path.
        text: its contents.
        replace: take the place of a file, or of a link to one.
    """
    try:
        if replace:
            mode = _mode(file)
            draft = file.with_name(f".mooring-init-{secrets.token_hex(8)}")
            _create(draft, text, mode)
            try:
                draft.replace(file)
            except BaseException:
                draft.unlink()
                raise
        else:
            _create(file, text)
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise MooringError(f"{file}: {os.strerror(error.errno or 0)}") from None


def _mode(file: Path) -> int | None:
    """Return the permissions of a file; None if there is none, or a link."""
    if not os.path.lexists(file):
        return None
    if os.path.exists(file) and not os.path.isfile(file):  # a FIFO, a device, a folder
        raise SpecError(f"{file} is not a file", "write to another path")
    info = os.lstat(file)
    return None if stat.S_ISLNK(info.st_mode) else stat.S_IMODE(info.st_mode) & 0o777


def _create(file: Path, text: str, mode: int | None = None) -> None:
    """Create a file that does not exist; on failure there is none.

    Args:
        file: its path.
        text: its contents.
        mode: its permissions; None for what a new file has.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(file, flags, 0o666)
    try:
        with open(descriptor, "w", encoding="utf-8") as opened:
            if mode is not None:
                os.fchmod(descriptor, mode)
            opened.write(text)
    except BaseException:
        with contextlib.suppress(OSError):
            file.unlink()
        raise


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(with_spec_flags(init, without=_UNUSED))
