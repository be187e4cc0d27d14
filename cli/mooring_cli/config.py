"""config show, schema, profiles, policy: the origins of a spec's values, and their limits."""

from __future__ import annotations

import sys

import typer

from mooring_cli import options as opt
from mooring_cli.output import clean, note, print_json, print_rows, value_text
from mooring_cli.spec_flags import NO_VALUES, Values, resolve_spec, with_spec_flags

config = typer.Typer(help="Show a spec and where its values come from.", no_args_is_help=True)


@config.command()
@with_spec_flags
def show(file: opt.File = None, values: Values = NO_VALUES, json_: opt.Json = False) -> None:
    """Print the spec that `create` would use with these flags, and each value's origin.

    What `create` would refuse is an error here too, after the spec.
    """
    from mooring import Mooring

    resolved = resolve_spec(file, values)
    spec = resolved.spec.model_dump(mode="json")
    rows = [(key, spec[key], resolved.origins.get(key, "default")) for key in spec]
    if json_:
        print_json({key: {"value": value, "origin": origin} for key, value, origin in rows})
    else:
        print_rows(
            ["KEY", "VALUE", "ORIGIN"],
            [[key, clean(value_text(key, value)), clean(origin)] for key, value, origin in rows],
        )
    sys.stdout.flush()
    Mooring().sessions.plan(resolved, resolved.project)


@config.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    from mooring import SCHEMA_FILE

    print(SCHEMA_FILE.read_text(encoding="utf-8"), end="")


@config.command()
def profiles(json_: opt.Json = False) -> None:
    """List profiles, yours and the administrator's, for --profile and extends."""
    from mooring import profile_files, profiles_dir

    folder = profiles_dir()
    paths = {name: str(path) for name, path in profile_files(folder).items()}
    if json_:
        print_json(paths)
    elif paths:
        print_rows(["PROFILE", "FILE"], [[name, clean(path)] for name, path in paths.items()])
    else:
        note(f"no profiles; to add one, write a spec to {folder}/NAME.yml")


@config.command()
def policy(json_: opt.Json = False) -> None:
    """Print the administrator's policy that is in force: limits and defaults."""
    from mooring import POLICY_FILE, load_policy

    policy = load_policy()
    limits = policy.describe()
    keys = policy.defaults.data
    defaults = {key: policy.limits.defaults.model_dump(mode="json")[key] for key in keys}
    if json_:
        document = policy.limits.model_dump(mode="json")
        print_json(
            {key: document[key] for key in limits} | ({"defaults": defaults} if defaults else {})
        )
        return
    rows = [[key, clean(value), clean(policy.place(key))] for key, value in limits.items()]
    for key, value in defaults.items():
        place = clean(policy.place("defaults", key))
        rows.append([f"defaults.{key}", clean(value_text(key, value)), place])
    if rows:
        print_rows(["KEY", "VALUE", "ORIGIN"], rows)
    else:
        why = "sets none" if policy.document else "does not exist"
        note(f"no limits and no defaults: {POLICY_FILE} {why}")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(config, name="config")
