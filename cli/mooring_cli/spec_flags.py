"""The keys of a spec as flags, for `create`, `run`, `kernel install` and `config show`."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mooring import SpecError
from mooring_cli.options import Env, IdleTimeout, MaxDuration, complete_images, variable

if TYPE_CHECKING:
    from mooring import LaunchPlan, ResolvedSpec

# Backend.ai's resource names, and the spec key that each one sets
RESOURCES = {"cpu": "cpus", "mem": "memory", "cuda.device": "gpus", "cuda.shares": "gpus"}


def complete_resources(incomplete: str) -> list[str]:
    """Return shell completions for resource names."""
    return [f"{name}=" for name in RESOURCES if name.startswith(incomplete)]


def complete_profiles(incomplete: str) -> list[str]:
    """Return shell completions for profiles."""
    try:
        from mooring import profile_files, profiles_dir

        names = list(profile_files(profiles_dir()))
    except Exception:  # as in options.complete_names
        return []
    return [name for name in names if name.startswith(incomplete)]


Image = Annotated[
    str | None,
    typer.Option(
        help="host (this machine), or [docker://]repository/name:tag.",
        autocompletion=complete_images,
    ),
]
Environment = Annotated[str | None, typer.Option(hidden=True, help="The same as --image.")]
Pull = Annotated[str | None, typer.Option(help="When to pull the image: always, missing or never.")]
Kernel = Annotated[str | None, typer.Option(help="A Jupyter kernel of the image, such as python3.")]
Gpus = Annotated[
    str | None,
    typer.Option(help="GPUs: 2, a share such as 0.5, or count=1,memory=40GiB,model=A100."),
]
Cpus = Annotated[str | None, typer.Option(help="CPU limit, in cores; may be a fraction.")]
Memory = Annotated[str | None, typer.Option(help="Memory limit: 16GiB, 512m.")]
PidsLimit = Annotated[
    str | None, typer.Option(help="Limit of processes and threads: 4096; off for none.")
]
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
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group-add",
        metavar="GROUP",
        help="A further group of yours that the session has; repeatable.",
    ),
]
Preload = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE",
        help="A Python module that is imported once for all kernels; repeatable.",
    ),
]
Secret = Annotated[
    list[str] | None,
    typer.Option(help="NAME[=VARIABLE]: your variable as the file /run/secrets/NAME; repeatable."),
]
Priority = Annotated[
    int | None,
    typer.Option(metavar="N", help="Priority in the GPU queue: -100 to 100; higher goes first."),
]
Resources = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        "-r",
        metavar="NAME=VALUE",
        help="A Backend.ai resource: cpu=4, mem=8g, cuda.device=1 or cuda.shares=0.5; repeatable.",
        autocompletion=complete_resources,
    ),
]
Target = Annotated[str | None, typer.Option(help="Where it runs: local.")]
Encrypt = Annotated[
    str | None,
    typer.Option(help="auto or always; always encrypts kernel sockets on this machine too."),
]
Record = Annotated[
    str | None, typer.Option(help="How much output of each kernel to keep: 16MiB; off for none.")
]
Profile = Annotated[
    str | None,
    typer.Option(
        help="A profile: mooring config profiles lists them. It overrides your configuration; the "
        "file overrides it.",
        autocompletion=complete_profiles,
    ),
]


# The flags that replace a command's ``values`` parameter; a flag that is not given is None
SPEC_FLAGS: dict[str, Any] = {
    "profile": Profile,
    "image": Image,
    "environment": Environment,
    "pull": Pull,
    "kernel": Kernel,
    "preload": Preload,
    "gpus": Gpus,
    "priority": Priority,
    "cpus": Cpus,
    "memory": Memory,
    "pids_limit": PidsLimit,
    "shm": Shm,
    "resources": Resources,
    "inputs": Inputs,
    "outputs": Outputs,
    "ports": Ports,
    "home": Home,
    "groups": Groups,
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


def with_spec_flags(
    command: Callable[..., None], without: Collection[str] = ()
) -> Callable[..., None]:
    """Replace a command's ``values`` parameter with the flags of ``SPEC_FLAGS``.

    The command receives their values as the mapping ``values``.

    Args:
        command: the command's function.
        without: keys of the flags that the command does not have.
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
    def wrapper(**arguments: Any) -> None:
        values = {name: arguments.pop(name) for name in flags}
        command(**arguments, values=values)

    wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def spec_flags(values: Values) -> dict[str, Any]:
    """Convert command-line values to keys of a spec, without flags that were not given.

    Args:
        values: a command's parameters; those that are not keys of a spec are ignored.

    Raises:
        SpecError: a flag's value is malformed, or two flags set the same key.
    """
    if values.get("environment") and values.get("image"):
        raise SpecError("--environment and --image mean the same", "use one of them")
    flags: dict[str, Any] = {"image": values.get("image") or values.get("environment")}
    for key in ("pull", "kernel", "memory", "shm", "home", "target", "encrypt", "record", "name"):
        flags[key] = values.get(key)
    flags["priority"] = values.get("priority")
    flags["pids_limit"] = values.get("pids_limit")
    flags["idle_timeout"] = values.get("idle_timeout")
    flags["max_duration"] = values.get("max_duration")
    flags["gpus"] = _gpus(values.get("gpus"))
    flags["cpus"] = _number("--cpus", values.get("cpus"))
    for key, (name, value) in _resources(values.get("resources")).items():
        if flags.get(key) is not None:
            raise SpecError(f"-r {name} and --{key} mean the same", "use one of them")
        flags[key] = value
    for key in ("inputs", "outputs"):
        if values.get(key):
            flags[key] = [mount for text in values[key] for mount in _mounts(text)]
    for key in ("ports", "groups", "preload"):
        if values.get(key):
            flags[key] = list(values[key])
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
    """Resolve the spec of a command line, whose flags override its file.

    Args:
        file: the spec file; None to use only flags.
        values: as for ``spec_flags``.
        command: the session's command; None for the spec's.

    Raises:
        SpecError: the file or a flag is invalid.
    """
    from mooring import flag_of, resolve

    flags = spec_flags(values)
    if command:
        flags["command"] = command
    resources = {
        key: f"flag -r {name}" for key, (name, _) in _resources(values.get("resources")).items()
    }

    def flag(key: str) -> str:
        return resources.get(key) or flag_of(key)

    return resolve(flags=flags, file=file, profile=values.get("profile"), flag=flag)


def plan_with_trust(resolved: ResolvedSpec, cwd: Path) -> LaunchPlan:
    """Plan the launch of a spec, and prompt whether to trust its file if that is required.

    Without a terminal there is no prompt, and the core later rejects the file with a hint.

    Args:
        resolved: the spec.
        cwd: the session's working directory.

    Raises:
        SpecError, PolicyError, NotSupported: the spec is rejected even if it is trusted.
        typer.Abort: Ctrl-C or end of input at the prompt.
    """
    from mooring import Mooring

    plan = Mooring().sessions.plan(resolved, cwd)
    if plan.needs_trust and sys.stdin.isatty() and sys.stderr.isatty():
        from mooring_cli.output import clean

        typer.echo(f"{resolved.path} uses paths outside its folder:", err=True)
        if resolved.extended:
            typer.echo(f"  (it extends {clean(', '.join(resolved.extended))})", err=True)
        for grant in plan.needs_trust:
            typer.echo(f"  {clean(grant.key)}: {clean(grant.what)}", err=True)
        if typer.confirm("Trust this file as it is now?", err=True):
            return plan.with_trust()
    return plan


def _number(flag: str, text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        raise SpecError(f"flag {flag}: {text!r} is not a number", "write it in digits") from None
    return int(value) if value.is_integer() else value


def _gpus(text: str | None) -> Any:
    """Parse a count, a share, or ``count=1,memory=40GiB,model=A100`` to the value of a spec key."""
    if text is not None and text.strip() == "all":
        raise SpecError("flag --gpus: 'all' is not a number", _gpus_hint())
    if text is None or "=" not in text:
        return _number("--gpus", text)
    request: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or key in request:
            raise SpecError(
                f"flag --gpus: {part.strip()!r} is not one KEY=VALUE",
                "as in: --gpus count=1,memory=40GiB,model=A100",
            )
        request[key] = _number("--gpus: count", value) if key == "count" else value
    return request


def _gpus_hint() -> str:
    from mooring import Request, inventory

    whole = Request(1)
    count = sum(whole.suits(gpu) for gpu in inventory())
    return f"for all of this machine: --gpus {count}" if count else "this machine has none"


def _resources(texts: list[str] | None) -> dict[str, tuple[str, Any]]:
    """Parse the values of ``-r``.

    Returns:
        The resource's name and the value, by key of a spec.

    Raises:
        SpecError: a resource is malformed or unknown, or two set the same key.
    """
    resources: dict[str, tuple[str, Any]] = {}
    for text in texts or []:
        name, equals, value = (piece.strip() for piece in text.partition("="))
        if not equals or name not in RESOURCES:
            what = f"no resource {name!r}" if equals else f"{text!r} is not NAME=VALUE"
            raise SpecError(f"flag -r: {what}", f"choose from: {', '.join(RESOURCES)}")
        key = RESOURCES[name]
        if key in resources:
            raise SpecError(
                f"-r {resources[key][0]} and -r {name} mean the same", "use one of them"
            )
        resources[key] = (name, value if key == "memory" else _number(f"-r {name}", value))
    return resources


def _mounts(text: str) -> list[Any]:
    name, equals, source = text.partition("=")
    if equals:
        return [{"name": name, "source": os.path.expanduser(source)}]
    return [os.path.expanduser(part) for part in text.split(",") if part]
