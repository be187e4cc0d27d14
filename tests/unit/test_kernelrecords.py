"""Whose kernel it is: records that outlive a server, and the lock that tells a living one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mooring.sessions import kernel_owners
from mooring.sessions.kernel_owners import KernelRecord, find, hold, show_in, survivors
from mooring.sessions.record import Folder

KERNEL = "0123abcd-4567-89ef-0123-456789abcdef"
RECORD = KernelRecord(
    session="0123456789ab",
    kernel_id=KERNEL,
    kernel_name="mk",
    root="/home/ada",
    cwd="/home/ada/work",
)


@pytest.fixture
def folder(state: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The folder of a session that is said to run."""
    monkeypatch.setattr("mooring.kernels.kernel.host_lives", lambda folder: True)
    made = Folder.create(RECORD.session, {"id": RECORD.session, "name": "s"})
    made.release()
    return made


def test_a_record_is_found_by_the_id_that_the_client_gave(folder: Folder) -> None:
    """What was written is read back, and the id decides, not its shortened form."""
    held = hold(RECORD)
    assert held is not None
    assert find(KERNEL) == RECORD
    assert find(KERNEL[:-1] + "0") is None
    held.forget()
    assert find(KERNEL) is None
    assert list((folder.path / "kernels").iterdir()) == []


def test_a_kernel_survives_its_server_once_nobody_answers_for_it(folder: Folder) -> None:
    """Held, it is somebody's; let go, it is there for the next server of that folder alone."""
    held = hold(RECORD)
    assert held is not None
    assert list(survivors("/home/ada")) == []
    held.release()
    assert list(survivors("/home/ada")) == [RECORD]
    assert list(survivors("/home")) == []
    taken = hold(RECORD)
    assert taken is not None
    assert hold(RECORD) is None
    taken.release()


def test_the_death_of_its_process_lets_a_kernel_go(folder: Folder) -> None:
    """A server that is killed runs no hook; the operating system frees its locks."""
    program = (
        "import dataclasses, os, sys; from mooring.sessions.kernel_owners import *\n"
        f"held = hold(KernelRecord(**{vars(RECORD)!r}))\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        assert server.stdout.readline() == b"held\n"
        assert list(survivors("/home/ada")) == []
        server.kill()
        server.wait()
    assert list(survivors("/home/ada")) == [RECORD]


def test_what_shows_a_kernel_is_written_down(folder: Folder) -> None:
    """Rows replace each other; a kernel without a record has none."""
    held = hold(RECORD)
    assert held is not None
    row = {"session_id": "s", "path": "a.ipynb", "name": "a", "type": "notebook"}
    show_in(KERNEL, [row])
    assert find(KERNEL) == replace(RECORD, rows=(row,))
    show_in(KERNEL, [])
    assert find(KERNEL) == RECORD
    show_in("ffffffff-4567-89ef-0123-456789abcdef", [row])
    held.forget()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"session": 1}', "\x00"])
def test_a_broken_record_is_none(folder: Folder, text: str) -> None:
    """A torn or foreign file is passed over."""
    (folder.path / "kernels").mkdir()
    (folder.path / "kernels" / f"{kernel_owners.short_id(KERNEL)}.json").write_text(text)
    assert find(KERNEL) is None
    assert list(survivors("/home/ada")) == []


def test_a_hold_leaves_no_descriptor_behind(folder: Folder) -> None:
    """Each way out closes the lock's file."""
    before = len(os.listdir("/proc/self/fd"))
    for end in ("release", "forget"):
        held = hold(RECORD)
        assert held is not None
        assert hold(RECORD) is None
        getattr(held, end)()
    assert len(os.listdir("/proc/self/fd")) <= before  # others may be collected
