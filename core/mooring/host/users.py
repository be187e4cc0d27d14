"""The caller, as seen by the machine and as seen inside any image."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class User:
    """Who a session belongs to; ``home`` is an absolute path."""

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
    """The user of this process; one without an entry in the user database gets a made-up name."""
    import pwd

    uid, gid = os.getuid(), os.getgid()
    try:
        entry = pwd.getpwuid(uid)
        name, home = entry.pw_name, entry.pw_dir
    except KeyError:
        name, home = f"user{uid}", os.environ.get("HOME", f"/home/user{uid}")
    home = os.path.normpath(home)
    if not home.startswith("/") or home.strip("/") == "" or ":" in home or not home.isprintable():
        home = f"/home/{name}"  # a root of its own, or no line of a passwd, cannot be a home
    groups = tuple(sorted(set(os.getgroups()) - {gid}))
    return User(uid, gid, groups, name, home)


def with_user(passwd: str, user: User) -> str:
    """An image's user database with the caller in it.

    Lines of the same uid or name give way, so that ``whoami`` is right on every image.
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
    """An image's group database with the caller's own group in it, if the gid has no name yet."""
    lines = [line for line in group.splitlines() if line.count(":") >= 3]
    if not any(line.split(":")[2] == str(user.gid) for line in lines):
        lines = [line for line in lines if line.split(":")[0] != user.name] + [user.group_line]
    return "\n".join(lines) + "\n"
