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

    @property
    def group_line(self) -> str:
        return f"{self.name}:x:{self.gid}:"


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


def with_group(group: str, user: User) -> str:
    """Add a user's primary group to an image's ``/etc/group`` unless the gid has a name already.

    Args:
        group: the content of the image's file.
        user: the user whose group to add.

    Returns:
        The new content.
    """
    lines = [line for line in group.splitlines() if line.count(":") >= 3]
    if not any(line.split(":")[2] == str(user.gid) for line in lines):
        lines = [line for line in lines if line.split(":")[0] != user.name] + [user.group_line]
    return "\n".join(lines) + "\n"
