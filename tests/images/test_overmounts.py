"""What lies on top of a container's binds."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring.engines.base import Bind
from mooring.errors import PolicyError
from mooring.images.overmounts import enclosing, in_mount_order, overmounts
from mooring.images.protected import Guarded

PROJECT = Bind("/p", "/p", False)


def rows(made: tuple[Bind, ...]) -> list[tuple[str, str, str]]:
    return [(bind.source, bind.target, "ro" if bind.read_only else "rw") for bind in made]


def test_a_protected_path_is_read_only_on_top() -> None:
    """A protected path in a writable bind is mounted read-only on top of it, and nothing else."""
    made = overmounts([PROJECT], [Guarded("/p/.venv"), Guarded("/q/.venv"), Guarded("/pp/x")])
    assert rows(made) == [("/p/.venv", "/p/.venv", "ro")]


def test_every_folder_on_the_way_is_a_mount_point() -> None:
    """Each folder between a writable bind and a protected path is mounted onto itself."""
    made = overmounts([Bind("/h", "/home/me", False)], [Guarded("/h/a/b/venv")])
    assert rows(made) == [
        ("/h/a", "/home/me/a", "rw"),
        ("/h/a/b", "/home/me/a/b", "rw"),
        ("/h/a/b/venv", "/home/me/a/b/venv", "ro"),
    ]


def test_a_read_only_bind_needs_no_protection_but_hides() -> None:
    """In a read-only bind, only what must not be seen is covered, without mount points above it."""
    guarded = [Guarded("/p/.venv"), Guarded("/p/a/state", mask="/empty")]
    made = overmounts([Bind("/p", "/mnt/inputs/p")], guarded)
    assert rows(made) == [("/empty", "/mnt/inputs/p/a/state", "ro")]


def test_what_lies_in_something_protected() -> None:
    """What is in a read-only or hidden folder needs no mount, except to be hidden."""
    nested = [Guarded("/p/v"), Guarded("/p/v/lib/x"), Guarded("/p/v/a/state", mask="/empty")]
    assert rows(overmounts([PROJECT], nested)) == [
        ("/p/v", "/p/v", "ro"),
        ("/empty", "/p/v/a/state", "ro"),
    ]
    hidden = [Guarded("/p/state", mask="/empty"), Guarded("/p/state/venv")]
    assert rows(overmounts([PROJECT], hidden)) == [("/empty", "/p/state", "ro")]


def test_two_protected_paths_share_their_way() -> None:
    """A folder on two ways is mounted once; a read-only one stays read-only."""
    made = overmounts([PROJECT], [Guarded("/p/a/x"), Guarded("/p/a/b/y")])
    assert rows(made) == [
        ("/p/a", "/p/a", "rw"),
        ("/p/a/x", "/p/a/x", "ro"),
        ("/p/a/b", "/p/a/b", "rw"),
        ("/p/a/b/y", "/p/a/b/y", "ro"),
    ]


def test_another_bind_at_a_place_is_responsible_for_it() -> None:
    """Where another bind of the container lies on the way or at the path, nothing is put over it;
    each bind that shows a path protects it."""
    host = Bind("/p/a/.venv", "/p/a/.venv")
    assert rows(overmounts([PROJECT, host], [Guarded("/p/a/.venv")])) == [("/p/a", "/p/a", "rw")]
    inner = Bind("/p/a", "/p/a", False)
    assert rows(overmounts([PROJECT, inner], [Guarded("/p/a/.venv")])) == [
        ("/p/a/.venv", "/p/a/.venv", "ro")
    ]
    output = Bind("/p/a", "/mnt/outputs/a", False)
    assert rows(overmounts([PROJECT, output], [Guarded("/p/a/.venv")])) == [
        ("/p/a", "/p/a", "rw"),
        ("/p/a/.venv", "/p/a/.venv", "ro"),
        ("/p/a/.venv", "/mnt/outputs/a/.venv", "ro"),
    ]


def test_the_last_of_two_binds_at_a_target_counts() -> None:
    """A requested bind replaces one of the image's at the same target."""
    binds = [Bind("/p", "/p"), PROJECT]
    assert rows(overmounts(binds, [Guarded("/p/v")])) == [("/p/v", "/p/v", "ro")]
    assert in_mount_order(binds) == (PROJECT,)


def test_it_is_complete() -> None:
    """With what was added, nothing has to be added."""
    guarded = [Guarded("/p/a/venv"), Guarded("/p/s/state", mask="/empty"), Guarded("/p/a/b/x")]
    made = overmounts([PROJECT], guarded, volumes=["/p/cache"])
    again = overmounts([PROJECT, *made], guarded, volumes=["/p/cache"])
    assert again == ()


def test_mount_order() -> None:
    """Outer targets come first, whatever the order in which they are given."""
    binds = [Bind("/x", target) for target in ("/a/b/c", "/a", "/z", "/a/b")]
    assert [bind.target for bind in in_mount_order(binds[:2], binds[2:])] == [
        "/a",
        "/z",
        "/a/b",
        "/a/b/c",
    ]


def test_what_a_target_lies_below() -> None:
    """The enclosing bind is the innermost one above a target, and never its own."""
    binds = {bind.target: bind for bind in (PROJECT, Bind("/x", "/p/a/b"))}
    assert enclosing("/p/a/b", binds) is PROJECT
    assert enclosing("/p/a/b/c/d", binds) is binds["/p/a/b"]
    assert enclosing("/pp", binds) is None


def test_volumes_of_an_image_in_a_bind_are_folders_of_it() -> None:
    """A volume below a bind is the folder there, as writable as the bind; elsewhere, and at a
    bind's own target, it needs nothing."""
    binds = [PROJECT, Bind("/in", "/mnt/inputs/in"), Bind("/h", "/root", False)]
    volumes = ["/root/.m2", "/p", "/p/v", "/p/v/x", "/mnt/inputs/in/d", "/mnt", "/data", "/pp"]
    made = overmounts(binds, [Guarded("/p/v")], volumes=volumes)
    assert rows(made) == [
        ("/p/v", "/p/v", "ro"),
        ("/h/.m2", "/root/.m2", "rw"),
        ("/p/v/x", "/p/v/x", "ro"),
        ("/in/d", "/mnt/inputs/in/d", "ro"),
    ]


@pytest.fixture
def disk(tmp_path: Path) -> str:
    for name in ("in/a/b", "in/c", "out/d"):
        (tmp_path / name).mkdir(parents=True)
    return str(tmp_path)


def test_file_systems_below_read_only_binds(disk: str) -> None:
    """Every visible file system below a read-only bind is mounted read-only, also below what was
    added; those below writable binds are left."""
    points = ["/", disk, *(f"{disk}/{name}" for name in ("in/a", "in/a/b", "out/d", "in/gone"))]
    binds = [Bind(f"{disk}/in", "/mnt/in"), Bind(f"{disk}/out", "/out", False)]
    made = overmounts(binds, [Guarded(f"{disk}/out/d")], mount_points=[*points, f"{disk}/out/d"])
    assert rows(made) == [
        (f"{disk}/out/d", "/out/d", "ro"),
        (f"{disk}/in/a", "/mnt/in/a", "ro"),
        (f"{disk}/in/a/b", "/mnt/in/a/b", "ro"),
    ]


def test_file_systems_where_another_bind_lies(disk: str) -> None:
    """What a writable bind shows of a file system below a read-only one stays writable."""
    binds = [Bind(disk, disk), Bind(f"{disk}/in", f"{disk}/in", False)]
    assert overmounts(binds, [], mount_points=[f"{disk}/in", f"{disk}/in/a"]) == ()


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "\udcff"])
def test_a_file_system_that_cannot_be_mounted(disk: str, name: str) -> None:
    """A file system with an unprintable name below a read-only bind is one printable error."""
    with pytest.raises(PolicyError) as caught:
        overmounts([Bind(disk, "/in")], [], mount_points=[f"{disk}/{name}"])
    assert "unprintable" in caught.value.message
    assert str(caught.value).isprintable()
