"""The session's side of cp, in three shells: what it puts in place, and what it leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from importlib import resources
from pathlib import Path

import pytest

from mooring.files.pack import header, opened, pack

SCRIPT = (resources.files("mooring") / "guest" / "copy.sh").read_text()
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
DRAFT = ".mooring-cp-01234567"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    found = SHELLS[request.param]
    if shutil.which(found[0]) is None:
        pytest.skip(f"{found[0]} is not installed")
    return found


def run(shell: list[str], *words: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    argv = [*shell, "-c", SCRIPT, "copy", *map(str, words)]
    return subprocess.run(argv, input=data, capture_output=True, timeout=20, check=False)


def tree(root: Path, *names: str) -> None:
    """Files below a folder; a name with a slash at its end is a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text(root.name)


def stream(root: Path) -> bytes:
    """What mooring sends of a folder: x, then done."""
    above, name = opened(str(root))
    try:
        packed = pack(above, name, "x", warn=print, progress=lambda done: None)
        done = header("done", tarfile.REGTYPE, os.stat(os.devnull))
        return b"".join((*packed, done, bytes(1024)))
    finally:
        os.close(above)


@pytest.mark.parametrize("how", ["a file for a folder", "a folder for a file"])
def test_a_merge_that_cannot_go_on_to_its_end_does_not_begin(
    shell: list[str], tmp_path: Path, how: str
) -> None:
    """Where kinds do not agree, however deep, nothing of a copy is put in place, nor left."""
    here, there = "m", "m/"
    if how == "a folder for a file":
        here, there = there, here
    tree(tmp_path / "new", "a", f"d/{here}", "d/z", "z", ".hidden")
    tree(tmp_path / "old", "a", f"d/{there}")
    data = stream(tmp_path / "new")
    done = run(shell, "unpack", tmp_path / "old", DRAFT, ".", data=data)
    assert done.returncode != 0
    assert b"d/m is " in done.stderr
    assert sorted(os.listdir(tmp_path / "old")) == ["a", "d"]
    assert os.listdir(tmp_path / "old" / "d") == ["m"]
    assert (tmp_path / "old" / "a").read_text() == "old"


def test_folders_are_merged_and_links_give_way(shell: list[str], tmp_path: Path) -> None:
    """A merge replaces files and links, keeps what else is there, and follows no link."""
    tree(tmp_path / "new", "a", "d/b", "d/locked/c", "link/e", ".hidden", "f")
    (tmp_path / "new" / "d" / "locked").chmod(0o500)
    tree(tmp_path / "old", "a", "d/kept")
    tree(tmp_path / "outside", "kept")
    (tmp_path / "old" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "old" / "f").symlink_to(tmp_path / "outside")
    data = stream(tmp_path / "new")
    run(shell, "unpack", tmp_path / "old", DRAFT, ".", data=data).check_returncode()
    found = {str(path.relative_to(tmp_path / "old")) for path in (tmp_path / "old").rglob("*")}
    assert found == {
        "a", "d", "d/b", "d/kept", "d/locked", "d/locked/c", "link", "link/e", ".hidden", "f",
    }  # fmt: skip
    assert not (tmp_path / "old" / "link").is_symlink()
    assert (tmp_path / "old" / "a").read_text() == "new"
    # busybox's tar gives a folder that exists another mode only as root
    writable = shell[0] == "busybox" and os.getuid() != 0
    mode = (tmp_path / "old" / "d" / "locked").stat().st_mode & 0o777
    assert mode == (0o700 if writable else 0o500)
    assert os.listdir(tmp_path / "outside") == ["kept"]


def test_what_a_killed_copy_left_goes_a_day_later(shell: list[str], tmp_path: Path) -> None:
    """An old draft goes with the next copy to its folder; one in use, and all else, does not."""
    old, used, alike = (tmp_path / f".mooring-cp-{name}" for name in ("0ld0ld0l", "u5edu5ed", "x"))
    for folder in (old, used, alike):
        tree(folder, "x/file")
        os.utime(folder, (time.time() - 2 * 86400,) * 2)
    os.utime(used)
    tree(tmp_path / "new", "file")
    data = stream(tmp_path / "new")
    run(shell, "unpack", tmp_path, DRAFT, "name", data=data).check_returncode()
    assert sorted(os.listdir(tmp_path)) == sorted([used.name, alike.name, "name", "new"])


def test_busybox_alone_is_tar_enough(tmp_path: Path) -> None:
    """An image with busybox and no link named tar packs and unpacks; one with neither says so."""
    busybox, dash, tools = shutil.which("busybox"), shutil.which("dash"), tmp_path / "bin"
    if busybox is None or dash is None:
        pytest.skip("busybox or dash is not installed")
    tools.mkdir()
    for name in ("mkdir", "mv", "rm", "chmod"):
        (tools / name).symlink_to(busybox)

    def look() -> str:
        argv = [dash, "-c", SCRIPT, "copy", "look", str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, env={"PATH": str(tools)}, check=True)
        return done.stdout.decode()

    assert look() == "folder folder folder none\n"
    (tools / "busybox").symlink_to(busybox)
    assert look() == "folder folder folder tar\n"
    tree(tmp_path / "new", "file")
    (tmp_path / "old").mkdir()
    argv = [dash, "-c", SCRIPT, "copy", "unpack", str(tmp_path / "old"), DRAFT, "x"]
    subprocess.run(argv, input=stream(tmp_path / "new"), env={"PATH": str(tools)}, check=True)
    assert os.listdir(tmp_path / "old" / "x") == ["file"]
