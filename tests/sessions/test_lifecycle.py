"""The life of a session that exists: stop, remove, hold, update."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from mooring import FakeEngine, LaunchOptions
from mooring.client import Mooring
from mooring.engines.labels import (
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    container_name,
)
from mooring.errors import (
    EngineError,
    MooringError,
    SessionStateError,
    SpecError,
)
from mooring.guest.shared import SharedGuest
from mooring.host import atomic
from mooring.host.boot import uptime
from mooring.sessions import recreate
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import State
from tests.support.sessions import leftovers, session_folder


def test_anothers_session_is_ended_by_its_own_clock(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """Its programs are where its own installation put them, of which nothing is here."""
    mine = service.sessions.create(declare(command="x"), LaunchOptions(name="mine")).session
    config = engine.containers[mine.container].config
    theirs = {LABEL_INSTALLATION: "0" * 16, LABEL_NAME: "theirs", LABEL_ID: "fedcba987654"}
    name = container_name("theirs", "fedcba987654")
    container = engine.create(
        dataclasses.replace(config, name=name, labels={**config.labels, **theirs})
    )
    engine.start(container)
    (foreign,) = service.sessions.find_foreign("theirs")
    service.sessions.stop(foreign, force=True)
    (end,) = engine.containers[container].execs
    assert end.argv[1:4] == ("/.mooring-fedcba987654/clock.sh", "end", "stopped")


@pytest.mark.parametrize("way", ["exec", "signal", "program", "kernel host"])
def test_nothing_is_run_before_a_container_is_checked(
    service: Mooring, engine: FakeEngine, declare, way: str
) -> None:
    """Also for who has known the session since before its stop and start."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    session_folder(session.id).mark_unverified()
    acts: dict[str, Callable[[], object]] = {
        "exec": lambda: service.sessions.exec(session, ["true"], stdin=False),
        "signal": lambda: service.sessions.signal(session, "TERM"),
        "program": lambda: service.sessions.has_program(session, "tmux"),
        "kernel host": lambda: service.kernels.ensure_host(session),
    }
    record = session_folder(session.id).record()
    session_folder(session.id).write_plan(record.plan._replace(python="/usr/bin/python"))
    with pytest.raises(SessionStateError, match="session train is starting"):
        acts[way]()
    assert engine.containers[session.container].execs == []


def test_stop_start_and_remove_are_idempotent(
    service: Mooring, engine: FakeEngine, state: Path, declare
) -> None:
    """Each can be said twice."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    assert service.sessions.start(service.sessions.get("train")).id == session.id
    service.sessions.stop(session)
    service.sessions.stop(service.sessions.get("train"))
    stopped = service.sessions.get("train")
    service.sessions.remove(stopped, force=True)
    service.sessions.remove(stopped, force=True)
    assert leftovers(engine, state) == []


def test_stop_works_when_the_session_does_not_listen(
    service: Mooring, engine: FakeEngine, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session in which nothing can be started any more is stopped from outside, with the grace
    that was asked for."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    engine.fail("exec_detached", EngineError("no more processes"))
    stop, graces = engine.stop, list[float]()

    def stopped(container: str, grace_s: float) -> None:
        graces.append(grace_s)
        stop(container, grace_s=grace_s)

    monkeypatch.setattr(engine, "stop", stopped)
    service.sessions.stop(session, grace_s=60.0)
    assert service.sessions.get("train").state is State.STOPPED
    assert graces == [60.0]


@pytest.mark.parametrize("act", ["hold", "update"])
def test_only_a_running_session_has_a_clock(service: Mooring, declare, act: str) -> None:
    """Holding or changing a stopped session is refused, with what to do first."""
    service.sessions.stop(
        service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    )
    session = service.sessions.get("train")
    with pytest.raises(SessionStateError) as caught:
        service.sessions.hold(session, 60.0) if act == "hold" else service.sessions.update(
            session, idle_timeout_s=60
        )
    assert caught.value.hint == "start it first: mooring start train"


def test_hold_and_update_reach_the_clock(service: Mooring, declare) -> None:
    """What is held or changed stands in the files that the clock reads, and in the history."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.hold(session, 7200)
    service.sessions.update(session, idle_timeout_s=600, max_duration_s=0)
    folder = session_folder(session.id)
    assert float((folder.run / "hold").read_text()) > 7000
    assert folder.clock.settings()["idle_timeout_s"] == "600"
    assert folder.clock.settings()["max_duration_s"] == "0"
    details = [(event.kind, event.detail) for event in service.sessions.events(session.id)]
    assert details[2:] == [("held", "for 2h"), ("updated", "idle_timeout 10m, max_duration never")]


def test_a_maximum_that_has_passed_is_refused(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """A maximum duration below what has run already is refused, not obeyed at once."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    now = uptime()
    status = f"sampled {now}\nstarted {now - 120}\nlast_signal {now} start\ncomplete\n"
    session_folder(session.id).guest.write("status", status)
    with pytest.raises(SpecError, match="has run for 2m"):
        service.sessions.update(session, max_duration_s=60.0)
    assert session_folder(session.id).clock.settings()["max_duration_s"] == "0.0"


@pytest.mark.parametrize(
    ("said", "held", "refused"),
    [("", 0, True), ("kernel", 0, False), ("cpu", 0, False), ("", 60, False)],
)
def test_an_idle_timeout_that_has_passed_is_refused(
    service: Mooring, engine: FakeEngine, declare, said: str, held: float, refused: bool
) -> None:
    """One below what a session has been idle is refused; one that is at work has not been."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    now = uptime()
    status = (
        f"sampled {now}\nstarted {now - 300}\nlast_signal {now - 120} terminal\n"
        f"active {said}\nunknown\ncomplete\n"
    )
    folder = session_folder(session.id)
    folder.guest.write("status", status)
    if held:
        service.sessions.hold(session, held)
    before = folder.clock.settings()["idle_timeout_s"]
    with pytest.raises(SpecError, match="has been idle for 2m") if refused else nullcontext():
        service.sessions.update(session, idle_timeout_s=60.0)
    assert folder.clock.settings()["idle_timeout_s"] == (before if refused else "60")
    service.sessions.update(session, idle_timeout_s=180.0)
    service.sessions.update(session, idle_timeout_s=0.0)


def test_when_the_maximum_ends_it(service: Mooring, engine: FakeEngine, declare) -> None:
    """What is left of the maximum as it stands now, by the clock's own time; None without one."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    now = uptime()
    status = f"sampled {now}\nstarted {now - 120}\nlast_signal {now} start\ncomplete\n"
    session_folder(session.id).guest.write("status", status)
    assert service.sessions.ends_in_s(session) is None
    service.sessions.update(session, max_duration_s=180.0)
    assert service.sessions.ends_in_s(session) == pytest.approx(60, abs=20)


@pytest.mark.parametrize("act", ["start", "hold", "update"])
def test_a_full_disk_is_an_error_of_ours(
    service: Mooring, declare, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """What cannot be written is a MooringError on every way, not a traceback."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    if act == "start":
        service.sessions.stop(session)

    def full(*arguments: object, **options: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(SharedGuest, "write", full)
    monkeypatch.setattr(atomic, "write_text", full)
    acts: dict[str, Callable[[], object]] = {
        "start": lambda: service.sessions.start(service.sessions.get("train")),
        "hold": lambda: service.sessions.hold(session, 60.0),
        "update": lambda: service.sessions.update(session, idle_timeout_s=60.0),
    }
    with pytest.raises(MooringError, match="No space left"):
        acts[act]()


def test_stop_waits_for_a_start_that_has_its_gpus(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """A session that is about to run again is not stopped by that: it is when stop returns."""
    session = service.sessions.create(declare(name="s", command="sleep 9")).session
    service.sessions.stop(session)
    stopped = service.sessions.get("s")
    folder = session_folder(session.id)
    assert folder.acquire()  # as a start does while it has GPUs and its container does not run yet
    stopping = threading.Thread(target=service.sessions.stop, args=(stopped,))
    stopping.start()
    stopping.join(0.3)
    assert stopping.is_alive()
    engine.start(session.container)
    folder.release()
    stopping.join(30)
    assert service.sessions.get("s").state is State.STOPPED


def test_remove_waits_for_a_start_that_has_its_gpus(
    service: Mooring, engine: FakeEngine, state: Path, declare
) -> None:
    """One that is about to run again, perhaps in another container, is refused; or it is made to
    give up first, and nothing of it is left."""
    session = service.sessions.create(declare(name="s", command="sleep 9")).session
    service.sessions.stop(session)
    stopped = service.sessions.get("s")
    folder = session_folder(session.id)
    assert folder.acquire()  # as a start does
    with pytest.raises(SessionStateError, match="s is being started"):
        service.sessions.remove(stopped)
    removing = threading.Thread(
        target=service.sessions.remove, args=(stopped,), kwargs={"force": True}
    )
    removing.start()
    removing.join(0.2)
    assert removing.is_alive()
    assert folder.cancel_requested()
    recreate.recreate(Context(engine, "tester"), stopped, ())
    folder.release()
    removing.join(30)
    assert leftovers(engine, state) == []


@pytest.mark.parametrize("by", ["rm", "the reconciler"])
def test_the_removal_is_told_before_the_folder_goes(
    service: Mooring, engine: FakeEngine, declare, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Who follows the events of a session ends when its folder has gone, and misses none."""
    options = LaunchOptions(name="train", remove=by == "the reconciler")
    session = service.sessions.create(declare(command="x"), options).session
    told: list[list[str]] = []
    delete = SessionFolder.remove

    def remove(folder: SessionFolder) -> None:
        told.append([event.kind for event in service.sessions.events(session.id)])
        delete(folder)

    monkeypatch.setattr(SessionFolder, "remove", remove)
    if by == "rm":
        service.sessions.remove(session, force=True)
    else:
        engine.finish(session.container, 0)
        service.sessions.list()
    assert [kinds[-1] for kinds in told] == ["removed"]
    assert service.sessions.list() == []
