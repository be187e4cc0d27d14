"""The place of the GPU queue: one for all users and versions, and refused if a stranger made it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mooring.errors import EngineError
from mooring.gpus import place
from mooring.gpus.tickets import open_ticket_queue

STRANGER = 65534
GROUP = 12345  # the engine's, which the stranger is not in


@pytest.fixture
def address(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an engine whose socket a group may use."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to a group that it is not in")
    monkeypatch.setattr(place, "SHARED_FOLDERS", (str(tmp_path / "lock"),))
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock").chmod(0o1777)
    socket = tmp_path / "docker.sock"
    socket.touch()
    socket.chmod(0o660)
    os.chown(socket, 0, GROUP)
    return f"unix://{socket}"


def folder_of(address: str) -> Path:
    shared = place.shared_place(address)
    assert shared is not None
    return shared.folder


def make_folder(path: Path) -> None:
    path.mkdir(mode=0o777)
    os.chown(path, STRANGER, STRANGER)


def make_open_folder(path: Path) -> None:
    path.mkdir()
    os.chown(path, STRANGER, STRANGER)
    path.chmod(0o3777)


def make_file(path: Path) -> None:
    path.write_text("mine")
    os.chown(path, STRANGER, STRANGER)


def make_link(path: Path) -> None:
    (path.parent / "theirs").mkdir(mode=0o3770)
    path.symlink_to(path.parent / "theirs")
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)
    os.chown(path, STRANGER, STRANGER)


SQUATTED = (make_folder, make_open_folder, make_file, make_link, make_pipe)


@pytest.mark.parametrize("squat", SQUATTED)
def test_a_strangers_file_is_refused_by_name_with_what_mends_it(
    address: str, squat: Callable[[Path], None]
) -> None:
    """Whoever is not in the engine's group can take the path and cannot have the queue; the error
    names them, and after its command the queue is root's, and works."""
    folder = folder_of(address)
    squat(folder)
    with pytest.raises(EngineError) as refused:
        open_ticket_queue(address)
    assert "belongs to nobody and is not the GPU queue" in refused.value.message
    command = refused.value.hint.removeprefix("as root: ")
    subprocess.run(["sh", "-c", command], check=True)
    assert open_ticket_queue(address).folder == folder
    status = folder.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, GROUP, 0o3770)
    with open_ticket_queue(address).locked():
        pass


def test_a_stranger_who_is_faster_again_stops_the_repair(address: str, tmp_path: Path) -> None:
    """The command that mends it does not make a queue of a stranger's new folder."""
    folder = folder_of(address)
    make_folder(folder)
    with pytest.raises(EngineError) as refused:
        open_ticket_queue(address)
    command = refused.value.hint.removeprefix("as root: ").replace(
        "&& mkdir", "&& mkdir PATH && mkdir"
    )
    command = command.replace("PATH", str(folder))
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode != 0
    with pytest.raises(EngineError):
        open_ticket_queue(address)


def test_the_folder_that_root_made_is_used_as_it_is(address: str) -> None:
    """What systemd-tmpfiles creates at boot is the queue, and remains root's."""
    folder = folder_of(address)
    folder.mkdir()
    os.chown(folder, 0, GROUP)
    folder.chmod(0o3770)
    before = folder.stat().st_ino
    with open_ticket_queue(address).locked():
        pass
    assert folder.stat().st_ino == before


def test_the_place_is_that_of_every_version() -> None:
    """Two users of different versions have one queue: the path depends on the socket alone. The
    lines for tmpfiles.d name it for Docker's, under each parent that a system may have."""
    name = hashlib.sha256(b"/run/docker.sock").hexdigest()[:12]
    lines = [line for line in place.TMPFILES.read_text().splitlines() if line[:1] != "#"]
    assert lines == [
        f"d {parent}/mooring-{name} 3770 root docker -" for parent in ("/run/lock", "/var/tmp")
    ]
    assert place.SHARED_FOLDERS == ("/run/lock", "/var/lock", "/var/tmp")
    assert re.fullmatch("[0-9a-f]{12}", name)
