"""Attacks through file systems that are mounted below what a session may only read.

The mooring of this user is that of ``installed_wheel``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.owner import _owner, owner
from tests.users.people import Person

__all__ = ["_owner", "owner"]

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.getuid() != 0, reason="mounting file systems needs root"),
]


class Machine:
    """Mounts file systems that everybody may write to; all are unmounted at the end."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def mount(self, point: Path, *words: str | Path) -> Path:
        """Mount an empty file system, or what ``words`` tell mount(8), at a new folder."""
        if not point.exists():
            point.mkdir(parents=True)
        self._mount(point, *(words or ("-t", "tmpfs", "-o", "mode=1777", "tmpfs")))
        self._stack.callback(self.unmount, point)
        return point

    def _mount(self, point: Path, *words: str | Path) -> None:
        done = subprocess.run(["mount", *words, point], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"file systems cannot be mounted here: {done.stderr.decode()}")

    def unmount(self, point: Path) -> None:
        if os.path.ismount(point):
            subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with contextlib.ExitStack() as stack:
        yield Machine(stack)


@pytest.fixture
def disk(tmp_path_factory: pytest.TempPathFactory, machine: Machine) -> Iterator[Path]:
    """A file system of its own, as data lie on, that everybody may read."""
    folder = Path("/srv") / f"mt-{os.getpid()}"
    folder.mkdir()
    machine.mount(folder)
    yield folder
    machine.unmount(folder)
    folder.rmdir()


def create(owner: Person, *words: str | Path, image: str = "host") -> None:
    flags = ["--name", "s", "--image", image, "--pull", "never"]
    owner.mooring("create", *flags, *words, "-d", "--", "sleep", "300")


def write(owner: Person, *paths: Path | str) -> str:
    """What comes of writing a file in folders of the session: a line each."""
    script = "; ".join(f"(: >'{path}/x') 2>/dev/null && echo wrote '{path}'" for path in paths)
    return owner.mooring("exec", "s", "--", "sh", "-c", script, check=None).stdout


@pytest.fixture(params=["host", "other"])
def image(request: pytest.FixtureRequest, bare_image: str) -> str:
    return bare_image if request.param == "other" else "host"


def test_file_systems_below_an_input_are_read_only(
    owner: Person, machine: Machine, disk: Path, image: str
) -> None:
    """Every file system below an input is read-only, also one below another, a folder that is
    mounted once more, one over a file, and one with odd characters in its name."""
    top = disk / "data"
    machine.mount(top / "sub")
    machine.mount(top / "sub" / "er" / "most")
    machine.mount(top / "a \\ and  spaces")
    machine.mount(top / "again", "--bind", machine.mount(disk / "elsewhere"))
    (top / "file").touch(0o666)
    (disk / "elsewhere" / "content").touch(0o666)
    (disk / "elsewhere" / "content").chmod(0o666)
    machine.mount(top / "file", "--bind", disk / "elsewhere" / "content")
    create(owner, "--input", f"data={top}", image=image)
    places = ["", "/sub", "/sub/er/most", "/again", "/a \\ and  spaces"]
    assert write(owner, *(f"/mnt/inputs/data{place}" for place in places)) == ""
    script = "echo x >/mnt/inputs/data/file; cat /proc/mounts"
    told = owner.mooring("exec", "s", "--", "sh", "-c", script, check=None)
    rows = [line.split() for line in told.stdout.splitlines() if "/mnt/inputs" in line]
    on_top = {point: options for _, point, _, options, *_ in rows}  # the last one at each point
    assert len(on_top) == 6
    assert {options.split(",")[0] for options in on_top.values()} == {"ro"}
    assert (disk / "elsewhere" / "content").read_text() == ""
    assert not list(disk.rglob("x"))


def test_file_systems_below_an_output_are_as_they_are(
    owner: Person, machine: Machine, disk: Path
) -> None:
    """What is mounted below an output or the project stays writable."""
    machine.mount(disk / "out" / "sub")
    create(owner, "--output", f"out={disk / 'out'}")
    assert "wrote" in write(owner, "/mnt/outputs/out/sub")
    assert (disk / "out" / "sub" / "x").stat().st_uid == owner.uid


def test_file_systems_below_this_machines_software_are_read_only(
    owner: Person, machine: Machine
) -> None:
    """What is mounted below /opt and the Python environment cannot be written to in a session of
    the host image."""
    folders = [Path("/opt") / f"mt-{os.getpid()}", owner.wheel.path / "share" / "mt-data"]
    try:
        for folder in folders:
            machine.mount(folder)
        create(owner)
        assert write(owner, *folders) == ""
    finally:
        for folder in folders:
            machine.unmount(folder)
            folder.rmdir()


def test_an_input_whose_file_system_is_gone_is_not_empty(
    owner: Person, machine: Machine, disk: Path
) -> None:
    """A session does not start over an input whose file system, or one below it, was unmounted;
    it does when that is mounted again."""
    sub = machine.mount(disk / "data" / "sub")
    for point, source in ((sub, disk / "data"), (sub, sub)):
        create(owner, "--input", f"data={source}")
        owner.mooring("stop", "s")
        machine.unmount(point)
        told = owner.mooring("start", "s", check=1).stderr
        assert f"the file system at {point}, which the session mounts, is not mounted" in told
        assert "hint: mount it" in told
        machine.mount(point)
        owner.mooring("start", "s")
        owner.mooring("rm", "-f", "s")


def test_a_file_system_that_is_mounted_later_is_not_writable(
    owner: Person, machine: Machine, disk: Path
) -> None:
    """A session whose input has another file system below it since does not start; what is mounted
    while it runs is not seen."""
    (disk / "data" / "later").mkdir(parents=True)
    create(owner, "--input", f"data={disk / 'data'}")
    machine.mount(disk / "data" / "later")
    assert write(owner, "/mnt/inputs/data/later") == ""
    owner.mooring("stop", "s")
    told = owner.mooring("start", "s", check=1).stderr
    assert f"the file system at {disk}/data/later was mounted below" in told
    machine.unmount(disk / "data" / "later")
    owner.mooring("start", "s")


def test_a_file_system_that_cannot_be_checked_is_an_error(
    owner: Person, machine: Machine, disk: Path
) -> None:
    """An input with a file system that the user cannot reach is refused, because nobody could tell
    whether it is read-only; so is one whose name cannot be printed."""
    (disk / "data" / "closed").mkdir(parents=True)
    machine.mount(disk / "data" / "closed" / "inner")
    (disk / "data" / "closed").chmod(0o700)
    words = ["create", "--input", f"data={disk / 'data'}", "-d", "--", "true"]
    told = owner.mooring(*words, check=1).stderr
    assert f"contains the file system '{disk}/data/closed/inner', which cannot be accessed" in told
    machine.unmount(disk / "data" / "closed" / "inner")
    machine.mount(disk / "data" / "a\ttab")
    assert "has unprintable characters in its name" in owner.mooring(*words, check=1).stderr
