"""The session of a launcher that has exited: who takes it over, and when it is removed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mooring import FakeEngine, LaunchOptions, RestartTimes, Successor, Wait
from mooring.client import Mooring
from mooring.errors import EngineError
from mooring.host import locks
from mooring.host.processes import process_mark
from mooring.sessions import lease, takeover
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session, State
from mooring.spec.resolve import ResolvedSpec
from tests.support.sessions import session_folder

KEY = {"cwd": "/p", "notebook": ""}
TIMES = RestartTimes(exit_s=1.5, announced_exit_s=5.0, restart_s=10.0, just_ended_s=1.0)
STARTED_AT = 100.0
ALONE = Successor(KEY, unique=True, holder="3:4", kernel="b" * 12, started_at=STARTED_AT)
SHARED = replace(ALONE, unique=False)


class Time:
    """Uptime that only sleeping moves; what is planned happens when its time has come."""

    def __init__(self) -> None:
        self.now = STARTED_AT + 0.5
        self.plans: list[tuple[float, Callable[[], object]]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for plan in [plan for plan in self.plans if plan[0] <= self.now]:
            self.plans.remove(plan)
            plan[1]()


class Launchers:
    """Creates sessions of launchers, each with the lock of its watchdog.

    ``running`` are the leases of the launchers that have not exited.
    """

    def __init__(self, service: Mooring, declare: Callable[..., ResolvedSpec], time: Time) -> None:
        self._service, self._declare, self._time = service, declare, time
        self.running: list[Lease] = []
        self.watchdogs: list[int] = []

    def __call__(self, name: str, *, left: float | None = None) -> Session:
        """Return the session of a launcher that runs, or that exited at the uptime ``left``."""
        options = LaunchOptions(name=name)
        session = self._service.sessions.create(self._declare(command="x"), options).session
        folder = session_folder(session.id)
        held = Lease.make(folder, key=KEY, holder="1:2", kernel="a" * 12)
        watchdog = os.open(folder.path / "keeper", os.O_RDWR | os.O_CREAT, 0o600)
        locks.lock(watchdog, shared=True)
        self.watchdogs.append(watchdog)
        if left is None:
            self.running.append(held)
            return session
        now, self._time.now = self._time.now, left
        held.announce()
        held.release()
        self._time.now = now
        return session


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(takeover, "time", time)
    for module in (takeover, lease):
        monkeypatch.setattr(module, "uptime", time.monotonic)
    return time


@pytest.fixture
def launch(
    service: Mooring, declare: Callable[..., ResolvedSpec], time: Time
) -> Iterator[Launchers]:
    launchers = Launchers(service, declare, time)
    yield launchers
    for watchdog in launchers.watchdogs:
        os.close(watchdog)


def take_over(service: Mooring, successor: Successor) -> str | None:
    """The name of the session that was taken over, with everything of the lease released."""
    taken = service.leases.take_over(successor, TIMES, Wait())
    if taken is None:
        return None
    session, held = taken
    assert service.leases.holder(session.id) == successor.holder
    held.release()
    return session.name


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
    assert service.leases.holder(session.id) == "1:2"
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
    assert service.leases.holder(session.id) == ""
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
    assert service.leases.holder(session.id) == "1:2"
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


def remove_left(service: Mooring, session: Session, client: str = "") -> None:
    service.leases.remove_left(
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
    remove_left(service, session)
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
        remove_left(service, session, client="1:gone")
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
    remove_left(service, session)
    assert service.sessions.get("taken").state is State.RUNNING
    assert service.leases.holder(session.id) == ALONE.holder


def test_a_session_that_is_just_being_started_is_kept(
    service: Mooring, launch: Launchers, time: Time, unused: None
) -> None:
    """A start forgets the end before the engine runs the container: its files are not removed."""
    session = launch("ended", left=STARTED_AT)
    service.sessions.stop(session)
    guest = session_folder(session.id).guest
    time.plans = [(time.now + 60, lambda: guest.remove("end"))]
    remove_left(service, session)
    assert service.sessions.get("ended").state is State.STOPPED
    assert service.leases.holder(session.id) == ""
    assert service.sessions.events(session.id)[-1].detail == "it was started again"


def test_an_ended_session_is_kept_while_its_client_lives(
    service: Mooring, launch: Launchers, time: Time, unused: None
) -> None:
    """However long that is; one that a user has started again meanwhile is an ordinary one."""
    session = launch("ended", left=STARTED_AT)
    service.sessions.stop(session)
    time.plans = [(time.now + 60, lambda: service.sessions.start(session))]
    remove_left(service, session)
    assert service.sessions.get("ended").state is State.RUNNING
    assert service.leases.holder(session.id) == ""
    event = service.sessions.events(session.id)[-1]
    assert (event.kind, event.detail) == ("kept", "it was started again")
