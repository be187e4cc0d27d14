"""The mounts of a stopped session that is about to start: as recorded, on the machine as it is now.

The mounts of a container are fixed when it is created. What changed since then on this machine can
make them show something else, or leave what mooring runs from unprotected.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mooring.engines.base import Bind
from mooring.errors import PolicyError
from mooring.gpus.claims import Claim
from mooring.gpus.devices import devices_of
from mooring.host.filesystems import mount_points
from mooring.images.host_environment import is_system
from mooring.images.mount_points import create_mount_points
from mooring.images.overmounts import in_mount_order, overmounts
from mooring.images.protected import guarded_paths
from mooring.launch.container import folders_of
from mooring.sessions.folder import SessionFolder
from mooring.sessions.record import Plan


def sources(plan: Plan) -> list[tuple[str, Path]]:
    """Return a session's mounts for the policy: pairs of a word for the user and a real path."""
    mounts = [(f"mount at {target}", Path(source)) for source, target in plan.mounts]
    image = plan.layout.image if plan.layout else ()
    chosen = [target for target in image if not is_system(target)]
    return mounts + [(f"mount at {path}", Path(os.path.realpath(path))) for path in chosen]


def prepare(folder: SessionFolder, claims: Iterable[Claim]) -> None:
    """Check a stopped session's mounts, and create the mount points that are missing.

    The mounts of a session that was created by an earlier version are not checked.

    Args:
        folder: the session's folder.
        claims: the GPUs that were granted.

    Raises:
        PolicyError: a file system is not mounted any more, one was mounted below a read-only mount,
            what mooring runs from now is not protected, or a mount point cannot be created.
    """
    from mooring.policy import limits

    limits.load().check_paths(devices_of(tuple(claims)).sources)
    plan = folder.record().plan
    if plan.layout is None or plan.on_top is None:
        return
    points = mount_points()
    for point in plan.file_systems:
        if point not in points:
            raise PolicyError(
                f"the file system at {point}, which the session mounts, is not mounted",
                "mount it, then start the session again",
            )
    image = [Bind(os.path.realpath(target), target) for target in plan.layout.image]
    binds = [*image, *(Bind(*bind) for bind in plan.layout.binds)]
    on_top = [Bind(*bind) for bind in plan.on_top]
    guarded = guarded_paths(folders_of(folder).empty)
    for bind in overmounts(binds, guarded, mount_points=points):
        if bind not in on_top:
            raise _refusal(bind, points)
    create_mount_points(in_mount_order(binds, on_top), plan.layout.workdir)


def _refusal(missing: Bind, points: Iterable[str]) -> PolicyError:
    """Return the error for a bind that the container would need now."""
    if missing.source in points:
        return PolicyError(
            f"the file system at {missing.source} was mounted below one of the session's read-only "
            "mounts, and would be writable there",
            "unmount it, or create the session again",
        )
    return PolicyError(
        f"{missing.target} was not protected when the session was created, and mooring runs from "
        "it now",
        "start it with the mooring that created it, or create it again",
    )
