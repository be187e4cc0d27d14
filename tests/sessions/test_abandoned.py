"""When the session of a launcher that has exited is removed."""

from __future__ import annotations

import os
import subprocess

import pytest

from mooring.client import Mooring
from mooring.host.processes import process_mark
from mooring.sessions import lease
from mooring.sessions.lease import holder_of
from mooring.sessions.model import Session, State
from tests.support.launchers import ALONE, STARTED_AT, Launchers, Time, take_over
from tests.support.sessions import session_folder


def test_the_exit_of_a_killed_launcher_is_recorded_once(
    service: Mooring, launch: Launchers, time: Time
) -> None:
    """Only for the launcher that held the lease last, and not over its own announcement."""
    session = launch("killed")
    folder = session_folder(session.id)
    (held,) = launch.running
    service.leases.announce_exit(session.id, "1:2")
    assert lease.left_at(folder) is None, "it still holds the lease"
    held.release()
    service.leases.announce_exit(session.id, "5:6")
    assert lease.left_at(folder) is None
    service.leases.announce_exit(session.id, "1:2")
    assert lease.left_at(folder) == time.now
    at, time.now = time.now, time.now + 1
    service.leases.announce_exit(session.id, "1:2")
    assert lease.left_at(folder) == at


def remove_abandoned(service: Mooring, session: Session, client: str = "") -> None:
    service.leases.remove_abandoned(
        session.id, "1:2", client=client or process_mark(os.getpid()), patience_s=10
    )


@pytest.fixture
def unused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but its kernel runs in any session."""
    monkeypatch.setattr("mooring.sessions.usage.used_for", lambda *_: "")


def test_a_session_without_a_successor_is_removed_after_a_while(
    service: Mooring, launch: Launchers, time: Time, unused: None
) -> None:
    """The next launcher has the whole patience to come; nothing is left after that."""
    session = launch("left", left=STARTED_AT)
    began = time.now
    remove_abandoned(service, session)
    assert time.now - began >= 10
    assert not service.records.exists(session.id)


def test_a_session_is_removed_at_once_with_its_client(
    service: Mooring, launch: Launchers, time: Time, unused: None
) -> None:
    """A client that has exited starts no successor, whether or not its session has ended."""
    for name in ("running", "ended"):
        session = launch(name, left=STARTED_AT)
        if name == "ended":
            service.sessions.stop(session)
        began = time.now
        remove_abandoned(service, session, client="1:gone")
        assert time.now == began
        assert not service.records.exists(session.id)


def test_a_session_that_was_taken_over_is_its_successors(
    service: Mooring, launch: Launchers, time: Time, unused: None
) -> None:
    """The earlier launcher's watchdog goes when it sees another holder, and removes nothing."""
    session = launch("taken", left=STARTED_AT)

    def succeed() -> None:
        assert take_over(service, ALONE) == "taken"

    time.plans = [(time.now + 3, succeed)]
    remove_abandoned(service, session)
    assert service.sessions.get("taken").state is State.RUNNING
    assert holder_of(session_folder(session.id)) == ALONE.holder


def test_a_session_that_is_just_being_started_is_kept(
    service: Mooring, launch: Launchers, time: Time, unused: None
) -> None:
    """A start forgets the end before the engine runs the container: its files are not removed."""
    session = launch("ended", left=STARTED_AT)
    service.sessions.stop(session)
    guest = session_folder(session.id).guest
    time.plans = [(time.now + 60, lambda: guest.remove("end"))]
    remove_abandoned(service, session)
    assert service.sessions.get("ended").state is State.STOPPED
    assert holder_of(session_folder(session.id)) == ""
    assert service.sessions.events(session.id)[-1].detail == "it was started again"


def test_a_session_that_waits_to_be_started_is_kept(
    service: Mooring, launch: Launchers, time: Time, unused: None
) -> None:
    """A start that waits for GPUs has forgotten nothing yet, and holds the folder's lock."""
    session = launch("ended", left=STARTED_AT)
    service.sessions.stop(session)
    folder = session_folder(session.id)
    client = subprocess.Popen(["cat"], stdin=subprocess.PIPE)

    def begin() -> None:
        assert folder.acquire()
        client.communicate()

    time.plans = [(time.now + 60, begin)]
    remove_abandoned(service, session, client=process_mark(client.pid))
    folder.release()
    assert service.records.exists(session.id)
    assert service.sessions.events(session.id)[-1].detail == "it was started again"


def test_an_ended_session_is_kept_while_its_client_lives(
    service: Mooring, launch: Launchers, time: Time, unused: None
) -> None:
    """However long that is; one that a user has started again meanwhile is an ordinary one."""
    session = launch("ended", left=STARTED_AT)
    service.sessions.stop(session)
    time.plans = [(time.now + 60, lambda: service.sessions.start(session))]
    remove_abandoned(service, session)
    assert service.sessions.get("ended").state is State.RUNNING
    assert holder_of(session_folder(session.id)) == ""
    event = service.sessions.events(session.id)[-1]
    assert (event.kind, event.detail) == ("kept", "it was started again")
