"""Create the mount points of a container in the caller's folders, as the caller.

The engine would create a missing one as root, and follow a symbolic link that a session left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from mooring.engines.base import Bind
from mooring.errors import PolicyError
from mooring.host import nofollow
from mooring.images.overmounts import enclosing, in_mount_order

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EXCHANGED = (errno.ENOTDIR, errno.ELOOP)


def create_mount_points(binds: Iterable[Bind], workdir: str) -> None:
    """Create what is missing of the mount points, and of the working directory, in other binds.

    No symbolic link is followed. Mount points that lie in the image are left to the engine.

    Args:
        binds: all binds of the container.
        workdir: its working directory, which the engine would create as well.

    Raises:
        PolicyError: a link or a file takes the place of a folder, or the place is read-only or not
            the caller's.
    """
    by_target = {bind.target: bind for bind in in_mount_order(binds)}
    for target in (*by_target, *(() if workdir in by_target else (workdir,))):
        outer = enclosing(target, by_target)
        if outer is None:
            continue
        below = target[len(outer.target.rstrip("/")) + 1 :]
        place = f"{outer.source}/{below}"
        source = by_target[target].source if target in by_target else place
        try:
            _create(outer, below, folder=os.path.isdir(source) or not os.path.exists(source))
        except OSError as error:
            raise _refusal(target, outer, error) from error


def _create(outer: Bind, below: str, *, folder: bool) -> None:
    """Create one mount point in a bind, unless it exists.

    Args:
        outer: the bind that it lies in.
        below: its path there, relative.
        folder: whether it is a folder, if it must be created.

    Raises:
        OSError
    """
    *way, name = below.split("/")
    if {"", ".", ".."} & {*way, name}:
        raise OSError(errno.EINVAL, "it is not a plain path")
    with contextlib.ExitStack() as stack:

        def held(descriptor: int) -> int:
            stack.callback(os.close, descriptor)
            return descriptor

        here = held(nofollow.open_folder(Path(outer.source)))
        for each in way:
            try:
                here = held(nofollow.enter(here, each))
            except FileNotFoundError:
                _refuse_read_only(outer)
                here = held(nofollow.enter(here, each, create=True))
        _create_last(outer, here, name, folder=folder)


def _create_last(outer: Bind, above: int, name: str, *, folder: bool) -> None:
    try:
        mode = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
    except FileNotFoundError:
        _refuse_read_only(outer)
        if folder:
            os.mkdir(name, dir_fd=above)
        else:
            os.close(os.open(name, _NEW, 0o644, dir_fd=above))
        return
    if stat.S_ISLNK(mode) or (folder and not stat.S_ISDIR(mode)):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _refuse_read_only(outer: Bind) -> None:
    if outer.read_only:
        raise OSError(errno.EROFS, "it is missing, and the folder is mounted read-only")


def _refusal(target: str, outer: Bind, error: OSError) -> PolicyError:
    why = error.strerror
    if error.errno in _EXCHANGED:
        why = "a link or a file is in the place of a folder"
    return PolicyError(
        f"{target} cannot be mounted in {outer.source}: {why}",
        f"check {outer.source}{target[len(outer.target.rstrip('/')) :]}, and the folders above it",
    )
