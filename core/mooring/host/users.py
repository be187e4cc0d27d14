"""The calling user on this machine and in a container."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class User:
    """The owner of a session.

    Attributes:
        groups: supplementary group ids.
        home: an absolute path.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str

    @property
    def passwd_line(self) -> str:
        return f"{self.name}:x:{self.uid}:{self.gid}:{self.name}:{self.home}:/bin/sh"


@lru_cache(maxsize=1)
def caller() -> User:
    """The user of this process; the name is ``userUID`` if the user database has no entry."""
    import pwd

    uid, gid = os.getuid(), os.getgid()
    try:
        entry = pwd.getpwuid(uid)
        name, home = entry.pw_name, entry.pw_dir
    except KeyError:
        name, home = f"user{uid}", os.environ.get("HOME", f"/home/user{uid}")
    home = os.path.normpath(home)
    if not home.startswith("/") or home.strip("/") == "" or ":" in home or not home.isprintable():
        home = f"/home/{name}"  # not `/`, and valid in a line of passwd(5)
    groups = tuple(sorted(set(os.getgroups()) - {gid}))
    return User(uid, gid, groups, name, home)


def with_user(passwd: str, user: User) -> str:
    """Add a user to an image's ``/etc/passwd``.

    Lines with the same uid or name are removed, so that ``whoami`` is correct on every image.

    Args:
        passwd: the content of the image's file.
        user: the user to add.

    Returns:
        The new content.
    """
    kept = [
        line
        for line in passwd.splitlines()
        if line.count(":") >= 6
        and line.split(":")[0] != user.name
        and line.split(":")[2] != str(user.uid)
    ]
    return "\n".join([*kept, user.passwd_line]) + "\n"


def has_user(passwd: str, group: str, user: User) -> bool:
    """Whether an image's ``/etc/passwd`` and ``/etc/group`` say of a user what a session needs.

    Args:
        passwd, group: the contents of the image's files.
        user: the user.
    """
    users = [line.split(":") for line in passwd.splitlines() if line.count(":") >= 6]
    named = [[one[0], one[2], one[3], one[5]] for one in users]
    mine = [user.name, str(user.uid), str(user.gid), user.home]
    same = [one for one in named if one[0] == mine[0] or one[1] == mine[1]]
    gids = [line.split(":")[2] for line in group.splitlines() if line.count(":") >= 3]
    return same == [mine] and mine[2] in gids


def with_group(group: str, user: User) -> str:
    """Add a user's groups to an image's ``/etc/group``, unless their gids have names already.

    Without a name, ``groups`` in a shell's startup files is an error. The primary group is named
    after the user, and the others as on this machine.

    Args:
        group: the content of the image's file.
        user: the user whose groups to add.

    Returns:
        The new content.
    """
    lines = [line for line in group.splitlines() if line.count(":") >= 3]
    known = {line.split(":")[2] for line in lines}
    if str(user.gid) not in known:
        lines = [line for line in lines if line.split(":")[0] != user.name]
        lines.append(f"{user.name}:x:{user.gid}:")
    for gid in user.groups:
        if gid != user.gid and str(gid) not in known:
            name = _group_name(gid)
            if any(line.split(":")[0] == name for line in lines):
                name = f"{name}-{gid}"  # the image's own group of this name has another gid
            lines.append(f"{name}:x:{gid}:")
    return "\n".join(lines) + "\n"


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"group{gid}"
