"""Starting a stopped session again, and finding or creating a shared one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mooring import FakeEngine, LaunchOptions, Wait
from mooring.client import Mooring
from mooring.errors import (
    Cancelled,
    EngineError,
    SessionNotFound,
    SessionStateError,
    SessionTimeout,
)
from mooring.host import locks, paths
from mooring.launch import start, verified
from mooring.sessions.model import Session, State
from tests.support.fake import FakeClock
from tests.support.sessions import session_folder


def test_stop_and_start_keep_the_session(service: Mooring, engine: FakeEngine, declare) -> None:
    """A stopped session keeps its container, and starting it is the same one again."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.stop(session)
    stopped = service.sessions.get("train")
    assert (stopped.state, stopped.reason) == (State.STOPPED, f"by {service.actor}")
    again = service.sessions.start(service.sessions.get("train"))
    assert (again.id, again.container) == (session.id, session.container)
    assert again.state is State.RUNNING
    assert again.end is None
    kinds = [event.kind for event in service.sessions.events(session.id)]
    assert kinds == ["requested", "started", "stopped", "started"]


def test_a_start_that_fails_is_told(service: Mooring, engine: FakeEngine, declare) -> None:
    """A session that cannot be started again is an EngineError and is still stopped."""
    service.sessions.stop(
        service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    )
    engine.fail("start", EngineError("no"))
    with pytest.raises(EngineError):
        service.sessions.start(service.sessions.get("train"))
    assert service.sessions.get("train").state is State.STOPPED


def test_one_that_does_not_come_up_in_time_is_stopped(
    service: Mooring, engine: FakeEngine, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose start is not complete may have no clock: it is not left running."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.stop(session)

    def late(*_: object) -> None:
        raise SessionTimeout("it did not start")

    monkeypatch.setattr(start, "start_verified", late)
    with pytest.raises(SessionTimeout):
        service.sessions.start(service.sessions.get("train"))
    assert service.sessions.get("train").state is State.STOPPED
    assert [event.kind for event in service.sessions.events(session.id)][-1] == "failed"


def test_one_is_started_by_one_process_at_a_time(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """A second start waits for the first, says so once, and then has nothing to do."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.stop(session)
    stopped = service.sessions.get("train")
    folder = session_folder(session.id)
    assert folder.acquire()
    with pytest.raises(SessionStateError, match="by another process already"):
        service.sessions.start(stopped, wait=Wait(max_wait_s=0))
    told: list[str] = []
    looks = iter(range(10))

    def cancelled() -> bool:
        """The other process starts it while this one waits."""
        if next(looks) == 3:
            folder.release()
            service.sessions.start(stopped)
        return False

    again = service.sessions.start(stopped, wait=Wait(progress=told.append, cancelled=cancelled))
    assert again.state is State.RUNNING
    assert told == ["another process is starting it"]
    assert engine.calls.count("start") == 2  # with that of its creation
    assert folder.guest.exists("checked")


def test_a_session_that_runs_needs_no_lock(service: Mooring, engine: FakeEngine, declare) -> None:
    """Kernels are opened in it side by side, each with a start that asks the engine little."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    folder = session_folder(session.id)
    assert folder.acquire()
    engine.calls.clear()
    assert service.sessions.start(session, wait=Wait(max_wait_s=0)).state is State.RUNNING
    assert engine.calls == ["list"]
    folder.release()


def test_a_start_that_waits_for_gpus_is_not_waited_for(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """That may take hours; and a mark that a killed start left holds nobody up."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.stop(session)
    folder = session_folder(session.id)
    assert folder.acquire()
    folder.mark_queued()
    with pytest.raises(SessionStateError, match="already") as caught:
        service.sessions.start(session)
    assert caught.value.hint == "see what it waits for: mooring why train"
    folder.release()
    assert service.sessions.start(session).state is State.RUNNING
    assert not folder.queued


def test_a_lock_that_cannot_be_had_is_an_error(
    service: Mooring, engine: FakeEngine, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps it from being locked, a start ends."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.stop(session)
    (session_folder(session.id).path / "lock").unlink()
    monkeypatch.setattr(start, "LOCK_PATIENCE_S", 0.1)
    with pytest.raises(SessionStateError, match="session train is being started"):
        service.sessions.start(session)


def test_a_name_like_another_ones_id_confuses_nothing(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """A session is found by its id where the caller has it, whatever others are called."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.stop(session)
    other = service.sessions.create(declare(command="x"), LaunchOptions(name=session.id)).session
    assert service.sessions.start(session).id == session.id
    service.sessions.stop(session)
    service.sessions.stop(other)
    assert service.sessions.start(session).container == session.container
    assert service.sessions.get(other.name).state is State.STOPPED


def test_a_paused_session_is_not_started(service: Mooring, engine: FakeEngine, declare) -> None:
    """Its processes are all there: what the clock wrote of them stays."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    engine.containers[session.container].state = "paused"
    with pytest.raises(SessionStateError, match="is paused") as caught:
        service.sessions.start(session)
    assert caught.value.hint.endswith(f"docker unpause {session.container[:12]}")
    assert session_folder(session.id).guest.exists("checked")


@pytest.mark.parametrize("how", ["by the caller", "by stop"])
def test_a_start_that_waits_for_another_can_be_cancelled(
    service: Mooring, engine: FakeEngine, declare, how: str
) -> None:
    """The caller stops waiting; and who stops the session means every start of it."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.stop(session)
    folder = session_folder(session.id)
    folder.request_cancel()
    os.utime(folder.path / "cancel", (1, 1))  # of an earlier start: it means this one nothing
    assert folder.acquire()
    wait = Wait(cancelled=lambda: how == "by the caller")
    if how == "by stop":
        wait = Wait(progress=lambda text: folder.request_cancel())
    with pytest.raises(Cancelled, match="start of session train"):
        service.sessions.start(session, wait=wait)
    folder.release()
    assert service.sessions.start(session).state is State.RUNNING
    assert not folder.cancel_requested()


def test_stop_ends_all_starts(service: Mooring, engine: FakeEngine, declare) -> None:
    """The one that is at it goes, and the one that waits for its turn does not begin."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.stop(session)
    folder = session_folder(session.id)
    assert folder.acquire()

    def give_way(text: str) -> None:
        folder.request_cancel()
        folder.release()  # the first start has seen it

    with pytest.raises(Cancelled):
        service.sessions.start(session, wait=Wait(progress=give_way))
    assert service.sessions.get("train").state is State.STOPPED
    assert engine.calls.count("start") == 1


def test_stop_cancels_a_start_that_does_not_come_up(
    service: Mooring, engine: FakeEngine, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for several times a second, also while the container starts."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.stop(session)
    folder = session_folder(session.id)
    monkeypatch.setattr(verified, "TICK_S", 0.0)
    monkeypatch.setattr(type(folder.guest), "exists", lambda guest, name: folder.request_cancel())
    with pytest.raises(Cancelled):
        service.sessions.start(session)
    monkeypatch.undo()
    stopped = service.sessions.get("train")
    assert (stopped.state, stopped.reason) == (State.STOPPED, "by tester")
    assert service.sessions.events(session.id)[-1].kind == "cancelled"


def test_what_became_of_it_meanwhile_counts(service: Mooring, engine: FakeEngine, declare) -> None:
    """A session that the caller has is not what it was: its end is told, its removal an error."""
    running = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    engine.finish(running.container, 3)
    assert service.sessions.start(running).state is State.RUNNING
    kinds = [event.kind for event in service.sessions.events(running.id)]
    assert kinds == ["requested", "started", "ended", "started"]
    service.sessions.remove(running, force=True)
    with pytest.raises(SessionNotFound, match="session train is gone"):
        service.sessions.start(running)


def test_a_lost_session_is_not_started(service: Mooring, engine: FakeEngine, declare) -> None:
    """A session whose container is gone cannot be started; the error says how to clean up."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    engine.containers.clear()
    with pytest.raises(SessionStateError) as caught:
        service.sessions.start(service.sessions.get("train"))
    assert "train" in caught.value.message
    service.sessions.remove(service.sessions.get("train"), force=True)
    assert service.sessions.list() == []
    assert service.sessions.past(session.id) is not None


def test_sessions_are_shared_by_name(service: Mooring, project: Path, declare) -> None:
    """Asking for a session by name makes it once, finds it afterwards, and starts a stopped one."""
    spec = declare(command="x")
    first = service.sessions.find_or_create(spec, LaunchOptions(name="shared"), cwd=project)
    assert (
        service.sessions.find_or_create(spec, LaunchOptions(name="shared"), cwd=project).id
        == first.id
    )
    service.sessions.stop(first)
    again = service.sessions.find_or_create(spec, LaunchOptions(name="shared"), cwd=project)
    assert (again.id, again.state) == (first.id, State.RUNNING)


def patience(seconds: float) -> Callable[[], bool]:
    """Gives up in the end, so that a test that fails does end."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def test_a_wait_for_who_makes_a_shared_session_ends_in_time(
    service: Mooring, project: Path, declare
) -> None:
    """Another that makes the session holds its lock, for GPUs as long as it takes."""
    lock = paths.state_dir() / f"shared-{hashlib.sha256(b'lab').hexdigest()[:8]}.lock"
    with (
        locks.locked(lock),
        pytest.raises(SessionTimeout, match=r"lab within 0\.1 s"),
    ):
        service.sessions.find_or_create(
            declare(command="x"),
            LaunchOptions(name="lab"),
            cwd=project,
            wait=Wait(max_wait_s=0.1, cancelled=patience(5)),
        )
    made = service.sessions.find_or_create(
        declare(command="x"), LaunchOptions(name="lab"), cwd=project, wait=Wait(max_wait_s=0)
    )
    assert made.state is State.RUNNING
    assert not lock.exists()


def test_what_the_lock_has_taken_is_not_waited_for_again(
    service: Mooring, project: Path, declare, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for a shared session's lock, and that for GPUs, are one wait."""
    given: list[object] = []

    @contextlib.contextmanager
    def slowly(*arguments: object, **options: object) -> Iterator[None]:
        clock.sleep(0.1)
        yield

    def create(ctx: object, plan: object, options: object, wait: Wait) -> None:
        given.append(wait.max_wait_s)
        raise SessionTimeout("still queued")

    monkeypatch.setattr(start, "locks", SimpleNamespace(temporarily_locked=slowly))
    monkeypatch.setattr(start, "time", SimpleNamespace(monotonic=clock, time=clock))
    monkeypatch.setattr(start, "create", create)
    for longest in (10.0, 0.05, None):
        with pytest.raises(SessionTimeout):
            service.sessions.find_or_create(
                declare(command="x"),
                LaunchOptions(name="lab"),
                cwd=project,
                wait=Wait(max_wait_s=longest),
            )
    assert given == [9.9, 0.0, None]


def test_who_looks_during_a_start_does_not_see_an_end(
    service: Mooring, engine: FakeEngine, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is started again ends once more when it does, and not while it starts."""
    session = service.sessions.create(declare(name="s", command="sleep 9")).session
    service.sessions.stop(session)
    engine_start = engine.start

    def look_then_start(container: str) -> None:
        service.sessions.list()
        engine_start(container)

    monkeypatch.setattr(engine, "start", look_then_start)
    service.sessions.start(service.sessions.get("s"))
    assert [event.kind for event in service.sessions.events(session.id)].count("ended") == 0
    engine.stop(session.container, grace_s=1.0)  # by none of mooring's doors
    service.sessions.list()
    assert [event.kind for event in service.sessions.events(session.id)].count("ended") == 1


@pytest.fixture
def session(service: Mooring, declare) -> Session:
    return service.sessions.create(declare(command="x"), LaunchOptions(name="lab")).session


def test_a_restart_asks_no_engine_while_the_kernel_host_lives(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session runs then; it is the answer of the session's own folder."""
    monkeypatch.setattr(start, "host_lives", lambda guest: True)
    monkeypatch.setattr(engine, "list", None)
    assert service.kernels.session_for_restart(session, start=False, wait=Wait()) is session


def test_a_restart_without_a_kernel_host_is_in_the_running_session(
    service: Mooring, session: Session
) -> None:
    """The kernel's start brings another host."""
    current = service.kernels.session_for_restart(session, start=False, wait=Wait())
    assert (current.id, current.state) == (session.id, State.RUNNING)


def test_only_the_users_restart_starts_a_stopped_session(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its kernel host is still about to end; any other restart is refused with why."""
    service.sessions.stop(session)
    monkeypatch.setattr(start, "host_lives", lambda guest: True)
    with pytest.raises(
        SessionStateError, match=r"^session lab is stopped \(by tester\)"
    ) as refused:
        service.kernels.session_for_restart(session, start=False, wait=Wait())
    assert refused.value.hint == "restart the kernel, or run: mooring start lab"
    again = service.kernels.session_for_restart(session, start=True, wait=Wait())
    assert (again.id, again.state) == (session.id, State.RUNNING)
