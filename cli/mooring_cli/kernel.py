"""kernel install, list, remove: kernelspecs that start sessions, for Jupyter clients."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mooring import MooringError, SpecError
from mooring_cli import options as opt
from mooring_cli.output import clean, note, one_line, print_error, print_json, print_rows
from mooring_cli.spec_flags import (
    NO_VALUES,
    Values,
    plan_with_trust,
    resolve_spec,
    spec_flags,
    with_spec_flags,
)

app = typer.Typer(
    help="Manage kernelspecs that start sessions from Jupyter clients.", no_args_is_help=True
)


@app.command()
@with_spec_flags
def install(
    file: opt.File = None,
    name: Annotated[
        str | None,
        typer.Option(help="The kernelspec's name. Default: the spec's or session's."),
    ] = None,
    display_name: Annotated[
        str | None, typer.Option(help="The name shown by clients. Default: NAME (mooring).")
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(help="Share one session of this name. Default: one per notebook."),
    ] = None,
    prefix: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Install into this environment. Default: your user folder."
        ),
    ] = None,
    sys_prefix: Annotated[
        bool, typer.Option("--sys-prefix", help="Install into the environment that runs mooring.")
    ] = False,
    values: Values = NO_VALUES,
) -> None:
    """Install a kernelspec whose kernels run in sessions of this spec."""
    from mooring import (
        for_kernelspec,
        format_duration,
        install_kernelspec,
        kernelspec_document,
    )

    resolved = for_kernelspec(resolve_spec(file, values))
    plan_with_trust(resolved, resolved.project).require_trust()
    kernelspec = name or resolved.spec.name or session
    if not kernelspec:
        raise SpecError("the kernelspec needs a name", "use --name NAME, or name: in the spec")
    config: dict[str, Any] = {"flags": _portable(spec_flags(values))}
    if resolved.path:
        config["spec"] = str(resolved.path)
    if session:
        config["session"] = session
    if values.get("profile"):
        config["profile"] = values["profile"]
    content = kernelspec_document(
        display_name=display_name or f"{kernelspec} (mooring)",
        kernel=resolved.spec.kernel or "python3",
        config=config,
    )
    root = sys.prefix if sys_prefix else (str(prefix) if prefix else None)
    path = install_kernelspec(kernelspec, content, prefix=root, user=root is None)
    print(one_line(kernelspec))
    note(f"written to {path}")
    if resolved.origins["max_duration"] == "default":
        longest = format_duration(resolved.spec.max_duration)
        note(f"its sessions end after {longest} at the latest, unless you set --max-duration")
    note(f"choose it in JupyterLab, or run a script: jupyter run --kernel {kernelspec} FILE.py")


@app.command("list")
def list_(json_: opt.Json = False) -> None:
    """List mooring's kernelspecs."""

    from mooring import installed_kernelspecs

    specs = installed_kernelspecs()
    if json_:
        print_json([vars(spec) for spec in specs])
        return
    rows = [
        [
            spec.name,
            spec.display_name,
            spec.config.get("spec") or "-",
            spec.config.get("session") or "-",
        ]
        for spec in specs
    ]
    if rows or sys.stdout.isatty():
        cells = [[clean(str(cell)) for cell in row] for row in rows]
        print_rows(["NAME", "SHOWN AS", "SPEC", "SESSION"], cells)
    if not rows:
        note("no kernelspecs; to install one: mooring kernel install -f session.yml")


@app.command()
def remove(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAMES]...", help="Names of mooring's kernelspecs."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Remove all but the one that mooring came with.")
    ] = False,
) -> None:
    """Remove kernelspecs; running sessions are not affected."""
    from mooring import PACKAGED_KERNELSPEC, installed_kernelspecs, remove_kernelspec

    if everything == bool(names):
        raise SpecError("kernel remove needs names, or --all", "to list them: mooring kernel list")
    if everything:
        installed = [spec.name for spec in installed_kernelspecs()]
        names = [name for name in installed if name != PACKAGED_KERNELSPEC]
    failed = False
    for name in names or ():
        try:
            remove_kernelspec(name)
            print(one_line(name), flush=True)
        except MooringError as error:
            print_error(error)
            failed = True
    if failed:
        raise typer.Exit(1)


def _portable(flags: dict[str, Any]) -> dict[str, Any]:
    """Make the paths in flags absolute, because a kernelspec is used from any folder."""
    for key in ("inputs", "outputs"):
        mounts = []
        for mount in flags.get(key, []):
            source = mount["source"] if isinstance(mount, dict) else mount
            absolute = os.path.abspath(source)
            label = mount["name"] if isinstance(mount, dict) else os.path.basename(absolute)
            mounts.append({"name": label, "source": absolute})
        if mounts:
            flags[key] = mounts
    return flags


def register(parent: typer.Typer) -> None:
    """Add the commands to the command line."""
    parent.add_typer(app, name="kernel")
