"""What is mounted in a container, seen from outside: a process with mounts of its own here."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.engines.mounted import _writable, mounted_at, opened_in
from mooring.host.filesystems import Mount

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts of Linux")


@pytest.fixture
def within() -> Iterator[Callable[[str], int]]:
    """Runs a shell script in a mount namespace, and returns the pid of a process that stays."""
    with contextlib.ExitStack() as stack:

        def begin(script: str) -> int:
            words = [shutil.which("unshare") or "unshare", "--mount"]
            if os.getuid():
                words += ["--user", "--map-root-user"]
            if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
                pytest.skip("no namespace of mounts can be made here")
            process = subprocess.Popen(
                [*words, "sh", "-ec", f"{script}; echo ready; exec sleep 60"],
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            assert process.stdout.readline() == "ready\n"
            return process.pid

        yield begin


def test_a_mount_has_the_identity_of_its_source(
    within: Callable[[str], int], tmp_path: Path
) -> None:
    """What another process has mounted is told by device and inode; what is not there, by None."""
    source, target = tmp_path / "source", tmp_path / "a target"
    for folder in (source, target):
        folder.mkdir()
    pid = within(f"mount --bind '{source}' '{target}'")
    seen = mounted_at(pid, [str(target), str(tmp_path / "nothing"), str(source / "x" / "y")])
    assert seen is not None
    found, *missing = seen
    assert found is not None
    assert (found.device, found.inode) == (source.stat().st_dev, source.stat().st_ino)
    assert missing == [None, None]
    assert (target.stat().st_dev, target.stat().st_ino) != (found.device, found.inode)


def test_what_can_be_written_to_is_told(within: Callable[[str], int], tmp_path: Path) -> None:
    """A read-only mount with a writable one below it is told with the path of that; what is
    mounted at another of the paths is that one's."""
    for name in ("source/sub", "plain/sub", "other/sub", "target", "fine", "split"):
        (tmp_path / name).mkdir(parents=True)
    bind = "mount --bind"
    pid = within(
        f"""cd {tmp_path}
        {bind} source target; mount -o remount,bind,ro target; mount -t tmpfs none target/sub
        {bind} plain fine; mount -o remount,bind,ro fine
        mount -t tmpfs none fine/sub; mount -o remount,bind,ro fine/sub
        {bind} other split; mount -o remount,bind,ro split; mount -t tmpfs none split/sub"""
    )
    paths = ("target", "fine", "split", "split/sub")
    seen = mounted_at(pid, [str(tmp_path / path) for path in paths])
    assert seen is not None
    below = str(tmp_path / "split" / "sub")
    assert [one and one.writable for one in seen] == [str(tmp_path / "target/sub"), "", "", below]


def test_what_is_hidden_does_not_count() -> None:
    """A bind brings a copy of each mount below its source, over which another one lies; what is
    mounted in a copy that is hidden cannot be written to. What is mounted beside it can."""

    def mount(number: int, parent: int, point: str, *, read_only: bool = False) -> Mount:
        return Mount("0:1", "/", point, number, parent, read_only)

    table = [
        mount(1, 0, "/"),
        mount(2, 1, "/data", read_only=True),
        mount(3, 2, "/data/sub"),  # the copy
        mount(4, 3, "/data/sub/deep"),  # what is mounted in it
        mount(5, 3, "/data/sub", read_only=True),  # over the copy
        mount(6, 5, "/data/sub/deep", read_only=True),
        mount(7, 1, "/other", read_only=True),
        mount(8, 7, "/other/sub"),
    ]
    assert _writable(table, {2, 5, 6, 7}) == {7: "/other/sub"}
    assert _writable([*table, mount(9, 6, "/data/sub/deep/x")], {2, 5, 6}) == {
        6: "/data/sub/deep/x"
    }


def test_a_process_that_is_gone_is_not_visible() -> None:
    """There is nothing to see of a container that has ended."""
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    assert mounted_at(process.pid, ["/"]) is None


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/folder/file", "folder/file"),
        ("/absolute/file", "folder/file"),  # a link to /folder: of that root
        ("/relative/file", "folder/file"),
        ("/chain/file", "folder/file"),
        ("/folder/up/folder/file", "folder/file"),
        ("/folder/above/folder/file", "folder/file"),  # `..` at the top stays there
        ("//folder/./file", "folder/file"),
        ("/", "."),
    ],
)
def test_links_lead_where_they_lead_inside(tmp_path: Path, path: str, inside: str) -> None:
    """A link is followed from that root folder, and never out of it."""
    root = rooted(tmp_path)
    with opened_in(root, path) as descriptor:
        found = os.fstat(descriptor)
    os.close(root)
    wanted = (tmp_path / inside).stat()
    assert (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)


@pytest.mark.parametrize("path", ["/round", "/out", "/nothing", "/folder/file/below"])
def test_what_leads_nowhere_is_an_error(tmp_path: Path, path: str) -> None:
    """Links in a circle, to a path of this machine only, and paths that do not exist."""
    root = rooted(tmp_path)
    refused = pytest.raises(OSError, match=r"Too many|No such|Not a directory")
    with refused, opened_in(root, path):
        pass
    os.close(root)


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """All descriptors on the way are closed, also after an error."""
    root = rooted(tmp_path)
    for path in ("/folder/file", "/round", "/nothing", "/folder/above/folder"):
        with contextlib.suppress(OSError), opened_in(root, path):
            pass
    os.close(root)
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            assert not os.readlink(f"/proc/self/fd/{entry}").startswith(str(tmp_path))


def rooted(folder: Path) -> int:
    """A root folder with links, and a descriptor of it."""
    (folder / "folder").mkdir()
    (folder / "folder" / "file").touch()
    links = {
        "absolute": "/folder",
        "relative": "folder",
        "chain": "relative/../absolute",
        "folder/up": "..",
        "folder/above": "../../../..",
        "round": "round",
        "out": str(folder / "folder"),
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    return os.open(folder, os.O_PATH | os.O_DIRECTORY)
