"""What ``create --dry-run`` prints: what would be created, and what would be refused."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mooring_cli.describe import Facts, print_parts
from mooring_cli.output import value_text

if TYPE_CHECKING:
    from mooring import LaunchPlan, ResolvedSpec

# Keys of the spec that have lines of their own
_SHOWN = ("name", "image", "command", "inputs", "outputs", "home", "secrets", "extends")


def show(resolved: ResolvedSpec, cwd: Path) -> None:
    """Print what ``create`` would do with a spec.

    Args:
        resolved: the spec.
        cwd: the session's working directory.

    Raises:
        MooringError: what would be refused; unless the spec itself is, after the plan is printed.
    """
    from mooring import Mooring, MooringError

    mooring = Mooring()
    plan = mooring.sessions.plan(resolved, cwd)
    refused: MooringError | None = None
    image = plan.spec.image
    try:
        if not mooring.sessions.dry_run(plan):
            image += ", which is pulled first"
    except MooringError as error:
        refused = error
    print_parts(_parts(plan, image))
    sys.stdout.flush()
    if refused is not None:
        raise refused


def _parts(plan: LaunchPlan, image: str) -> list[tuple[str, Facts]]:
    """Return what would be created, as ``print_parts`` takes it."""
    spec, mounts = plan.spec, plan.mounts
    command = shlex.join(spec.command or ()) or "a shell"
    if spec.only_kernels:
        command = "none: only kernels"
    facts = [
        ("name", spec.name or "generated"),
        ("image", image),
        ("command", command),
        ("directory", mounts.workdir),
    ]
    if mounts.note:
        facts.append(("folder", mounts.note))
    keys = spec.model_dump(mode="json")
    declared = [
        (key.replace("_", " "), value_text(key, value))
        for key, value in keys.items()
        if key not in _SHOWN and value not in (None, [], {}, "")
    ]
    bound = [
        (bind.target, f"{'read-only' if bind.read_only else 'writable '} {bind.source}")
        for bind in mounts.granted
    ]
    if not spec.home:
        bound.append(("~", "a private home, which is removed with the session"))
    parts = [
        ("", [*facts, *declared]),
        ("mounts", bound),
        ("secrets", [(name, _origin(secret)) for name, secret in spec.secrets.items()]),
        ("needs your trust", [(grant.key, grant.what) for grant in plan.needs_trust]),
    ]
    return [part for part in parts if part[1]]


def _origin(secret: object) -> str:
    variable = getattr(secret, "env", "")
    return f"your variable {variable}" if variable else f"the file {getattr(secret, 'file', '')}"
