"""config show, config schema, doctor: where values come from, and whether this machine is fit."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mooring_cli import options as opt
from mooring_cli.output import clean, print_json, print_rows, value_text

config = typer.Typer(help="Show a spec and where it comes from.", no_args_is_help=True)


@config.command()
def show(
    file: opt.File = None,
    image: opt.Image = None,
    environment: opt.Environment = None,
    pull: opt.Pull = None,
    kernel: opt.Kernel = None,
    gpus: opt.Gpus = None,
    cpus: opt.Cpus = None,
    memory: opt.Memory = None,
    shm: opt.Shm = None,
    inputs: opt.Inputs = None,
    outputs: opt.Outputs = None,
    home: opt.Home = None,
    env: opt.Env = None,
    secret: opt.Secret = None,
    idle_timeout: opt.IdleTimeout = None,
    max_duration: opt.MaxDuration = None,
    target: opt.Target = None,
    encrypt: opt.Encrypt = None,
    json_: opt.Json = False,
) -> None:
    """Print the spec that `create` would use with these flags, and each value's origin."""
    resolved = opt.resolve_spec(file, dict(locals()))
    values = resolved.spec.model_dump(mode="json")
    rows = [(key, values[key], resolved.origins.get(key, "default")) for key in values]
    if json_:
        print_json({key: {"value": value, "origin": origin} for key, value, origin in rows})
        return
    print_rows(
        ["KEY", "VALUE", "ORIGIN"],
        [[key, clean(value_text(key, value)), clean(origin)] for key, value, origin in rows],
    )


@config.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    from importlib import resources

    print((resources.files("mooring") / "session.schema.json").read_text(), end="")


def doctor(json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check this machine, and say what to do.

    The engine, known holes in its version, GPUs, paths.
    """
    from mooring.doctor import examine

    findings = examine()
    if json_:
        print_json([vars(finding) for finding in findings])
    else:
        marks = {"ok": "✓", "warning": "!", "problem": "✗", "info": "·"}
        for finding in findings:
            print(f"{marks[finding.level]} {finding.subject}: {clean(finding.text)}")
            if finding.hint:
                print(f"    {clean(finding.hint)}")
    if any(finding.level == "problem" for finding in findings):
        sys.exit(1)


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command()(doctor)
