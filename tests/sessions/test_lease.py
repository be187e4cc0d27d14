"""Leases: who answers for a session, told by locks that die with their holders."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.host.boot import uptime
from mooring.sessions import lease
from mooring.sessions.folder import SessionFolder
from mooring.sessions.lease import Lease

KEY = {"client": "1:1", "cwd": "/w"}


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Does something in a process of its own, which then lives until it is killed."""
    pids: list[int] = []

    def start(what: Callable[[], object]) -> int:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                kept = what()
                os.write(writing, b"x" if kept is not False else b"-")
                signal.pause()
            finally:
                os._exit(1)
        os.close(writing)
        assert os.read(reading, 1) == b"x"
        os.close(reading)
        pids.append(pid)
        return pid

    yield start
    for pid in pids:
        try:
            kill(pid)
        except (ProcessLookupError, ChildProcessError):
            continue


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


Elsewhere = Callable[[Callable[[], object]], int]


def test_a_session_without_a_lease_is_nobodys_business(folder: SessionFolder) -> None:
    """Sessions that no launcher made are neither taken nor abandoned."""
    assert lease.key_of(folder) is None
    assert lease.holder_of(folder) == ""
    assert Lease.take(folder) is None
    assert lease.abandoned(folder) is None


def test_held_until_its_holder_dies(folder: SessionFolder, elsewhere: Elsewhere) -> None:
    """While the holder lives nobody else gets it; kill -9 frees it."""
    pid = elsewhere(lambda: Lease.make(folder, key=KEY, holder="1:2"))
    assert lease.key_of(folder) == KEY
    assert lease.holder_of(folder) == "1:2"
    assert Lease.take(folder, key=KEY) is None
    assert lease.abandoned(folder) is None
    kill(pid)
    taken = Lease.take(folder, key=KEY)
    assert taken is not None
    assert lease.holder_of(folder) == "1:2"
    taken.hand_to("me")
    assert lease.holder_of(folder) == "me"
    assert lease.key_of(folder) == KEY
    taken.release()
    taken.release()


def test_a_holder_that_is_about_to_leave_says_so(folder: SessionFolder) -> None:
    """Who waits for a lease knows whether it is worth it; a new holder starts anew."""
    held = Lease.make(folder, key=KEY, holder="1:2")
    assert lease.left_at(folder) is None
    held.announce()
    left = lease.left_at(folder)
    assert left is not None
    assert 0 <= uptime() - left < 5
    assert (lease.holder_of(folder), lease.key_of(folder)) == ("1:2", KEY)
    held.release()
    taken = Lease.take(folder, key=KEY)
    assert taken is not None
    taken.hand_to("me")
    assert lease.left_at(folder) is None
    taken.release()


def test_the_kernels_that_it_was_held_for(folder: SessionFolder) -> None:
    """All of them are remembered, over every holder: none of them is somebody else's."""
    held = Lease.make(folder, key=KEY, holder="1:2", kernel="a")
    held.announce()
    held.release()
    taken = Lease.take(folder, key=KEY)
    assert taken is not None
    taken.hand_to("me", "b")
    assert taken.kernels == ["a", "b"]
    taken.release()


def test_dissolved_it_is_nobodys_any_more(folder: SessionFolder) -> None:
    """After that nobody takes it, not even who had opened its file before, and it is not left."""
    held = Lease.make(folder, key=KEY, holder="1:2")
    descriptor = os.open(folder.path / "lease", os.O_RDWR)
    held.dissolve()
    assert not (folder.path / "lease").exists()
    assert Lease.take(folder) is None
    assert lease.abandoned(folder) is None
    assert lease.holder_of(folder) == ""
    os.close(descriptor)


def test_only_for_the_same_key(folder: SessionFolder) -> None:
    """Another client, folder or kernelspec does not take it over."""
    Lease.make(folder, key=KEY, holder="1:2").release()
    assert Lease.take(folder, key=KEY | {"cwd": "/other"}) is None
    assert lease.holder_of(folder) == "1:2"
    taken = Lease.take(folder, key=KEY)
    assert taken is not None
    taken.release()


def test_a_keeper_answers_for_it(folder: SessionFolder, elsewhere: Elsewhere) -> None:
    """One whose launcher is dead is abandoned only when its keepers are dead, too."""
    Lease.make(folder, key=KEY, holder="1:2").release()
    keepers = [elsewhere(lambda: lease.keep(folder)) for _ in range(2)]
    for pid in keepers:
        assert lease.abandoned(folder) is None
        kill(pid)
    held = lease.abandoned(folder)
    assert held is not None
    assert Lease.take(folder) is None, "it is held while it is being removed"
    held.release()


def test_a_reader_never_sees_half_a_change(folder: SessionFolder) -> None:
    """Between the write and the cut what is read is the new text, not nothing."""
    Lease.make(folder, key=KEY, holder="a" * 50).release()
    long = (folder.path / "lease").read_text()
    taken = Lease.take(folder, key=KEY)
    assert taken is not None
    taken.hand_to("me")
    taken.release()
    short = (folder.path / "lease").read_text()
    (folder.path / "lease").write_text(short + long[len(short) :])
    assert (lease.key_of(folder), lease.holder_of(folder)) == (KEY, "me")


def test_a_lease_that_makes_no_sense(folder: SessionFolder, state: Path) -> None:
    """A file that was cut off is a lease of nobody's: the reconciler may have it."""
    (folder.path / "lease").write_text('{"key": ')
    assert lease.key_of(folder) is None
    assert Lease.take(folder, key=KEY) is None
    held = lease.abandoned(folder)
    assert held is not None
    held.release()
