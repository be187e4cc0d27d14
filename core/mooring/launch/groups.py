"""The groups of a session: of its owner's, those that its mounts need, and none that has power.

Whatever a session carries, code in it can leave behind for others: a file of that group in a mount,
or a program that runs with it. Membership in the group of an engine's socket is root.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mooring.engines import local_sockets
from mooring.engines.base import Bind
from mooring.errors import PolicyError, SpecError
from mooring.host.text import quoted
from mooring.host.users import User

#: Groups whose members can become root, or read what only root may, by name.
POWERFUL = (
    "root",
    "docker",
    "sudo",
    "wheel",
    "admin",
    "adm",
    "disk",
    "shadow",
    "lxd",
    "incus-admin",
    "libvirt",
    "kvm",
)


def session_user(user: User, binds: Iterable[Bind], names: Sequence[str]) -> User:
    """Return the owner of a session as its processes run: with fewer groups.

    Args:
        user: the owner. Root has only the groups that the spec asks for, of all that there are.
        binds: the mounts of the session.
        names: the names of further groups that the spec asks for.

    Raises:
        SpecError: the owner is not in one of the named groups, or it does not exist.
        PolicyError: one of the named groups, or the owner's primary group, is a powerful one.
    """
    powerful = _powerful(user)
    if user.uid == 0:
        return replace(user, groups=tuple(sorted({_gid(name, user, powerful) for name in names})))
    if user.gid in powerful:
        hint = "ask the administrator for another one: usermod -g GROUP -aG "
        hint += f"{quoted(_name(user.gid))} {quoted(user.name)}"
        if _login_gid(user) != user.gid:
            hint = "leave the shell that newgrp or sg began, or log in again"
        raise PolicyError(
            f"your primary group, {_name(user.gid)}, would expose the host: its members can "
            "become root",
            hint,
        )
    kept = {_gid(name, user, powerful) for name in names}
    kept |= {gid for gid in map(_needed, binds) if gid in user.groups and gid not in powerful}
    return replace(user, groups=tuple(sorted(kept - {user.gid})))


def _login_gid(user: User) -> int:
    """Return the primary group that the user database has for a user."""
    import pwd

    try:
        return pwd.getpwuid(user.uid).pw_gid
    except KeyError:
        return user.gid


def denied_modes(user: User, granted: Iterable[Bind], *, installs: bool) -> int:
    """Return the mode bits that a session cannot give to files: a program with one runs for others.

    Root's sessions can give both if they install packages, which have such files. Set-group-ID is
    not denied where a folder that the session can write has it: there it is how people share, and
    copies of folders fail without it.

    Args:
        user: the owner.
        granted: the mounts that the spec requests.
        installs: whether root can install packages in the image, as in all but the host image.
    """
    if user.uid == 0 and installs:
        return 0
    for bind in granted:
        with contextlib.suppress(OSError):
            if not bind.read_only and os.stat(bind.source).st_mode & stat.S_ISGID:
                return stat.S_ISUID
    return stat.S_ISUID | stat.S_ISGID


def _powerful(user: User) -> set[int]:
    """Return the ids of powerful groups, and of those that an engine's socket belongs to."""
    import grp

    gids = {0}
    for name in POWERFUL:
        with contextlib.suppress(KeyError):
            gids.add(grp.getgrnam(name).gr_gid)
    for path in local_sockets(os.environ):
        with contextlib.suppress(OSError):
            found = path.stat()
            if found.st_uid != user.uid:  # a rootless engine has its user's own rights
                gids.add(found.st_gid)
    return gids


def _needed(bind: Bind) -> int | None:
    """Return the group that has a right to a mount which others lack; None if it has none."""
    try:
        found = os.stat(bind.source)
    except OSError:
        return None
    group, others = found.st_mode >> 3 & 0o7, found.st_mode & 0o7
    return found.st_gid if group & ~others & (0o5 if bind.read_only else 0o7) else None


def _name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _gid(name: str, user: User, powerful: set[int]) -> int:
    import grp

    try:
        gid = grp.getgrnam(name).gr_gid
    except KeyError:
        raise SpecError(f"groups: there is no group {name}", "list yours: id -Gn") from None
    if gid in powerful:
        raise PolicyError(
            f"groups: {name} would expose the host: its members can become root",
            "leave it out; use a group that owns only the files that you share",
        )
    if user.uid and gid != user.gid and gid not in user.groups:
        raise SpecError(f"groups: you are not in the group {name}", "list yours: id -Gn")
    return gid
