"""Whose kernel it is: records that outlive a server, and the lock that tells a living one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mooring.host.paths import Installation
from mooring.sessions import kernel_owners
from mooring.sessions.folder import SessionFolder
from mooring.sessions.kernel_owners import KernelOwners, KernelRecord
from tests.support.sessions import ID, make_folder

KERNEL = "0123abcd-4567-89ef-0123-456789abcdef"
RECORD = KernelRecord(
    session=ID,
    kernel_id=KERNEL,
    kernel_name="mk",
    root="/home/ada",
    cwd="/home/ada/work",
)


@pytest.fixture
def folder(folder: SessionFolder, monkeypatch: pytest.MonkeyPatch) -> SessionFolder:
    """The folder of a session that is said to run."""
    monkeypatch.setattr("mooring.kernels.kernelhost.host_lives", lambda run: True)
    return folder


@pytest.fixture
def owners(state: Path) -> KernelOwners:
    return KernelOwners(Installation.here())


def test_a_record_is_found_by_the_id_that_the_client_gave(
    folder: SessionFolder, owners: KernelOwners
) -> None:
    """What was written is read back, and the id decides, not its shortened form."""
    held = owners.own(RECORD)
    assert held is not None
    assert owners.find(KERNEL) == RECORD
    assert owners.find(KERNEL[:-1] + "0") is None
    held.forget()
    assert owners.find(KERNEL) is None
    assert list((folder.path / "kernels").iterdir()) == []


def test_a_kernel_belongs_to_the_session_of_its_record(
    folder: SessionFolder, owners: KernelOwners
) -> None:
    """A folder of that name, which code in a session can create, proves nothing."""
    other = make_folder("a" * 12, "other")
    other.release()
    other.guest.make_folder(f"k/{kernel_owners.short_id(KERNEL)}")
    assert not owners.belongs_to(KERNEL, other.id)
    held = owners.own(RECORD)
    assert held is not None
    assert owners.belongs_to(KERNEL, RECORD.session)
    assert not owners.belongs_to(KERNEL, other.id)
    held.forget()


def test_a_kernel_survives_its_server_once_nobody_answers_for_it(
    folder: SessionFolder, owners: KernelOwners
) -> None:
    """Held, it is somebody's; let go, it is there for the next server of that folder alone."""
    held = owners.own(RECORD)
    assert held is not None
    assert list(owners.orphaned()) == []
    held.release()
    assert list(owners.orphaned()) == [RECORD]
    taken = owners.own(RECORD)
    assert taken is not None
    assert owners.own(RECORD) is None
    taken.release()


def test_the_death_of_its_process_lets_a_kernel_go(
    folder: SessionFolder, owners: KernelOwners
) -> None:
    """A server that is killed runs no hook; the operating system frees its locks."""
    program = (
        "import dataclasses, os, sys; from mooring.sessions.kernel_owners import *\n"
        f"held = KernelOwners(Installation.here()).own(KernelRecord(**{vars(RECORD)!r}))\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        assert server.stdout.readline() == b"held\n"
        assert list(owners.orphaned()) == []
        server.kill()
        server.wait()
    assert list(owners.orphaned()) == [RECORD]


def test_what_shows_a_kernel_is_written_down(folder: SessionFolder, owners: KernelOwners) -> None:
    """Rows replace each other; a kernel without a record has none."""
    held = owners.own(RECORD)
    assert held is not None
    row = {"session_id": "s", "path": "a.ipynb", "name": "a", "type": "notebook"}
    owners.show_in(KERNEL, [row])
    assert owners.find(KERNEL) == replace(RECORD, rows=(row,))
    owners.show_in(KERNEL, [])
    assert owners.find(KERNEL) == RECORD
    owners.show_in("ffffffff-4567-89ef-0123-456789abcdef", [row])
    held.forget()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"session": 1}', "\x00"])
def test_a_broken_record_is_none(folder: SessionFolder, owners: KernelOwners, text: str) -> None:
    """A torn or foreign file is passed over."""
    (folder.path / "kernels").mkdir()
    (folder.path / "kernels" / f"{kernel_owners.short_id(KERNEL)}.json").write_text(text)
    assert owners.find(KERNEL) is None
    assert list(owners.orphaned()) == []


def test_a_hold_leaves_no_descriptor_behind(folder: SessionFolder, owners: KernelOwners) -> None:
    """Each way out closes the lock's file."""
    before = len(os.listdir("/proc/self/fd"))
    for end in ("release", "forget"):
        held = owners.own(RECORD)
        assert held is not None
        assert owners.own(RECORD) is None
        getattr(held, end)()
    assert len(os.listdir("/proc/self/fd")) <= before  # others may be collected


def test_a_forked_process_owns_nothing_of_its_parents(
    folder: SessionFolder, owners: KernelOwners
) -> None:
    """A child that outlives the owner does not keep the kernel from the next one."""
    held = owners.own(RECORD)
    assert held is not None
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        theirs.send(b"n" if held.held else b"y")
        theirs.recv(1)  # until the parent has looked
        os._exit(0)
    theirs.close()
    assert ours.recv(1) == b"y"
    assert held.held
    held.release()
    taken = owners.take(RECORD)
    assert taken is not None, "while the child lives"
    taken.release()
    ours.close()
    os.waitpid(child, 0)


ROW = {"session_id": "s", "path": "work/a.ipynb", "name": "a", "type": "notebook"}
OTHER = ROW | {"path": "b.ipynb"}


@pytest.mark.parametrize(
    ("rows", "root", "paths"),
    [
        ([ROW, OTHER], "/home/ada", ["work/a.ipynb", "b.ipynb"]),
        ([ROW, OTHER], "/home", ["ada/work/a.ipynb", "ada/b.ipynb"]),
        ([ROW, OTHER], "/home/ada/work", ["a.ipynb"]),
        ([OTHER], "/home/ada/work", None),
        ([ROW], "/home/ad", None),
        ([], "/home", []),
        ([], "/home/ada/work", None),
    ],
)
def test_a_kernel_is_where_its_notebooks_are(
    rows: list[dict[str, str]], root: str, paths: list[str] | None
) -> None:
    """A server of another folder finds the same files under other paths, or not at all."""
    found = replace(RECORD, rows=tuple(rows)).seen_from(root)
    assert (found and [row["path"] for row in found.rows]) == paths
    assert found is None or found.root == root


def test_a_folder_is_the_same_under_another_name(tmp_path: Path) -> None:
    """A link to the root folder, and links below it, change no path."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "work").symlink_to("/elsewhere")
    record = replace(RECORD, root=str(tmp_path / "real"), rows=(ROW,))
    assert record.seen_from(str(tmp_path / "link")) == replace(record, root=str(tmp_path / "link"))
