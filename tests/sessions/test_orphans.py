"""Kernels that outlive a client that is not a server."""

from __future__ import annotations

import os
from typing import Any

import pytest

from mooring import FakeEngine, LaunchOptions
from mooring.client import Mooring
from mooring.sessions import orphans
from mooring.sessions.kernel_owners import KernelRecord, Ownership
from mooring.sessions.model import Session, State
from tests.support.sessions import session_folder

KERNEL = "0123abcd-4567-89ef-0123-456789abcdef"
SHORT = "0123abcd4567"


@pytest.fixture(autouse=True)
def unused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but its kernels runs in any session."""
    monkeypatch.setattr("mooring.sessions.orphans.used_for", lambda *_: "")


def own(service: Mooring, session: Session, root: str = "") -> Ownership:
    """A kernel in a session, owned by this process."""
    handle = service.kernels.handle(session.id, SHORT)
    handle.write_connection(key=b"k", encrypt=False, kernel_name="python3")
    owned = service.kernels.owners.own(KernelRecord(session.id, KERNEL, "mk", root=root, cwd="/p"))
    assert owned is not None
    return owned


@pytest.fixture
def made(service: Mooring, declare: Any) -> Session:
    """A session that was created for a kernel."""
    options = LaunchOptions(name="made", ends_with_kernels=True)
    return service.sessions.create(declare(command="x"), options).session


def test_a_session_that_was_made_for_a_kernel_ends_with_the_client(
    service: Mooring, made: Session
) -> None:
    """Whoever lists sessions next removes it, and its history says why."""
    owned = own(service, made)
    assert [one.name for one in service.sessions.list()] == ["made"], "its client lives"
    owned.release()
    assert service.sessions.list() == []
    assert not session_folder(made.id).exists
    events = [(one.kind, one.actor, one.detail) for one in service.sessions.events(made.id)]
    assert events[-2:] == [
        ("kernel", "reconciler", f"python3 {SHORT} ended: its client has exited"),
        ("removed", "reconciler", "its client has exited"),
    ]
    past = service.sessions.past("made")
    assert past is not None
    assert past.reason == "its client has exited"


def test_another_session_loses_only_the_kernel(service: Mooring, session: Session) -> None:
    """It was not created for the kernel, and stays; so do its record and its key not."""
    own(service, session).release()
    assert [one.state for one in service.sessions.list()] == [State.RUNNING]
    assert service.kernels.owners.find(KERNEL) is None
    assert service.kernels.list(session.id) == []


def test_a_session_that_is_used_otherwise_is_kept(
    service: Mooring, made: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person in a terminal of it does not lose it with a script; the kernel ends all the same."""
    monkeypatch.setattr("mooring.sessions.orphans.used_for", lambda *_: "a terminal is open in it")
    own(service, made).release()
    assert [one.state for one in service.sessions.list()] == [State.RUNNING]
    assert service.kernels.list(made.id) == []
    last = service.sessions.events(made.id)[-1]
    assert (last.kind, last.detail) == ("kept", "a terminal is open in it")


def test_a_session_that_has_ended_keeps_its_files(service: Mooring, made: Session) -> None:
    """It uses nothing; and once started again, it is not ended for a client of before."""
    owned = own(service, made)
    service.sessions.stop(made)
    owned.release()
    assert [one.state for one in service.sessions.list()] == [State.STOPPED]
    service.sessions.start(service.sessions.get("made"))
    assert [one.state for one in service.sessions.list()] == [State.RUNNING]


def test_a_servers_kernel_waits_for_the_next_server(service: Mooring, made: Session) -> None:
    """It has a root folder, by which that server finds it."""
    own(service, made, root="/home/ada").release()
    assert [one.state for one in service.sessions.list()] == [State.RUNNING]
    assert service.kernels.owners.find(KERNEL) is not None


def test_a_session_that_cannot_be_removed_now_is_removed_later(
    service: Mooring, made: Session, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine refuses: the next listing tries again, and the others are listed all the same."""
    own(service, made).release()

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the engine is busy")

    with monkeypatch.context() as busy:
        busy.setattr(engine, "remove", refuse)
        assert [one.name for one in service.sessions.list()] == ["made"]
    assert service.sessions.list() == []


def test_a_kernel_that_hides_its_file_ends_too(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs in a session can remove the connection file, and ran on for ever."""
    killed = []
    kill = "mooring.sessions.orphans.kill_kernel"
    monkeypatch.setattr(kill, lambda handle, _: bool(killed.append(handle.id) or True))
    owned = own(service, session)
    session_folder(session.id).guest.remove(f"k/{SHORT}/c.json")
    owned.release()
    service.sessions.list()
    assert killed == [SHORT]
    assert service.kernels.owners.find(KERNEL) is None


def later(session: Session, seconds: float) -> None:
    """What is remembered of the session's kernel is that much older."""
    late = session_folder(session.id).path / "kernels" / f"{SHORT}.late"
    at = late.stat().st_mtime - seconds
    os.utime(late, (at, at))


def test_a_kernel_that_does_not_end_is_ended_later(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for a disk dies late; its record stays until it has."""
    kill = "mooring.sessions.orphans.kill_kernel"
    monkeypatch.setattr(kill, lambda *_: False)
    own(service, session).release()
    assert [one.state for one in service.sessions.list()] == [State.RUNNING]
    assert service.kernels.owners.find(KERNEL) is not None
    monkeypatch.setattr(kill, lambda *_: True)
    later(session, orphans.FIRST_PAUSE_S)
    service.sessions.list()
    assert service.kernels.owners.find(KERNEL) is None
    assert list((session_folder(session.id).path / "kernels").iterdir()) == []


def test_a_kernel_that_does_not_end_is_tried_less_and_less(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No listing waits for it before its pause is over; each failure makes the pause longer."""
    tried: list[float] = []
    kill = "mooring.sessions.orphans.kill_kernel"
    monkeypatch.setattr(kill, lambda handle, deadline: bool(tried.append(deadline)))
    own(service, session).release()
    for failures in range(1, 4):
        service.sessions.list()
        service.sessions.list()
        assert len(tried) == failures
        later(session, orphans.FIRST_PAUSE_S * 2.0 ** (failures - 1) - 1)
        service.sessions.list()
        assert len(tried) == failures
        later(session, 1)
    later(session, -3600)  # the clock was set back
    service.sessions.list()
    assert len(tried) == 4
    problems = [one for one in service.sessions.events(session.id) if one.kind == "problem"]
    assert len(problems) == 1


def test_why_a_session_is_kept_is_said_once(
    service: Mooring, made: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a kernel in it does not end; and it goes as soon as nobody uses it."""
    monkeypatch.setattr("mooring.sessions.orphans.used_for", lambda *_: "a terminal is open in it")
    monkeypatch.setattr("mooring.sessions.orphans.kill_kernel", lambda *_: False)
    own(service, made).release()
    for _ in range(3):
        assert [one.name for one in service.sessions.list()] == ["made"]
        later(made, orphans.LONGEST_PAUSE_S)
    kept = [one.detail for one in service.sessions.events(made.id) if one.kind == "kept"]
    assert kept == ["a terminal is open in it"]
    monkeypatch.setattr("mooring.sessions.orphans.used_for", lambda *_: "")
    assert service.sessions.list() == []


def test_a_made_session_goes_with_a_kernel_that_does_not_end(
    service: Mooring, made: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine ends it, whatever its kernel host says."""
    monkeypatch.setattr("mooring.sessions.orphans.kill_kernel", lambda *_: False)
    own(service, made).release()
    assert service.sessions.list() == []
    assert not session_folder(made.id).exists


def test_kernels_of_a_session_that_has_ended_are_forgotten_at_once(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are left alone for a while."""
    monkeypatch.setattr("mooring.sessions.orphans.kill_kernel", lambda *_: False)
    own(service, session).release()
    service.sessions.list()
    service.sessions.stop(session)
    service.sessions.list()
    assert service.kernels.owners.find(KERNEL) is None


def test_a_full_disk_keeps_no_kernel(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be remembered is tried again at once."""
    tried: list[float] = []
    kill = "mooring.sessions.orphans.kill_kernel"
    monkeypatch.setattr(kill, lambda _, deadline: bool(tried.append(deadline)))

    own(service, session).release()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mooring.sessions.orphans.atomic.write_text", full)
    service.sessions.list()
    service.sessions.list()
    assert len(tried) == 2
