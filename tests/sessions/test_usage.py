"""What becomes of a session whose launcher is gone."""

from __future__ import annotations

from typing import Any

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.errors import EngineUnavailable
from mooring.sessions.context import Context
from mooring.sessions.lease import holder_of
from mooring.sessions.model import Session
from mooring.sessions.usage import remove_unless_used
from tests.support.sessions import session_folder


@pytest.fixture
def session(service: Mooring, declare: Any) -> Session:
    return service.sessions.create(declare(command="x"), LaunchOptions(name="lab")).session


def settle(service: Mooring, session: Session, **options: Any) -> tuple[bool, list[str]]:
    """Whether it was removed, and its last event."""
    lease = service.leases.make(session.id, key={}, holder="1:2")
    removed = remove_unless_used(
        Context(service.engine),
        session,
        lease,
        lambda: service.sessions.remove(session, force=True),
        actor="tester",
        **options,
    )
    lease.release()
    event = service.sessions.events(session.id)[-1]
    return removed, [event.kind, event.detail]


def test_a_session_that_nobody_uses_is_removed(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing speaks for it."""
    monkeypatch.setattr("mooring.sessions.usage.used_for", lambda *_: "")
    assert settle(service, session) == (True, ["removed", ""])


@pytest.mark.parametrize(
    ("use", "keep"), [("a terminal is open in it", ""), ("", "it was started again")]
)
def test_a_session_in_use_stays_and_is_nobodys(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch, use: str, keep: str
) -> None:
    """Its lease is dissolved, and its history says why."""
    monkeypatch.setattr("mooring.sessions.usage.used_for", lambda *_: use)
    assert settle(service, session, keep=keep) == (False, ["kept", use or keep])
    assert holder_of(session_folder(session.id)) == ""
    assert service.sessions.get("lab").id == session.id


def test_where_the_engine_does_not_answer_nothing_is_done(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown is not unused: the lease stays, for another look."""

    def unknown(*_: object) -> str:
        raise EngineUnavailable("no engine answers")

    monkeypatch.setattr("mooring.sessions.usage.used_for", unknown)
    with pytest.raises(EngineUnavailable):
        settle(service, session)
    assert holder_of(session_folder(session.id)) == "1:2"
