"""The caller's name and home, on this machine and in any image."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.host import users
from mooring.host.users import User, caller, has_user, with_group, with_user

ANN = User(1000, 1000, (27, 100), "ann", "/home/ann")
DEBIAN = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"


def entries(text: str) -> list[list[str]]:
    return [line.split(":") for line in text.splitlines()]


def whoami(passwd: str, uid: int) -> list[str]:
    """As libc reads it: the first entry of that uid counts."""
    return next(entry for entry in entries(passwd) if entry[2] == str(uid))


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    caller.cache_clear()
    yield
    caller.cache_clear()


def test_the_caller_is_this_process() -> None:
    """The caller has this process's ids and the name that the machine gives them."""
    found = caller()
    assert (found.uid, found.gid) == (os.getuid(), os.getgid())
    assert (
        found.name
        == subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    )
    assert found.gid not in found.groups


@pytest.mark.parametrize(
    "passwd",
    [
        "",
        DEBIAN,
        DEBIAN + "jovyan:x:1000:100::/home/jovyan:/bin/sh\n",
        DEBIAN + "ann:x:4242:4242::/home/other:/bin/sh\n",
        DEBIAN + "ann:x:1000:1000:Ann:/home/other:/bin/sh\njovyan:x:1000:100::/x:/bin/sh\n",
        "# a comment\n\n+::::::\nbroken\n" + DEBIAN,
    ],
    ids="none debian another-name another-uid both odd".split(),
)
def test_whoami_on_any_passwd(passwd: str) -> None:
    """On every image the caller's uid has the caller's name and home, and nobody else's does."""
    made = with_user(passwd, ANN)
    assert whoami(made, 1000)[0] == "ann"
    assert whoami(made, 1000)[5] == "/home/ann"
    assert [entry[0] for entry in entries(made)].count("ann") == 1
    assert [entry[2] for entry in entries(made)].count("1000") == 1
    if "root:" in passwd:
        assert whoami(made, 0)[0] == "root"


@given(st.lists(st.text(max_size=40)))
def test_no_line_of_an_image_breaks_it(lines: list[str]) -> None:
    """Whatever an image has for a user database, what comes out has entries of seven fields."""
    made = with_user("\n".join(lines), ANN)
    assert whoami(made, 1000)[0] == "ann"
    assert all(line.count(":") >= 6 for line in made.splitlines())


def test_root_stays_root() -> None:
    """A caller who is root is root in the image, once, with root's home on this machine."""
    made = with_user(DEBIAN, User(0, 0, (), "root", "/root"))
    assert [entry[0] for entry in entries(made)] == ["daemon", "root"]


def test_a_group_that_has_a_name_keeps_it() -> None:
    """The image's name for the caller's gid stands; without one it is the caller's."""
    ann = User(1000, 1000, (), "ann", "/home/ann")
    assert with_group("users:x:1000:\n", ann) == "users:x:1000:\n"
    assert with_group("ann:x:5:\nroot:x:0:\n", ann) == "root:x:0:\nann:x:1000:\n"
    assert with_group("", ann) == "ann:x:1000:\n"


def test_every_group_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session's further groups are named as on this machine, or by their number: `groups` in a
    shell's startup files says nothing (podman#5876)."""
    names = {44: "video", 54321: "lab"}

    def getgrgid(gid: int) -> grp.struct_group:
        return grp.struct_group((names[gid], "x", gid, []))

    monkeypatch.setattr(grp, "getgrgid", getgrgid)
    user = User(1000, 1000, (44, 1000, 100, 777, 54321), "ann", "/home/ann")
    made = with_group("video:x:985:\nusers:x:100:\n", user)
    assert made == (
        "video:x:985:\nusers:x:100:\nann:x:1000:\nvideo-44:x:44:\ngroup777:x:777:\nlab:x:54321:\n"
    )


def pretend(monkeypatch: pytest.MonkeyPatch, entry: object, home: str | None = None) -> None:
    def getpwuid(uid: int) -> object:
        if entry is None:
            raise KeyError(uid)
        return entry

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)


@pytest.mark.parametrize(
    ("home", "wanted"),
    [
        (None, "/home/user{uid}"),
        ("/data/me", "/data/me"),
        ("/data//me/../you/", "/data/you"),
        ("", "/home/user{uid}"),
        ("/", "/home/user{uid}"),
        ("//", "/home/user{uid}"),
        ("relative", "/home/user{uid}"),
        ("/x:/bin/evil", "/home/user{uid}"),
        ("/x\nroot2:x:0:0::/:/bin/sh", "/home/user{uid}"),
    ],
)
def test_a_caller_without_an_entry(
    monkeypatch: pytest.MonkeyPatch, home: str | None, wanted: str
) -> None:
    """A uid without an entry has a made-up name, and a home that can be one and no more."""
    pretend(monkeypatch, None, home)
    found = caller()
    assert found.name == f"user{os.getuid()}"
    assert found.home == wanted.format(uid=os.getuid())
    assert len(entries(with_user("", found))) == 1
    assert len(entries(with_user("", found))[0]) == 7


def test_a_caller_whose_home_is_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system user's home of ``/`` is not mounted over everything: it is a folder of its own."""
    pretend(monkeypatch, SimpleNamespace(pw_name="daemon", pw_dir="/"))
    assert caller().home == "/home/daemon"


def test_the_module_promises_one_caller() -> None:
    """The user database is asked once a process."""
    assert users.caller() is caller()


@pytest.mark.parametrize(
    ("passwd", "group", "known"),
    [
        (DEBIAN, "root:x:0:\n", True),
        (DEBIAN, "", False),
        ("", "root:x:0:\n", False),
        (DEBIAN.replace(":/root:", ":/:"), "root:x:0:\n", False),
        (DEBIAN + "toor:x:0:0::/toor:/bin/sh\n", "root:x:0:\n", False),
        ("nonsense\n:::::::\n" + DEBIAN, "wheel:x:0:\nroot:x:1:\n", True),
    ],
    ids="debian no-group no-passwd another-home two-names odd".split(),
)
def test_whether_an_image_knows_a_user(passwd: str, group: str, known: bool) -> None:
    """An image knows a user whose name, ids and home it has once, and whose group it names."""
    assert has_user(passwd, group, User(0, 0, (), "root", "/root")) is known
