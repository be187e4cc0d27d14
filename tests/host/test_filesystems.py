"""The mounted file systems of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from mooring.host.filesystems import Mount, aliases, mount_point_of, mount_points, mounts

TABLE = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 27 0:28 / /data rw master:1 - autofs systemd-1 rw
32 31 0:29 / /data rw - nfs server:/export rw
33 32 0:30 / /data/a\040b\134c\011d\012e rw - tmpfs tmpfs rw
34 27 0:31 / /data/caf\303\251 rw - tmpfs tmpfs rw
35 27 0:32 / /data/not-utf-8-\377 rw - tmpfs tmpfs rw

short line
"""


def test_mount_points_are_decoded(tmp_path: Path) -> None:
    """Each mount point is listed once, outermost first, with its escapes decoded."""
    (tmp_path / "mountinfo").write_bytes(TABLE.replace(rb"\303\251", b"\xc3\xa9"))
    assert mount_points(tmp_path / "mountinfo") == (
        "/",
        "/data",
        "/proc",
        "/data/a b\\c\td\ne",
        "/data/café",
        os.fsdecode(b"/data/not-utf-8-\xff"),
    )


def test_a_system_without_the_file(tmp_path: Path) -> None:
    """Where there is no such file, no mount point is known."""
    assert mount_points(tmp_path / "missing") == ()


def test_this_machine() -> None:
    """The root folder is a mount point."""
    assert "/" in mount_points()
    assert "/proc" in mount_points()


def test_the_mount_point_of_a_path() -> None:
    """A path lies on the innermost mount point above it; a sibling with the same beginning does
    not count."""
    points = ("/", "/data", "/data/big")
    for path, point in (
        ("/home/me", "/"),
        ("/data", "/data"),
        ("/data/big/x", "/data/big"),
        ("/data/bigger", "/data"),
        ("/database", "/"),
    ):
        assert mount_point_of(path, points) == point
    assert mount_point_of("/x", ()) == "/"


def test_the_other_paths_of_a_folder(tmp_path: Path) -> None:
    """A folder that is mounted a second time, or a part of it, or a folder above it, has another
    path for each; a path that shows something else does not count."""
    for name in ("home/me/venv/lib", "data/me/venv/lib", "lib", "hidden/me/venv"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("data/me/venv", "lib"):  # stand for bind mounts, which need root
        (tmp_path / name).rmdir() if name == "lib" else (tmp_path / name / "lib").rmdir()
    (tmp_path / "data" / "me" / "venv").rmdir()
    (tmp_path / "data" / "me" / "venv").symlink_to(tmp_path / "home" / "me" / "venv")
    (tmp_path / "lib").symlink_to(tmp_path / "home" / "me" / "venv" / "lib")
    mounted = (
        Mount("1:1", "/", str(tmp_path)),
        Mount("1:1", "/home", f"{tmp_path}/data"),
        Mount("1:1", "/home/me/venv/lib", f"{tmp_path}/lib"),
        Mount("1:1", "/home", f"{tmp_path}/hidden"),
        Mount("1:2", "/home", f"{tmp_path}/other"),
    )
    assert aliases(f"{tmp_path}/home/me/venv", mounted) == {
        f"{tmp_path}/data/me/venv",
        f"{tmp_path}/lib",
    }
    assert aliases(f"{tmp_path}/lib", mounted) >= {f"{tmp_path}/home/me/venv/lib"}
    assert aliases(str(tmp_path), ()) == set()


def test_the_mounts_of_a_process(tmp_path: Path) -> None:
    """Each mount has its number, that of the mount below it, and its access: read-only if the
    mount is, or all of its file system."""
    lines = (
        b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
        b"31 27 0:28 /a /data\\040x ro,nosuid master:1 shared:2 - ext4 /dev/vda rw,errors=ro-x",
        b"32 31 0:29 / /data\\040x/cd rw - iso9660 /dev/sr0 ro,relatime",
    )
    (tmp_path / "mountinfo").write_bytes(b"\n".join(lines))
    assert mounts(tmp_path / "mountinfo") == (
        Mount("254:0", "/", "/", 27, 1, False),
        Mount("0:28", "/a", "/data x", 31, 27, True),
        Mount("0:29", "/", "/data x/cd", 32, 31, True),
    )
