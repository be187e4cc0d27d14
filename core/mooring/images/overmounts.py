"""The mounts that lie on top of those that a session requests.

They keep what ``protected`` names unchanged or hidden, read-only mounts read-only, and an image's
volumes out of the caller's folders.

A mount point can be neither renamed nor replaced from inside, but a folder that contains one can.
So in a writable mount every folder on the way down to a protected path becomes a mount point of its
own: a mount of the folder onto itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from mooring.engines.base import Bind
from mooring.errors import PolicyError
from mooring.images.protected import Guarded


def overmounts(
    binds: Iterable[Bind],
    guarded: Sequence[Guarded],
    *,
    volumes: Iterable[str] = (),
    mount_points: Iterable[str] = (),
) -> tuple[Bind, ...]:
    """Return what has to be mounted in addition to a container's binds.

    Args:
        binds: the container's binds; of two with the same target the last one counts.
        guarded: what no session may change, outermost first.
        volumes: absolute paths at which the image declares volumes. The engine would create the
            mount point of one that lies in a bind as root, so the folder there is mounted instead.
        mount_points: the mount points of this machine. The engine makes a bind read-only, but not
            the file systems that are mounted below its source (moby issue 44978).

    Raises:
        PolicyError: a file system below a read-only bind cannot be accessed.
    """
    own = {bind.target: bind for bind in binds}
    added: dict[str, Bind] = {}
    for bind in own.values():
        for guard in guarded:
            _guard(bind, guard, own, added)
    for volume in volumes:
        _keep_out(volume, own, added)
    _keep_read_only(own, added, tuple(mount_points))
    return tuple(added.values())


def in_mount_order(*groups: Iterable[Bind]) -> tuple[Bind, ...]:
    """Join binds, outermost target first; of several with one target, the last one counts."""
    binds = {bind.target: bind for group in groups for bind in group}
    return tuple(sorted(binds.values(), key=lambda bind: bind.target.rstrip("/").count("/")))


def enclosing(target: str, binds: Mapping[str, Bind]) -> Bind | None:
    """Return the bind that a target lies below, in which its mount point is; None for the image.

    Args:
        target: an absolute path.
        binds: the container's binds, by target.
    """
    while target != "/":
        target = os.path.dirname(target)
        if target in binds:
            return binds[target]
    return None


def _guard(bind: Bind, guard: Guarded, own: Mapping[str, Bind], added: dict[str, Bind]) -> None:
    """Add what protects one path in one bind, and every folder on the way down to it."""
    if not guard.path.startswith(f"{bind.source}/") or (bind.read_only and not guard.mask):
        return
    source, target, read_only = bind.source, bind.target, bind.read_only
    *way, last = guard.path[len(source) + 1 :].split("/")
    for name in way:
        source, target = f"{source}/{name}", os.path.join(target, name)
        if target in own:
            return  # from here on, that bind shows the path, or hides it
        there = added.get(target)
        if there is not None and there.read_only:
            if there.source != source or not guard.mask:
                return  # hidden, or read-only already
            read_only = True
        elif there is None and not read_only:
            added[target] = Bind(source, target, read_only=False)
    target = os.path.join(target, last)
    if target not in own:
        added[target] = Bind(guard.mask or guard.path, target)


def _keep_out(volume: str, own: Mapping[str, Bind], added: dict[str, Bind]) -> None:
    """Mount the folder of the caller's at which an image declares a volume."""
    binds = {**own, **added}
    outer = enclosing(volume, binds)
    if outer is not None and volume not in binds:
        source = outer.source + volume[len(outer.target.rstrip("/")) :]
        added[volume] = Bind(source, volume, outer.read_only)


def _keep_read_only(
    own: Mapping[str, Bind], added: dict[str, Bind], mount_points: Sequence[str]
) -> None:
    """Mount the file systems that are mounted below the sources of read-only binds, read-only."""
    binds = {**own, **added}
    for bind in binds.values():
        below = [point for point in mount_points if point.startswith(f"{bind.source}/")]
        for point in below if bind.read_only else ():
            target = bind.target + point[len(bind.source) :]
            if target not in binds and enclosing(target, binds) is bind and _is_there(point, bind):
                added[target] = Bind(point, target)


def _is_there(point: str, bind: Bind) -> bool:
    """Whether a mount point is visible: another file system may be mounted above it."""
    why = "has unprintable characters in its name"
    if point.isprintable():
        try:
            os.lstat(point)
        except FileNotFoundError:
            return False
        except OSError as error:
            why = f"cannot be accessed ({error.strerror})"
        else:
            return True
    raise PolicyError(
        f"{bind.source}, to be mounted read-only at {bind.target}, contains the file system "
        f"{point!a}, which {why}",
        "mount the folders beside that file system instead",
    )
