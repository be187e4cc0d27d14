"""kernel install, list, remove: sessions to pick in a Jupyter client."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mooring.errors import MooringError, SpecError
from mooring_cli import options as opt
from mooring_cli.output import clean, explain, note, print_json, print_rows

app = typer.Typer(help="Kernelspecs: pick a session in JupyterLab.", no_args_is_help=True)


@app.command()
@opt.with_spec_flags
def install(
    file: opt.File = None,
    name: Annotated[
        str | None, typer.Option(help="The kernelspec's name; default: the spec's or session's.")
    ] = None,
    display_name: Annotated[str | None, typer.Option(help="What clients show.")] = None,
    session: Annotated[
        str | None,
        typer.Option(help="All notebooks share the session of this name; default: one each."),
    ] = None,
    prefix: Annotated[
        Path | None, typer.Option(help="Into this environment; default: your own folder.")
    ] = None,
    sys_prefix: Annotated[
        bool, typer.Option("--sys-prefix", help="Into the environment that runs mooring.")
    ] = False,
    values: opt.Values = opt.NO_VALUES,
) -> None:
    """Install a kernelspec that starts its kernels in sessions of this spec."""
    from mooring.kernels import kernelspecs
    from mooring.policy import trust
    from mooring.service import Mooring

    resolved = opt.resolve_spec(file, values)
    resolved = opt.ask_for_consent(resolved, resolved.project)
    trust.require(resolved, Mooring().grants(resolved, resolved.project))
    chosen = name or resolved.spec.name or session
    if not chosen:
        raise SpecError("the kernelspec needs a name", "say --name NAME, or name: in the spec")
    config: dict[str, Any] = {"flags": _portable(opt.spec_flags(values))}
    if resolved.path:
        config["spec"] = str(resolved.path)
    if session:
        config["session"] = session
    if values.get("profile"):
        config["profile"] = values["profile"]
    content = kernelspecs.document(
        display_name=display_name or f"{chosen} (mooring)",
        kernel=resolved.spec.kernel or "python3",
        config=config,
    )
    root = sys.prefix if sys_prefix else (str(prefix) if prefix else None)
    path = kernelspecs.install(chosen, content, prefix=root, user=root is None)
    print(chosen)
    note(f"written to {path}")
    note(f"pick it in JupyterLab, or run a script in it: jupyter run --kernel {chosen} FILE.py")


@app.command("list")
def list_(json_: opt.Json = False) -> None:
    """List mooring's kernelspecs."""
    from mooring.kernels import kernelspecs

    found = kernelspecs.installed()
    if json_:
        print_json([vars(spec) for spec in found])
        return
    rows = [
        [
            spec.name,
            spec.display_name,
            spec.config.get("spec") or "-",
            spec.config.get("session") or "-",
        ]
        for spec in found
    ]
    if rows or sys.stdout.isatty():
        cells = [[clean(str(cell)) for cell in row] for row in rows]
        print_rows(["NAME", "SHOWN AS", "SPEC", "SESSION"], cells)
    if not rows:
        note("no kernelspecs; make one: mooring kernel install -f session.yml")


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(help="Names of mooring's kernelspecs.")],
) -> None:
    """Remove kernelspecs; sessions that run go on."""
    from mooring.kernels import kernelspecs

    failed = False
    for name in names:
        try:
            kernelspecs.remove(name)
            print(name, flush=True)
        except MooringError as error:
            explain(error)
            failed = True
    if failed:
        raise typer.Exit(1)


def _portable(flags: dict[str, Any]) -> dict[str, Any]:
    """Paths of flags made absolute: the kernelspec is used from anywhere."""
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
