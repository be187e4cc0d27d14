"""What several commands take: session names with completion, and the keys of a spec as flags."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mooring.errors import SpecError

if TYPE_CHECKING:
    from mooring.config import ResolvedSpec

FAILED = 125  # mooring's own failure, where other exit codes are the remote command's
DETACH_KEYS = "ctrl-p,ctrl-q"


def complete_names(incomplete: str) -> list[str]:
    """Names of sessions for the shell; read from this machine's folders, without the engine."""
    try:
        from mooring.folder import Folder

        names = [str(folder.record().get("name", "")) for folder in Folder.all()]
    except Exception:  # a completion must never print a trace into somebody's prompt
        return []
    return sorted(name for name in names if name.startswith(incomplete))


Name = Annotated[
    str,
    typer.Argument(help="A session's name, or the start of its id.", autocompletion=complete_names),
]
Names = Annotated[
    list[str],
    typer.Argument(
        help="Names, starts of ids, or patterns such as 'bert-*'.", autocompletion=complete_names
    ),
]
DetachKeys = Annotated[str, typer.Option(help="Keys that leave and let everything go on.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
File = Annotated[
    Path | None, typer.Option("--file", "-f", help="The spec: session.yml, or an Azure ML job.yml.")
]

# Flags of `create` and `kernel install` that set a key of the spec
Image = Annotated[
    str | None, typer.Option(help="host (this machine), or [docker://]repository/name:tag.")
]
Environment = Annotated[str | None, typer.Option(hidden=True, help="The same as --image.")]
Pull = Annotated[str | None, typer.Option(help="always, missing or never.")]
Kernel = Annotated[str | None, typer.Option(help="A Jupyter kernel of the image: python3, say.")]
Gpus = Annotated[str | None, typer.Option(help="How many GPUs.")]
Cpus = Annotated[str | None, typer.Option(help="Cores; fractions allowed.")]
Memory = Annotated[str | None, typer.Option(help="Limit: 16GiB, 512m.")]
Shm = Annotated[str | None, typer.Option(help="Size of /dev/shm: 8GiB.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", "--inputs", help="[NAME=]PATH, read-only under /mnt/inputs/NAME; repeatable."
    ),
]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--output", "--outputs", help="[NAME=]PATH, writable under /mnt/outputs/NAME; repeatable."
    ),
]
Home = Annotated[bool | None, typer.Option("--home/--no-home", help="Mount your home, writable.")]
Env = Annotated[
    list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE, or NAME from here; repeatable.")
]
Secret = Annotated[
    list[str] | None,
    typer.Option(help="NAME[=VARIABLE], a file /run/secrets/NAME in the session; repeatable."),
]
IdleTimeout = Annotated[
    str | None, typer.Option(help="Stop after so long without activity: 30m; off for never.")
]
MaxDuration = Annotated[str | None, typer.Option(help="Stop after so long in any case: 8h.")]
Target = Annotated[str | None, typer.Option(help="Where it runs; local.")]
Encrypt = Annotated[
    str | None, typer.Option(help="always: encrypt kernels' sockets on this machine too.")
]

Record = Annotated[
    str | None, typer.Option(help="How much output of each kernel is kept: 16MiB; off for none.")
]


# What a command's ``values`` becomes on the command line: a flag for each, None when not given
SPEC_FLAGS: dict[str, Any] = {
    "image": Image,
    "environment": Environment,
    "pull": Pull,
    "kernel": Kernel,
    "gpus": Gpus,
    "cpus": Cpus,
    "memory": Memory,
    "shm": Shm,
    "inputs": Inputs,
    "outputs": Outputs,
    "home": Home,
    "env": Env,
    "secret": Secret,
    "idle_timeout": IdleTimeout,
    "max_duration": MaxDuration,
    "target": Target,
    "encrypt": Encrypt,
    "record": Record,
}
Values = Mapping[str, Any]
NO_VALUES: Values = {}


def with_spec_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags of ``SPEC_FLAGS``; it gets what was given as ``values``."""
    own = inspect.signature(command, eval_str=True)
    parameters = []
    for parameter in own.parameters.values():
        if parameter.name != "values":
            parameters.append(parameter)
            continue
        parameters += [
            inspect.Parameter(name, parameter.kind, default=None, annotation=annotation)
            for name, annotation in SPEC_FLAGS.items()
        ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        values = {name: given.pop(name) for name in SPEC_FLAGS}
        command(**given, values=values)

    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def spec_flags(values: Values) -> dict[str, Any]:
    """Command-line values as keys of a spec; what was not given is left out.

    Args:
        values: a command's parameters; those that are no keys of a spec are ignored.

    Raises:
        SpecError: a flag's own form is wrong (``--env =1``).
    """
    if values.get("environment") and values.get("image"):
        raise SpecError("--environment and --image say the same thing", "give one of them")
    flags: dict[str, Any] = {"image": values.get("image") or values.get("environment")}
    for key in ("pull", "kernel", "memory", "shm", "home", "target", "encrypt", "record", "name"):
        flags[key] = values.get(key)
    for key in ("idle_timeout", "max_duration"):
        flags[key] = values.get(key)
    for key in ("gpus", "cpus"):
        flags[key] = _number(key, values.get(key))
    for key in ("inputs", "outputs"):
        if values.get(key):
            flags[key] = [mount for text in values[key] for mount in _mounts(text)]
    if values.get("env"):
        flags["env"] = dict(variable(text) for text in values["env"])
    if values.get("secret"):
        flags["secrets"] = {
            name: {"env": source or name}
            for name, _, source in (text.partition("=") for text in values["secret"])
        }
    return {key: value for key, value in flags.items() if value is not None}


def resolve_spec(
    file: Path | None, values: Values, command: list[str] | None = None
) -> ResolvedSpec:
    """The spec of a command line: its flags over its file."""
    from mooring.config import resolve

    flags = spec_flags(values)
    if command:
        flags["command"] = command
    return resolve(flags=flags, file=file)


def after_dashes(command: list[str] | None) -> list[str]:
    """The command without the ``--`` that sets it off from mooring's own arguments."""
    return command[1:] if command and command[0] == "--" else list(command or [])


def ask_for_consent(resolved: ResolvedSpec, cwd: Path) -> ResolvedSpec:
    """Ask the person at the terminal for what the spec's file may not have unasked.

    With nobody to ask, the core refuses it, with a hint.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    missing = mooring.grants(resolved, cwd)
    if missing and sys.stdin.isatty() and sys.stderr.isatty():
        from mooring_cli.output import clean

        typer.echo(f"{resolved.path} asks for more than its own folder:", err=True)
        for grant in missing:
            typer.echo(f"  {clean(grant.key)}: {clean(grant.what)}", err=True)
        if typer.confirm("Allow it, for this file as it stands?", err=True):
            mooring.allow(resolved, cwd)
    return resolved


def _number(key: str, text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        raise SpecError(f"flag --{key}: {text!r} is not a number") from None
    return int(value) if value.is_integer() else value


def _mounts(text: str) -> list[Any]:
    name, equals, source = text.partition("=")
    if equals:
        return [{"name": name, "source": os.path.expanduser(source)}]
    return [os.path.expanduser(part) for part in text.split(",") if part]


def check_keys(names: str) -> None:
    """Raises SpecError unless they are detach keys."""
    from mooring.terminals import key_codes

    try:
        key_codes(names)
    except ValueError as error:
        raise SpecError(f"flag --detach-keys: {error}") from None


def variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        raise SpecError(f"flag --env: the environment has no {name}", f"say --env {name}=VALUE")
    return name, os.environ[name]
