"""What several commands take: session names with completion, and the keys of a spec as flags."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mooring.errors import SpecError

if TYPE_CHECKING:
    from mooring.spec.resolve import ResolvedSpec

FAILED = 125  # mooring's own failure, where other exit codes are the remote command's
DETACH_KEYS = "ctrl-p,ctrl-q"


def complete_names(incomplete: str) -> list[str]:
    """Names of sessions for the shell; read from this machine's folders, without the engine."""
    try:
        from mooring.sessions.record import Folder

        names = [str(folder.record().get("name", "")) for folder in Folder.all()]
    except Exception:  # a completion must never print a trace into somebody's prompt
        return []
    return sorted(name for name in names if name.startswith(incomplete))


def complete_images(incomplete: str) -> list[str]:
    """This machine, and the images of sessions that there are; read without the engine."""
    try:
        from mooring.sessions.record import Folder

        specs = [folder.record().get("spec", {}) for folder in Folder.all()]
        images = {"host", *(str(spec.get("image", "host")) for spec in specs)}
    except Exception:  # as above
        return []
    return sorted(image for image in images if image.startswith(incomplete))


def complete_resources(incomplete: str) -> list[str]:
    return [f"{name}=" for name in RESOURCES if name.startswith(incomplete)]


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
# For a command that has --all as well
SomeNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAMES]...",
        help="Names, starts of ids, or patterns such as 'bert-*'.",
        autocompletion=complete_names,
    ),
]
Everything = Annotated[bool, typer.Option("--all", "-a", help="All of them; asks first.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Enqueue = Annotated[
    bool,
    typer.Option(
        "--enqueue-only",
        help="Return at once; it starts by itself when its turn comes. With --max-wait: wait so "
        "long, then leave it in the queue.",
    ),
]
MaxWait = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Give up, with exit code 3, when it does not run by then: 60s, 10m; a number alone "
        "is seconds.",
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
Gpus = Annotated[
    str | None,
    typer.Option(help="2, a share such as 0.5, or count=1,memory=40GiB,model=A100."),
]
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
Ports = Annotated[
    list[str] | None,
    typer.Option(
        "--port",
        "-p",
        metavar="[HERE:]THERE",
        help="Open a port of the session on 127.0.0.1: 6006:6006, or 8080 on any free port; "
        "repeatable.",
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
MaxDuration = Annotated[
    str | None, typer.Option(help="Stop after so long in any case: 8h, 90m; with its unit.")
]
Priority = Annotated[
    int | None,
    typer.Option(help="Its place among those that wait for GPUs: -100 to 100, higher first."),
]
Resources = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        "-r",
        metavar="NAME=VALUE",
        help="cpu=4, mem=8g, cuda.device=1 or cuda.shares=0.5; repeatable.",
        autocompletion=complete_resources,
    ),
]
Target = Annotated[str | None, typer.Option(help="Where it runs; local.")]
Encrypt = Annotated[
    str | None, typer.Option(help="always: encrypt kernels' sockets on this machine too.")
]

Record = Annotated[
    str | None, typer.Option(help="How much output of each kernel is kept: 16MiB; off for none.")
]


def complete_profiles(incomplete: str) -> list[str]:
    """Names of the user's profiles for the shell."""
    try:
        from mooring.spec.extends import profile_names
        from mooring.spec.resolve import profiles_dir

        names = profile_names(profiles_dir())
    except Exception:  # as in complete_names
        return []
    return [name for name in names if name.startswith(incomplete)]


Profile = Annotated[
    str | None,
    typer.Option(
        help="A profile of yours, over your configuration and under the file.",
        autocompletion=complete_profiles,
    ),
]


# What a command's ``values`` becomes on the command line: a flag for each, None when not given
SPEC_FLAGS: dict[str, Any] = {
    "profile": Profile,
    "image": Image,
    "environment": Environment,
    "pull": Pull,
    "kernel": Kernel,
    "gpus": Gpus,
    "priority": Priority,
    "cpus": Cpus,
    "memory": Memory,
    "shm": Shm,
    "resources": Resources,
    "inputs": Inputs,
    "outputs": Outputs,
    "ports": Ports,
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


# Backend.ai's names of resources, and the key of a spec that each sets
RESOURCES = {"cpu": "cpus", "mem": "memory", "cuda.device": "gpus", "cuda.shares": "gpus"}


def with_spec_flags(
    command: Callable[..., None], without: Collection[str] = ()
) -> Callable[..., None]:
    """Give a command the flags of ``SPEC_FLAGS``; it gets what was given as ``values``.

    Args:
        without: those that make no sense for it.
    """
    own = inspect.signature(command, eval_str=True)
    flags = {name: flag for name, flag in SPEC_FLAGS.items() if name not in without}
    parameters = []
    for parameter in own.parameters.values():
        if parameter.name != "values":
            parameters.append(parameter)
            continue
        parameters += [
            inspect.Parameter(name, parameter.kind, default=None, annotation=annotation)
            for name, annotation in flags.items()
        ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        values = {name: given.pop(name) for name in flags}
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
    flags["priority"] = values.get("priority")
    flags["idle_timeout"] = values.get("idle_timeout")
    flags["max_duration"] = with_unit("--max-duration", values.get("max_duration"))
    flags["gpus"] = _gpus(values.get("gpus"))
    flags["cpus"] = _number("--cpus", values.get("cpus"))
    for key, (name, value) in _resources(values.get("resources")).items():
        if flags.get(key) is not None:
            raise SpecError(f"-r {name} and --{key} say the same thing", "give one of them")
        flags[key] = value
    for key in ("inputs", "outputs"):
        if values.get(key):
            flags[key] = [mount for text in values[key] for mount in _mounts(text)]
    if values.get("ports"):
        flags["ports"] = list(values["ports"])
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
    from mooring.spec.resolve import flag_of, resolve

    flags = spec_flags(values)
    if command:
        flags["command"] = command
    given = {
        key: f"flag -r {name}" for key, (name, _) in _resources(values.get("resources")).items()
    }

    def flag(key: str) -> str:
        return given.get(key) or flag_of(key)

    return resolve(flags=flags, file=file, profile=values.get("profile"), flag=flag)


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
        if resolved.extended:
            typer.echo(f"  (it extends {clean(', '.join(resolved.extended))})", err=True)
        for grant in missing:
            typer.echo(f"  {clean(grant.key)}: {clean(grant.what)}", err=True)
        if typer.confirm("Allow it, for this file as it stands?", err=True):
            mooring.allow(resolved, cwd)
    return resolved


def with_unit(flag: str, text: str | None) -> str | None:
    """A duration that is no bare number: one is hours elsewhere (mcli), and seconds here.

    Raises:
        SpecError: it is one, other than 0.
    """
    if text is not None and text.strip().replace(".", "", 1).isdigit() and float(text):
        number = text.strip()
        raise SpecError(
            f"flag {flag}: {number} has no unit", f"say {number}h for hours, {number}s for seconds"
        )
    return text


def _number(flag: str, text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        raise SpecError(f"flag {flag}: {text!r} is not a number") from None
    return int(value) if value.is_integer() else value


def _gpus(text: str | None) -> Any:
    """A count, a share, or ``count=1,memory=40GiB,model=A100`` as the mapping of a spec file."""
    if text is not None and text.strip() == "all":
        raise SpecError("flag --gpus: 'all' is not a number", _how_many_gpus())
    if text is None or "=" not in text:
        return _number("--gpus", text)
    wanted: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or key in wanted:
            raise SpecError(
                f"flag --gpus: {part.strip()!r} is not one KEY=VALUE",
                "say it as in: --gpus count=1,memory=40GiB,model=A100",
            )
        wanted[key] = _number("--gpus: count", value) if key == "count" else value
    return wanted


def _how_many_gpus() -> str:
    """A hint: what may be asked for here."""
    from mooring.gpus.claims import Request
    from mooring.gpus.inventory import inventory

    whole = Request(1)
    count = sum(whole.suits(gpu) for gpu in inventory())
    return f"all that this machine has: --gpus {count}" if count else "this machine has none"


def _resources(texts: list[str] | None) -> dict[str, tuple[str, Any]]:
    """What ``-r`` asks for: the name that was given and the value, for each key of a spec.

    Raises:
        SpecError: a name that there is not, or two for the same thing.
    """
    found: dict[str, tuple[str, Any]] = {}
    for text in texts or []:
        name, equals, value = (piece.strip() for piece in text.partition("="))
        if not equals or name not in RESOURCES:
            what = f"no resource {name!r}" if equals else f"{text!r} is not NAME=VALUE"
            raise SpecError(f"flag -r: {what}", f"there is: {', '.join(RESOURCES)}")
        key = RESOURCES[name]
        if key in found:
            raise SpecError(
                f"-r {found[key][0]} and -r {name} say the same thing", "give one of them"
            )
        found[key] = (name, value if key == "memory" else _number(f"-r {name}", value))
    return found


def _mounts(text: str) -> list[Any]:
    name, equals, source = text.partition("=")
    if equals:
        return [{"name": name, "source": os.path.expanduser(source)}]
    return [os.path.expanduser(part) for part in text.split(",") if part]


def check_keys(names: str) -> None:
    """Raises SpecError unless they are detach keys."""
    from mooring.terminals.pump import key_codes

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
