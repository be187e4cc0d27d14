"""Trees that a session may have written: any depth, any mode, and links that lead out."""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.host import trees

NOBODY = 65534


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Path]:
    """A folder, deleted at the end by a program that can."""
    folder = tmp_path / "ground"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """No more than forty more file descriptors than there are."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + 80, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def chain(folder: Path, depth: int, mode: int = 0o700) -> None:
    """Folders in folders, as ``mkdir d; cd d`` makes them, with a file in the last one."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", 0o700, dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.fchmod(here, mode if here != below else 0o700)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.fchmod(here, mode)
    os.close(here)


@pytest.mark.usefixtures("few_descriptors")
@pytest.mark.parametrize("depth", [1_100, 10_000])
def test_a_deep_tree_goes(ground: Path, depth: int) -> None:
    """A tree deeper than the stack, than a path and than there are descriptors is deleted."""
    chain(ground, depth)
    trees.remove_path(ground / "d")
    assert list(ground.iterdir()) == []


def test_a_wide_tree_goes(ground: Path) -> None:
    """Many folders with many in them: each level at once is moved up, and nothing is forgotten."""
    for first in range(30):
        for second in range(30):
            folder = ground / "top" / str(first) / str(second) / "x"
            folder.mkdir(parents=True)
            (folder / "file").touch()
    trees.remove_path(ground / "top")
    assert list(ground.iterdir()) == []


def as_nobody(action: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a function of ``trees`` on a folder as a user whom modes stop."""
    program = (
        "import os, sys; from pathlib import Path; from mooring.host import trees; "
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
        f"trees.{action}(Path(sys.argv[1]))"
    )
    words = [sys.executable, "-c", program, str(folder)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def theirs(ground: Path) -> Path:
    """A folder of an ordinary user's, reachable for them."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    for folder in (ground, *ground.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    folder = ground / "theirs"
    folder.mkdir()
    return folder


def own(*paths: Path) -> None:
    for path in paths:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o400, 0o500])
def test_closed_folders_go(theirs: Path, mode: int) -> None:
    """Folders that their owner may not list, enter or write to are deleted for the owner."""
    closed = theirs / "top" / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "inner" / "file").touch()
    own(theirs, theirs / "top", closed, closed / "inner", closed / "inner" / "file")
    for folder in (closed / "inner", closed, theirs / "top"):
        folder.chmod(mode)
    done = as_nobody("remove_path", theirs / "top")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(theirs.iterdir()) == []


def test_a_foreign_file_costs_itself_only(theirs: Path) -> None:
    """What belongs to another user remains, is told once, and everything else goes."""
    top = theirs / "top"
    (top / "a" / "foreign").mkdir(parents=True)
    (top / "a" / "foreign" / "file").touch()
    (top / "empty").mkdir()
    for name in ("0", "z"):
        (top / name).mkdir()
        (top / name / "file").touch()
    own(theirs, top, top / "a", *(top / name for name in ("0", "z")))
    done = as_nobody("remove_path", top)
    assert done.returncode == 1
    assert "PermissionError" in done.stderr
    left = {path.name for path in top.rglob("*")}
    assert left == {"a", "foreign", "file"}


def test_no_link_is_followed(ground: Path) -> None:
    """Links are deleted, as the first entry and below, and what they lead to stays."""
    outside = ground / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (ground / "top").mkdir()
    for link in (ground / "link", ground / "top" / "link"):
        link.symlink_to(outside)
        trees.remove_path(link.parent if link.parent != ground else link)
    assert (outside / "file").exists()
    assert [path.name for path in ground.iterdir()] == ["outside"]


def test_a_tree_that_grows_ends_a_deletion(ground: Path) -> None:
    """A process that creates files as fast as they are deleted delays nobody for ever."""
    (ground / "top").mkdir()
    ended = threading.Event()

    def grow() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            try:
                (ground / "top" / f"{number}").mkdir()
            except OSError:
                (ground / "top").mkdir(exist_ok=True)

    growing = threading.Thread(target=grow)
    growing.start()
    above = os.open(ground, os.O_RDONLY)
    began = time.monotonic()
    try:
        for _ in range(3):
            with contextlib.suppress(OSError):
                trees.remove(above, "top", timeout_s=0.2)
        assert time.monotonic() - began < 10
    finally:
        ended.set()
        growing.join()
        os.close(above)


def test_two_may_delete_at_once(ground: Path) -> None:
    """What another process deletes meanwhile is no error."""
    for number in range(300):
        (ground / "top" / str(number) / "x" / "y").mkdir(parents=True)
    errors: list[BaseException] = []

    def delete() -> None:
        try:
            trees.remove_path(ground / "top")
        except BaseException as error:
            errors.append(error)

    deleting = [threading.Thread(target=delete) for _ in range(3)]
    for one in deleting:
        one.start()
    for one in deleting:
        one.join()
    assert errors == []
    assert not (ground / "top").exists()


@pytest.mark.usefixtures("few_descriptors")
def test_a_walk_comes_back_from_any_depth(ground: Path) -> None:
    """Folders that were closed on the way down are found again on the way up."""
    chain(ground, 5_000)
    above = os.open(ground, os.O_RDONLY)
    with trees.Cursor(above) as cursor:
        for _ in range(2):
            for _ in range(5_000):
                cursor.down("d")
            assert cursor.names() == ["file"]
            for _ in range(5_000):
                cursor.up()
            assert os.path.sameopenfile(cursor.folder, above)
    os.close(above)


def come_up(cursor: trees.Cursor, steps: int) -> None:
    for _ in range(steps):
        cursor.up()


def test_a_folder_moved_away_leads_nowhere(ground: Path) -> None:
    """A walk does not come up in another folder than the one that it went down from."""
    chain(ground, 100)
    (ground / "other").mkdir()
    above = os.open(ground, os.O_RDONLY)
    with trees.Cursor(above) as cursor:
        for _ in range(100):
            cursor.down("d")
        way = ground.joinpath(*["d"] * 50)
        way.rename(ground / "other" / "moved")
        with pytest.raises(OSError, match="was moved"):
            come_up(cursor, 100)
    os.close(above)


@pytest.mark.usefixtures("few_descriptors")
def test_a_copy_is_whole_and_follows_nothing(ground: Path) -> None:
    """Modes, times and links are copied at any depth; bits that give rights are not."""
    source = ground / "source"
    source.mkdir()
    chain(source, 1_100)
    (source / "program").write_bytes(b"x" * 100_000)
    (source / "program").chmod(0o6755)
    (source / "link").symlink_to("/etc/shadow")
    os.utime(source / "program", (1, 2))
    (source / "d").chmod(0o500)
    above = os.open(ground, os.O_RDONLY)
    trees.copy(above, "source", above, "copied")
    os.close(above)
    copied = ground / "copied"
    assert (copied / "program").read_bytes() == b"x" * 100_000
    info = (copied / "program").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime) == (0o755, 2)
    assert os.readlink(copied / "link") == "/etc/shadow"
    assert stat.S_IMODE((copied / "d").stat().st_mode) == 0o500
    with trees.Cursor(os.open(copied, os.O_RDONLY)) as cursor:
        for _ in range(1_100):
            cursor.down("d")
        assert cursor.names() == ["file"]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_special_file_is_not_copied(ground: Path, kind: str) -> None:
    """A pipe blocks no copy: it is refused by name."""
    os.mknod(ground / "odd", {"pipe": stat.S_IFIFO, "socket": stat.S_IFSOCK}[kind] | 0o600)
    above = os.open(ground, os.O_RDONLY)
    with pytest.raises(OSError, match=r"odd|No such device"):
        trees.copy(above, "odd", above, "copied")
    os.close(above)
