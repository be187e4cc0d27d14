"""Labels against reality: ends that nobody brought about, and repairs that anybody makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring import FakeEngine, LaunchOptions
from mooring.client import Mooring
from mooring.engines.labels import LABEL_ID, LABEL_INSTALLATION, container_name
from mooring.errors import EngineError
from mooring.host import atomic
from mooring.host.paths import Installation
from mooring.sessions import reconcile, recreate
from mooring.sessions import reconcile as reconcile_module
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session, State
from tests.sessions.support import container, full_disk, half_created, kinds, snapshot
from tests.support.sessions import make_folder, session_folder


def test_an_end_is_recorded_once(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """However often one looks, an end that no door brought about is one event."""
    engine.finish(session.container, 3)
    for _ in range(3):
        (seen,) = service.sessions.list()
        assert (seen.state, seen.exit_code, seen.reason) == (State.STOPPED, 3, "exit code 3")
    assert kinds(service, session.id) == ["requested", "started", "ended"]
    past = service.sessions.past("train")
    assert past is not None
    assert (past.reason, past.exit_code) == ("exit code 3", 3)


def test_the_clocks_own_word_is_the_reason(
    service: Mooring, engine: FakeEngine, session: Session
) -> None:
    """What the clock wrote about the end is told as it is, with its time."""
    (session_folder(session.id).run / "end").write_text(
        "reason idle\ntime 1700000123\ndetail no activity for 30m\nsignals cpu 0.1%\n"
    )
    engine.finish(session.container, 143)
    (seen,) = service.sessions.list()
    assert seen.reason == "idle timeout"
    event = service.sessions.events(session.id)[-1]
    assert (event.kind, event.actor, event.time) == ("ended", "clock", 1700000123)
    assert event.detail == "idle timeout: no activity for 30m"


def test_out_of_memory_is_said(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """A main process that was killed for want of memory is said to be that."""
    engine.finish(session.container, 137, oom_killed=True)
    (seen,) = service.sessions.list()
    assert seen.reason == "out of memory"


def test_out_of_memory_that_the_engine_learns_of_late(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that does not say it of the container says it of the time when it ended; once."""
    asked = []

    def learns(container: str, since: float, until: float) -> bool:
        asked.append((since, until))
        return True

    monkeypatch.setattr(engine, "out_of_memory", learns)
    engine.finish(session.container, 137)
    for _ in range(2):
        (seen,) = service.sessions.list()
        assert seen.reason == "out of memory"
    ended = engine.containers[session.container].finished_at
    assert asked == [(ended - reconcile.OOM_BEFORE_S, ended)]


def test_removal_at_the_end_as_asked(
    service: Mooring, engine: FakeEngine, state: Path, declare
) -> None:
    """A session that was to be removed when it ends is, whoever looks first."""
    session = service.sessions.create(
        declare(command="x"), LaunchOptions(name="train", remove=True)
    ).session
    engine.finish(session.container, 0)
    service.sessions.list()
    assert service.sessions.list() == []
    assert engine.containers == {}
    assert kinds(service, session.id) == ["requested", "started", "ended", "removed"]
    assert not list((state / "sessions").iterdir())


def test_removal_that_is_refused_keeps_nobody_from_looking(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """One container that cannot be removed does not hide the other sessions."""
    session = service.sessions.create(
        declare(command="x"), LaunchOptions(name="train", remove=True)
    ).session
    service.sessions.create(declare(command="x"), LaunchOptions(name="other"))
    engine.finish(session.container, 0)
    engine.fail("remove", EngineError("device or resource busy"), times=2)
    assert "other" in {seen.name for seen in service.sessions.list()}
    assert len(engine.containers) == 2
    service.sessions.list()
    service.sessions.list()
    assert len(engine.containers) == 1


def test_lost(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """A session whose container was removed by others is lost, told once, its files kept."""
    engine.remove(session.container)
    for _ in range(2):
        (seen,) = service.sessions.list()
        assert seen.state is State.LOST
        assert seen.reason == "its container was removed outside mooring"
    assert kinds(service, session.id) == ["requested", "started", "ended"]
    assert session_folder(session.id).home.exists()


def test_rebooted(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """A session that runs no more since the machine was restarted is lost for that reason."""
    session_folder(session.id).update_state(boot_id="another")
    engine.finish(session.container, 255)
    (seen,) = service.sessions.list()
    assert (seen.state, seen.reason) == (State.LOST, "the machine was restarted")
    assert service.sessions.events(session.id)[-1].detail == "the machine was restarted"
    again = service.sessions.start(service.sessions.get("train"))
    assert again.state is State.RUNNING
    engine.finish(session.container, 1)
    assert service.sessions.get("train").state is State.STOPPED


def test_a_full_disk_does_not_keep_from_looking(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that cannot be written down is told all the same, and written down later."""
    engine.finish(session.container, 3)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "open", full_disk, raising=False)
        (seen,) = service.sessions.list()
    assert seen.reason == "exit code 3"
    assert kinds(service, session.id) == ["requested", "started"]
    service.sessions.list()
    assert kinds(service, session.id) == ["requested", "started", "ended"]


# Of a launcher that nobody answers for


@pytest.fixture
def abandoned(service: Mooring, engine: FakeEngine, session: Session) -> SessionFolder:
    """A launcher's, moved to other GPUs once, whose launcher and keeper were killed."""
    service.sessions.stop(session)
    recreate.recreate(Context(engine, "tester"), service.sessions.get("train"), ())
    folder = session_folder(session.id)
    Lease.make(folder, key={}, holder="1:2").release()
    assert recreate.snapshot_image(session.id) in engine.images
    return folder


def test_abandoned_goes_with_the_picture_of_its_files(
    service: Mooring, engine: FakeEngine, abandoned: SessionFolder
) -> None:
    """What a move has made for a session goes when that does, whoever removes it."""
    assert service.sessions.list() == []
    assert not abandoned.exists
    assert recreate.snapshot_image(abandoned.id) not in engine.images


def test_abandoned_whose_removal_was_cut_off(
    service: Mooring, engine: FakeEngine, abandoned: SessionFolder
) -> None:
    """Where the picture was still in use it goes with the next look, and the folder after it."""
    engine.fail("remove_image", EngineError("image is being used"))
    service.sessions.list()
    assert abandoned.exists
    assert service.sessions.list() == []
    assert not abandoned.exists
    assert recreate.snapshot_image(abandoned.id) not in engine.images


# Repairs that fail


@pytest.mark.parametrize(
    "error",
    [RecursionError("deep"), MemoryError(), KeyError("x"), OSError(5, "I/O"), EngineError("no")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    "step",
    [
        "_record_dead_kernels",
        "_record_end",
        "_remove_at_end",
        "_remove_half_created",
        "_delete",
        "from_container",
        "lease.abandoned",
        "recreate.clear",
    ],
)
def test_a_repair_that_fails_costs_the_others_nothing(
    service: Mooring,
    engine: FakeEngine,
    declare,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
    error: Exception,
) -> None:
    """Whatever it raises, every other session is listed and can be stopped; it is told once."""
    for name in ("bad", "good"):
        service.sessions.create(declare(command="x"), LaunchOptions(name=name))
    bad = service.sessions.get("bad")
    engine.finish(bad.container, 3)
    half_created(engine)
    gone = state / "sessions" / ".fedcba987654.gone"
    gone.mkdir()
    installation = {LABEL_INSTALLATION: Installation.here().id, LABEL_ID: "00000000aaaa"}
    container(engine, "stranger", **installation)
    targets = {bad.id, "0123456789ab", "00000000aaaa", gone.name}
    owner: object = reconcile_module
    name = step
    if "." in step:
        module, name = step.split(".")
        owner = getattr(reconcile_module, module)
    real = getattr(owner, name)

    def fail(*arguments: object, **options: object) -> object:
        named = f"{arguments} {[getattr(one, 'id', '') for one in arguments]}"
        if any(target in named for target in targets):
            raise error
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        for _ in range(3):
            seen = {one.name: one.state for one in service.sessions.list()}
            assert seen["good"] is State.RUNNING
            assert "bad" in seen
        service.sessions.stop(service.sessions.get("good"))
    assert len(caplog.messages) == 1, caplog.messages
    told = [
        event
        for one in (bad.id, "0123456789ab", "00000000aaaa", "fedcba987654")
        for event in service.sessions.events(one)
        if event.kind == "problem"
    ]
    assert len(told) == 1
    names = {one.name for one in service.sessions.list()}
    assert names == {"bad", "good"}


def test_files_that_stay_are_tried_again_after_a_while(
    service: Mooring, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be deleted costs one listing a minute its time, and not each."""
    gone = state / "sessions" / ".fedcba987654.gone"
    gone.mkdir(parents=True)
    tried: list[Path] = []

    def refuse(path: Path) -> None:
        tried.append(path)
        raise OSError(1, "Operation not permitted", "fixed")

    with monkeypatch.context() as patch:
        patch.setattr("mooring.host.trees.remove_path", refuse)
        for _ in range(3):
            service.sessions.list()
    assert tried == [gone]
    monkeypatch.setattr(reconcile_module, "RETRY_S", 0.0)
    service.sessions.list()
    assert not gone.exists()


# Anybody, at any time


def test_looking_twice_changes_nothing(
    service: Mooring, engine: FakeEngine, session: Session, state: Path
) -> None:
    """A second look finds nothing left to repair."""
    half_created(engine)
    engine.finish(session.container, 0)
    assert any(service.sessions.reconcile()[1])
    before = snapshot(state / "sessions")
    assert not any(service.sessions.reconcile()[1])
    assert snapshot(state / "sessions") == before


def test_a_torn_record_is_no_session(service: Mooring, engine: FakeEngine, declare) -> None:
    """A folder whose record cannot be read hides no other session, and its container stays."""
    folder = make_folder("0123456789ab", "torn")
    folder.mark_ready()
    folder.release()
    (folder.path / "record.json").write_text('{"id": "01')
    kept = container(
        engine,
        container_name("torn", folder.id),
        **{LABEL_INSTALLATION: Installation.here().id, LABEL_ID: folder.id},
    )
    other = service.sessions.create(declare(command="x"), LaunchOptions(name="other")).session
    seen = {one.name: one.state for one in service.sessions.list()}
    assert seen.pop("other") is State.RUNNING
    assert set(seen.values()) <= {State.LOST}
    assert kept in engine.containers
    assert other.container in engine.containers
