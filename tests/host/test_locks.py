"""Locks between processes."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.errors import SessionTimeout
from mooring.host import locks

Hold = Callable[[Path], Callable[[], None]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def hold() -> Iterator[Hold]:
    """``hold(path)``: another process locks a file or folder; call the result to kill it."""
    children: list[int] = []

    def end(child: int) -> None:
        children.remove(child)
        os.kill(child, 9)
        os.waitpid(child, 0)

    def start(path: Path) -> Callable[[], None]:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            with locks.locked(path):
                os.write(writer, b".")
                time.sleep(60)
            os._exit(0)
        children.append(child)
        os.read(reader, 1)
        os.close(reader)
        os.close(writer)
        return lambda: end(child)

    yield start
    for child in [*children]:
        end(child)


def refused(path: Path) -> bool:
    """Whether a lock cannot be had at once."""
    try:
        with locks.locked(path, timeout_s=0):
            return False
    except SessionTimeout:
        return True


def test_one_process_at_a_time(path: Path, hold: Hold) -> None:
    """A lock that another process holds is refused, and free again when that process dies."""
    end = hold(path)
    assert refused(path)
    assert locks.is_held(path)
    end()
    assert not refused(path)
    assert not locks.is_held(path)


def test_one_thread_at_a_time(path: Path) -> None:
    """Two threads of one process exclude each other too."""
    with locks.locked(path):
        assert refused(path)
    assert not refused(path)


def test_a_folder_is_locked_like_a_file(tmp_path: Path, hold: Hold) -> None:
    """A folder needs no file of its own to be locked, and gets none."""
    hold(tmp_path)
    assert refused(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_follows_a_renamed_file(path: Path, hold: Hold) -> None:
    """The lock belongs to the file and not to its name."""
    hold(path)
    renamed = path.rename(path.with_name("renamed"))
    assert locks.is_held(renamed)
    assert not refused(path)


def test_the_file_is_private(path: Path) -> None:
    """A file that is made to be locked is empty and its owner's alone."""
    with locks.locked(path):
        pass
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b""


def test_a_missing_file_is_made_only_if_asked(path: Path) -> None:
    """With ``create=False`` what is not there is an error, and still not there afterwards."""
    with pytest.raises(FileNotFoundError), locks.locked(path, create=False):
        pass
    assert not path.exists()
    path.touch()
    with locks.locked(path, create=False):
        assert refused(path)


def test_a_wait_ends_when_the_lock_is_free(path: Path) -> None:
    """A waiting thread gets the lock as soon as its holder releases it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(locks.locked(path))
        threading.Timer(0.05, stack.pop_all().close).start()
        with locks.locked(path, timeout_s=10):
            assert refused(path)


def test_a_wait_has_an_end(path: Path) -> None:
    """A lock that is not free in time is a SessionTimeout that names the file and how to look."""
    second = locks.locked(path, timeout_s=0.01)
    with locks.locked(path), pytest.raises(SessionTimeout, match=str(path)) as caught, second:
        pass
    assert "fuser" in caught.value.hint


def test_a_wait_can_be_cancelled(path: Path) -> None:
    """The caller is asked while it waits, and ends the wait by returning True."""
    answers = iter([False, False, True])
    second = locks.locked(path, cancelled=lambda: next(answers))
    with locks.locked(path), pytest.raises(SessionTimeout), second:
        pass
    assert list(answers) == []


def test_a_block_that_fails_releases_the_lock(path: Path) -> None:
    """Whatever is raised inside, the lock is free afterwards and no descriptor is left."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError), locks.locked(path):
        raise ZeroDivisionError
    assert not refused(path)
    assert len(os.listdir("/proc/self/fd")) <= before  # others may be collected meanwhile


def test_asking_changes_nothing(path: Path) -> None:
    """Neither question for a holder takes the lock, and two that ask at once see no holder."""
    path.touch()
    with path.open() as first, path.open() as second:
        assert locks.lock(first.fileno(), shared=True)  # as one that asks has it for a moment
        assert not locks.is_locked(second.fileno())
        assert not locks.is_held(path)
        locks.lock(first.fileno())
        assert locks.is_locked(second.fileno())
    assert not refused(path)


def test_a_missing_file_has_no_holder(path: Path) -> None:
    """Asking for the holder of a file that is not there is no error, and makes no file."""
    assert not locks.is_held(path)
    assert not path.exists()


def test_shared_holders_exclude_one_that_wants_it_alone(path: Path) -> None:
    """Several hold a lock shared; meanwhile nobody holds it alone."""
    path.touch()
    with path.open() as first, path.open() as second, path.open() as third:
        assert locks.lock(first.fileno(), shared=True, wait=False)
        assert locks.lock(second.fileno(), shared=True, wait=False)
        assert not locks.lock(third.fileno(), wait=False)


def test_a_temporary_lock(path: Path) -> None:
    """One holder at a time, also while holders delete the file; nothing is left, not even after an
    exception."""
    inside, most, rounds = [0], [0], 40
    guard = threading.Lock()

    def enter() -> None:
        for _ in range(rounds):
            with locks.temporarily_locked(path):
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                os.sched_yield()
                with guard:
                    inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert not path.exists()
    with pytest.raises(ZeroDivisionError), locks.temporarily_locked(path):
        raise ZeroDivisionError
    assert not path.exists()


def test_a_temporary_lock_that_is_held(path: Path, hold: Hold) -> None:
    """It is waited for as long as was said, and free when its holder was killed."""
    release = hold(path)
    with pytest.raises(SessionTimeout), locks.temporarily_locked(path, timeout_s=0):
        pass
    release()
    with locks.temporarily_locked(path, timeout_s=0):
        assert path.exists()
    assert not path.exists()
