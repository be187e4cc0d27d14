"""Waiting for a session to start, or to end."""

from __future__ import annotations

import dataclasses

import pytest

from mooring import FakeEngine, LaunchOptions
from mooring.client import Mooring
from mooring.errors import (
    SessionNotFound,
    SessionStateError,
    SessionTimeout,
)
from mooring.sessions import waiting
from mooring.sessions.model import Session, State
from mooring.sessions.waiting import Ending


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once."""
    monkeypatch.setattr(waiting, "POLL_S", 0.0)
    monkeypatch.setattr(waiting, "ENDING_POLL_S", 0.0)
    monkeypatch.setattr(waiting, "ENDING_S", 0.0)


def test_a_queued_session_is_waited_for(
    service: Mooring, declare, no_pause: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look tells what is waited for; it is over once the session runs."""
    running = service.sessions.create(declare(command="x", name="s")).session
    queued = [
        dataclasses.replace(running, state=State.PENDING, waiting=f"{place} in the queue")
        for place in ("2nd", "1st")
    ]
    looks = iter([queued[1], running])
    monkeypatch.setattr(waiting, "get", lambda ctx, name: next(looks))
    steps: list[str] = []
    found = service.sessions.wait_until_started(queued[0], max_wait_s=60, progress=steps.append)
    assert found is running
    assert steps == ["2nd in the queue", "1st in the queue"]


def test_a_wait_for_the_queue_ends(
    service: Mooring, declare, no_pause: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the longest wait the session stays in the queue; one that failed is told with why."""
    running = service.sessions.create(declare(command="x", name="s")).session
    queued = dataclasses.replace(running, state=State.PENDING)
    late = "s did not start within 0 s; it stays in the queue"
    with monkeypatch.context() as patch:
        patch.setattr(waiting, "get", lambda ctx, name: queued)
        with pytest.raises(SessionTimeout, match=late):
            service.sessions.wait_until_started(queued, max_wait_s=0)
    service.sessions.remove(running, force=True)
    with pytest.raises(SessionStateError, match=r"^session s did not start: removed by tester"):
        service.sessions.wait_until_started(queued, max_wait_s=60)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("removed", [False, True])
def test_an_interrupt_removes_a_queued_session_if_the_caller_asks_for_it(
    service: Mooring, declare, interrupt: type[BaseException], removed: bool
) -> None:
    """Who waits at a terminal gives the session up with Ctrl-C; any other keeps its place."""
    running = service.sessions.create(declare(command="x", name="s")).session
    queued = dataclasses.replace(running, state=State.PENDING)

    def stop(text: str) -> None:
        raise interrupt

    with pytest.raises(interrupt):
        service.sessions.wait_until_started(
            queued, max_wait_s=60, progress=stop, remove_on_interrupt=removed
        )
    assert service.records.exists(running.id) is not removed


def test_a_session_that_is_late_keeps_its_place(service: Mooring, declare) -> None:
    """The longest wait is no interrupt."""
    running = service.sessions.create(declare(command="x", name="s")).session
    queued = dataclasses.replace(running, state=State.PENDING)
    with pytest.raises(SessionTimeout):
        service.sessions.wait_until_started(queued, max_wait_s=-1, remove_on_interrupt=True)
    assert service.records.exists(running.id)


def test_an_end_is_recorded_with_the_code_that_a_client_has_seen(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """The session is in the history then, and is removed if its creation asked for that."""
    options = LaunchOptions(name="once", remove=True)
    session = service.sessions.create(declare(command="x"), options).session
    engine.stop(session.container, grace_s=0)
    ending = service.sessions.record_end(session, 143)
    assert ending == Ending(143, "")
    past = service.sessions.past("once")
    assert past is not None
    assert past.ended_at is not None
    assert not service.records.exists(session.id)


def test_the_recorded_code_is_right_where_another_process_removed_the_session(
    service: Mooring, declare
) -> None:
    """The client asked an engine that did not know the container any more."""
    session = service.sessions.create(declare(command="x", name="s")).session
    service.sessions.remove(session, force=True)
    assert service.sessions.record_end(session, 5) == Ending(5, "gone: removed by tester")
    service.history.session_ended(session.id, at=1.0, reason="exit code 7", exit_code=7)
    assert service.sessions.record_end(session, 5) == Ending(7, "")


def test_the_end_is_waited_for(
    service: Mooring, engine: FakeEngine, declare, no_pause: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is the engine's; of a session that was removed it is history's, or unknown."""
    session = service.sessions.create(declare(command="x", name="s")).session
    looks = iter([session, dataclasses.replace(session, state=State.STOPPED, exit_code=7)])
    with monkeypatch.context() as patch:
        patch.setattr(waiting, "get", lambda ctx, name: next(looks))
        assert service.sessions.wait_until_ended(session) == 7
    service.sessions.remove(session, force=True)
    assert service.sessions.wait_until_ended(session) is None


def test_what_ended_a_session_is_told(
    service: Mooring, engine: FakeEngine, declare, no_pause: None
) -> None:
    """A process of it that was killed with it has no other way to know; one that runs is none."""
    session = service.sessions.create(declare(command="x", name="s", memory="1GiB")).session
    assert service.sessions.why_ended(session) == ""
    engine.finish(session.container, 137, oom_killed=True)
    assert service.sessions.why_ended(session) == "stopped: out of memory (limit 1 GiB)"
    assert service.sessions.record_end(session, 137).cause == "stopped: out of memory (limit 1 GiB)"
    session = service.sessions.start(session)
    service.sessions.stop(session)
    assert service.sessions.why_ended(session) == "stopped: by tester"
    service.sessions.remove(service.sessions.get("s"))
    assert service.sessions.why_ended(session) == "gone: stopped by tester"


def test_a_session_that_is_being_removed_is_not_lost(
    service: Mooring, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its container is gone before its record: who looks in between waits for the rest."""
    session = service.sessions.create(declare(command="x", name="s")).session
    lost = dataclasses.replace(session, state=State.LOST)
    looks = iter([session, lost])

    def look(ctx: object, wanted: Session) -> Session:
        found = next(looks, None)
        if found is None:
            raise SessionNotFound("gone")
        return found

    monkeypatch.setattr(waiting, "get_listed", look)
    service.sessions.remove(session, force=True)
    assert service.sessions.why_ended(session) == "gone: removed by tester"
