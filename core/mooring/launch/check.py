"""What is checked before a session is created, by ``create`` and by a dry run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mooring.engines.capabilities import SupportsGpus, SupportsPublishedPorts, require
from mooring.errors import Mistakes, SessionExists
from mooring.images.images import missing_image
from mooring.images.secrets import read_secrets
from mooring.sessions.context import Context
from mooring.sessions.find import queue_of

if TYPE_CHECKING:
    from mooring.launch.plan import LaunchPlan


def check(ctx: Context, plan: LaunchPlan) -> dict[str, str]:
    """Check that the engine and the user's environment have what a plan needs.

    Returns:
        The values of its secrets, by name.

    Raises:
        MooringError: as ``Sessions.create``; with all that is missing as ``mistakes``.
    """
    from mooring.kernels.kernel import check_socket_path

    spec, mistakes = plan.spec, Mistakes()
    values: dict[str, str] = {}
    ctx.engine.ping()
    with mistakes:
        plan.require_trust()
        values = read_secrets(spec, plan.mounts.secret_files, os.environ)
    with mistakes:
        if spec.kernel:
            check_socket_path(ctx.folder("0" * 12).guest, "0" * 12)
    with mistakes:
        if spec.ports:
            require(ctx.engine, SupportsPublishedPorts)
    with mistakes:
        if plan.gpus is not None:
            require(ctx.engine, SupportsGpus)
            queue_of(ctx).check(plan.gpus)
    mistakes.report()
    return values


def check_name(ctx: Context, name: str) -> None:
    """Check that no session has a name.

    Raises:
        SessionExists: one has.
    """
    if name in {folder.record().identity.name for folder in ctx.folders()}:
        raise SessionExists(
            f"a session named {name} exists already",
            f"use another --name, or see it: mooring describe {name}; to remove it, "
            f"running or not: mooring rm -f {name}",
        )


def dry_run(ctx: Context, plan: LaunchPlan) -> bool:
    """Check all that can be checked without creating anything; see ``Sessions.dry_run``."""
    spec, mistakes, here = plan.spec, Mistakes(), True
    with mistakes:
        check(ctx, plan)
    with mistakes:
        if spec.name:
            check_name(ctx, spec.name)
    with mistakes:
        if not spec.uses_host_image:
            here = ctx.engine.image_id(spec.image) is not None
            if spec.pull == "never" and not here:
                raise missing_image(spec.image)
    mistakes.report()
    return here
