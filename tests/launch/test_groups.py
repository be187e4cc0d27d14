"""Which groups a session has, and which modes it cannot give."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from mooring.engines.base import Bind
from mooring.errors import PolicyError, SpecError
from mooring.host.users import User
from mooring.launch.groups import denied_modes, session_user

ENGINE, LAB, OWN = 991, 54321, 54322
NAMES = {"docker": ENGINE, "lab": LAB, "own": OWN, "shadow": 42}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with some groups, and an engine's socket of group 992."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to groups: run the tests as root, as .ci/run does")

    def group(name: str) -> grp.struct_group:
        return grp.struct_group((name, "x", NAMES[name], []))

    monkeypatch.setattr(grp, "getgrnam", group)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder(tmp_path / 'socket', 992, 0o660)}")


def person(*groups: int, gid: int = OWN, uid: int = 12345) -> User:
    return User(uid=uid, gid=gid, groups=groups, name="p", home="/home/p")


def folder(path: Path, gid: int, mode: int, uid: int = 0) -> Path:
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def bind(path: Path, *, read_only: bool = False) -> Bind:
    return Bind(str(path), "/there", read_only)


def test_no_group_comes_along(tmp_path: Path) -> None:
    """Of a person's groups a session has the primary one."""
    user = session_user(person(ENGINE, LAB), [bind(folder(tmp_path / "own", OWN, 0o755))], ())
    assert (user.gid, user.groups) == (OWN, ())


@pytest.mark.parametrize(
    ("gid", "mode", "read_only", "kept"),
    [
        (LAB, 0o770, False, True),
        (LAB, 0o750, True, True),
        (LAB, 0o775, False, True),
        (LAB, 0o775, True, False),  # others may read, too
        (LAB, 0o755, False, False),
        (LAB, 0o707, False, False),
        (ENGINE, 0o770, False, False),
        (992, 0o770, False, False),  # the socket's, whatever its name
        (42, 0o750, True, False),
        (0, 0o770, False, False),
        (777, 0o770, False, False),  # not one of theirs
    ],
)
def test_a_group_comes_with_a_mount(
    tmp_path: Path, gid: int, mode: int, read_only: bool, kept: bool
) -> None:
    """A mount's group comes along if the person is in it, it gives a right that others lack, and
    it has no power over the machine."""
    source = folder(tmp_path / "source", gid, mode)
    user = session_user(person(0, 42, ENGINE, 992, LAB), [bind(source, read_only=read_only)], ())
    assert user.groups == ((gid,) if kept else ())


def test_a_rootless_engines_socket_is_its_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group of a socket that belongs to the person has no more power than they have."""
    socket = folder(tmp_path / "mine", OWN, 0o660, uid=12345)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    assert session_user(person(), (), ()).gid == OWN


@pytest.mark.parametrize("gid", [0, 42, ENGINE, 992])
def test_a_powerful_primary_group_is_refused(gid: int) -> None:
    """A person whose primary group has power is told to have another one: a session without it
    would not be theirs to look at, and one with it would give it away."""
    with pytest.raises(PolicyError, match="your primary group") as caught:
        session_user(person(LAB, gid=gid), (), ())
    assert "usermod -g" in caught.value.hint


def test_groups_by_name() -> None:
    """A spec can ask for the person's groups by name, and for no others."""
    user = person(ENGINE, LAB)
    assert session_user(user, (), ["lab", "own"]).groups == (LAB,)
    with pytest.raises(PolicyError, match="groups: docker would expose the host"):
        session_user(user, (), ["docker"])
    with pytest.raises(SpecError, match="not in the group lab"):
        session_user(person(), (), ["lab"])
    with pytest.raises(SpecError, match="no group rats"):
        session_user(user, (), ["rats"])


def test_root_has_one_group(tmp_path: Path) -> None:
    """A session of root has root's group and no other."""
    root = person(ENGINE, LAB, gid=0, uid=0)
    user = session_user(root, [bind(folder(tmp_path / "lab", LAB, 0o770))], ())
    assert (user.gid, user.groups) == (0, ())


def test_root_asks_for_groups_like_others() -> None:
    """No name is passed over: root may have any group but the powerful ones."""
    root = person(gid=0, uid=0)
    assert session_user(root, (), ["lab"]).groups == (LAB,)
    with pytest.raises(SpecError, match="there is no group nosuch"):
        session_user(root, (), ["nosuch"])
    with pytest.raises(PolicyError, match="would expose the host"):
        session_user(root, (), ["docker"])


@pytest.mark.parametrize(("uid", "installs"), [(1000, True), (1000, False), (0, False)])
def test_modes_that_a_session_cannot_give(tmp_path: Path, uid: int, installs: bool) -> None:
    """Set-ID modes are denied, except set-group-ID where a writable mount is a shared folder, and
    except to root where it installs packages."""
    plain, shared = folder(tmp_path / "a", LAB, 0o775), folder(tmp_path / "b", LAB, 0o2775)

    def denied(*binds: Bind) -> int:
        return denied_modes(person(uid=uid), binds, installs=installs)

    assert denied(bind(plain)) == 0o6000
    assert denied(bind(plain), bind(shared)) == 0o4000
    assert denied(bind(shared, read_only=True)) == 0o6000
    assert denied(Bind("/nonexistent", "/there")) == 0o6000
    assert denied_modes(person(uid=0), [bind(plain)], installs=True) == 0
