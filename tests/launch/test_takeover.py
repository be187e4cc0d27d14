"""Which session a launcher takes over from an earlier one."""

from __future__ import annotations

import pytest

from mooring import FakeEngine, Successor, Wait
from mooring.client import Mooring
from mooring.errors import EngineError
from mooring.sessions.lease import Lease, holder_of
from mooring.sessions.model import State
from tests.support.launchers import (
    ALONE,
    KEY,
    SHARED,
    STARTED_AT,
    TIMES,
    Launchers,
    Time,
    take_over,
)
from tests.support.sessions import session_folder


def test_of_several_kernels_the_last_that_ended_is_restarted(
    service: Mooring, launch: Launchers
) -> None:
    """A key that several kernels share is that of the one whose launcher exited last."""
    launch("earlier", left=STARTED_AT - 3)
    launch("last", left=STARTED_AT - 1)
    launch("earliest", left=STARTED_AT - 4)
    assert take_over(service, SHARED) == "last"


@pytest.mark.parametrize(("successor", "expected"), [(ALONE, "old"), (SHARED, None)])
def test_an_exit_long_ago_is_no_restart_unless_the_key_is_unique(
    service: Mooring, launch: Launchers, successor: Successor, expected: str | None
) -> None:
    """A new notebook of a folder does not get the session of one that was closed before."""
    launch("old", left=STARTED_AT - TIMES.restart_s)
    assert take_over(service, successor) == expected


@pytest.mark.parametrize(("successor", "expected"), [(ALONE, "ended"), (SHARED, None)])
def test_an_ended_session_is_started_for_its_own_kernel_only(
    service: Mooring, launch: Launchers, successor: Successor, expected: str | None
) -> None:
    """Files of a stopped session belong to one notebook, which only a unique key names."""
    session = launch("ended", left=STARTED_AT)
    service.sessions.stop(session)
    assert take_over(service, successor) == expected
    state = State.RUNNING if expected else State.STOPPED
    assert service.sessions.get("ended").state is state


def test_a_session_that_stopped_without_its_clock_is_left_alone(
    service: Mooring, launch: Launchers
) -> None:
    """The engine says that it does not run: with a shared key its lease stays for its watchdog."""
    session = launch("ended", left=STARTED_AT)
    service.engine.stop(session.container, grace_s=0)
    (session_folder(session.id).run / "end").unlink(missing_ok=True)
    assert take_over(service, SHARED) is None
    again = Lease.take(session_folder(session.id), key=KEY)
    assert again is not None
    assert holder_of(session_folder(session.id)) == "1:2"
    again.release()


def test_a_session_that_cannot_be_started_is_kept(
    service: Mooring, engine: FakeEngine, launch: Launchers
) -> None:
    """Once it does not count as ended its watchdog would remove it: its lease is dissolved."""
    session = launch("ended", left=STARTED_AT)
    service.sessions.stop(session)
    engine.fail("start", EngineError("no such device"))
    with pytest.raises(EngineError, match="no such device"):
        service.leases.take_over(ALONE, TIMES, Wait())
    assert holder_of(session_folder(session.id)) == ""
    event = service.sessions.events(session.id)[-1]
    assert (event.kind, event.actor, event.detail) == ("kept", "tester", "it could not be started")


def test_a_launcher_that_exits_late_is_waited_for(
    service: Mooring, launch: Launchers, time: Time
) -> None:
    """The client started its successor first; once it has gone its session is taken over."""
    launch("late")
    (held,) = launch.running
    time.plans = [(STARTED_AT + 1.2, held.announce), (STARTED_AT + 4.0, held.release)]
    assert take_over(service, SHARED) == "late"
    assert time.now < STARTED_AT + TIMES.announced_exit_s


@pytest.mark.parametrize(
    ("announces", "patience_s"), [(False, TIMES.exit_s), (True, TIMES.announced_exit_s)]
)
def test_a_launcher_that_does_not_exit_keeps_its_session(
    service: Mooring,
    launch: Launchers,
    time: Time,
    announces: bool,
    patience_s: float,
) -> None:
    """It is the kernel of another notebook; one that has announced its exit gets more time."""
    session = launch("busy")
    (held,) = launch.running
    if announces:
        held.announce()
    assert take_over(service, ALONE) is None
    assert patience_s < time.now - STARTED_AT < patience_s + 0.1
    assert holder_of(session_folder(session.id)) == "1:2"
    held.release()


def test_an_earlier_exit_is_not_taken_for_that_of_a_launcher_that_still_runs(
    service: Mooring, launch: Launchers, time: Time
) -> None:
    """While one may be about to exit, one that exited before is another notebook's."""
    launch("another", left=STARTED_AT - 2 * TIMES.just_ended_s)
    launch("mine")
    (held,) = launch.running

    def leave() -> None:
        held.announce()
        held.release()

    time.plans = [(STARTED_AT + 1.0, leave)]
    assert take_over(service, SHARED) == "mine"


def test_an_earlier_exit_is_taken_once_no_other_is_expected(
    service: Mooring, launch: Launchers, time: Time
) -> None:
    """A launcher that has not exited by then is another notebook's."""
    launch("mine", left=STARTED_AT - 2 * TIMES.just_ended_s)
    launch("another")
    assert take_over(service, SHARED) == "mine"
    assert time.now > STARTED_AT + TIMES.exit_s
    launch.running[0].release()
