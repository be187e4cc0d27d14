"""config and doctor: where values come from, what limits them, and whether this machine is fit."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mooring_cli import options as opt
from mooring_cli.output import clean, note, print_json, print_rows, value_text

config = typer.Typer(help="Show a spec and where it comes from.", no_args_is_help=True)


@config.command()
@opt.with_spec_flags
def show(
    file: opt.File = None,
    values: opt.Values = opt.NO_VALUES,
    json_: opt.Json = False,
) -> None:
    """Print the spec that `create` would use with these flags, and each value's origin."""
    resolved = opt.resolve_spec(file, values)
    spec = resolved.spec.model_dump(mode="json")
    rows = [(key, spec[key], resolved.origins.get(key, "default")) for key in spec]
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


@config.command()
def profiles(json_: opt.Json = False) -> None:
    """List your profiles, for --profile and extends."""
    from mooring.spec.extends import profile_names
    from mooring.spec.resolve import profiles_dir

    folder = profiles_dir()
    found = {name: str(folder / f"{name}.yml") for name in profile_names(folder)}
    if json_:
        print_json(found)
        return
    if found:
        print_rows(["PROFILE", "FILE"], [[name, clean(path)] for name, path in found.items()])
    else:
        note(f"no profiles; write one, a spec, to {folder}/NAME.yml")


@config.command()
def policy(json_: opt.Json = False) -> None:
    """Print the administrator's policy that is in force."""
    from mooring.policy.limits import POLICY_FILE, load

    found = load()
    told = found.told()
    if json_:
        limits = found.limits.model_dump(mode="json")
        print_json({key: limits[key] for key in told})
        return
    if told:
        rows = [[key, clean(value), clean(found.place(key))] for key, value in told.items()]
        print_rows(["LIMIT", "VALUE", "ORIGIN"], rows)
    else:
        note(f"no limits: {POLICY_FILE} " + ("sets none" if found.document else "is not there"))


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
