"""Sessions of launchers, for tests of what becomes of them; time that only sleeping moves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mooring import LaunchOptions, RestartTimes, Successor, Wait
from mooring.client import Mooring
from mooring.host import locks
from mooring.launch import takeover
from mooring.sessions import abandoned, lease
from mooring.sessions.lease import Lease, holder_of
from mooring.sessions.model import Session
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


def take_over(service: Mooring, successor: Successor) -> str | None:
    """The name of the session that was taken over, with everything of the lease released."""
    taken = service.leases.take_over(successor, TIMES, Wait())
    if taken is None:
        return None
    session, held = taken
    assert holder_of(session_folder(session.id)) == successor.holder
    held.release()
    return session.name


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    for module in (takeover, abandoned):
        monkeypatch.setattr(module, "time", time)
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
