"""What is never touched: all, while the engine does not tell, and other people's at any time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.engines.labels import LABEL_ID, LABEL_INSTALLATION, LABEL_NAME, LABEL_PROBE
from mooring.errors import EngineUnavailable
from mooring.host.paths import Installation
from mooring.host.processes import process_mark
from mooring.sessions.model import Session, State
from tests.sessions.support import container, half_created, kinds, snapshot

# An engine that does not tell


def test_an_engine_that_is_down_changes_nothing(
    service: Mooring, engine: FakeEngine, session: Session, state: Path
) -> None:
    """While the engine is away every session is unknown, and not a file is touched."""
    half = half_created(engine)
    engine.finish(session.container, 3)
    before, containers = snapshot(state), dict(engine.containers)
    mend = engine.fail("*", EngineUnavailable("no engine", "start it"), times=-1)
    with pytest.raises(EngineUnavailable):
        service.sessions.list()
    (unknown,) = service.sessions.unknown()
    assert (unknown.id, unknown.name, unknown.state) == (session.id, "train", State.UNKNOWN)
    assert unknown.reason == ""
    assert not unknown.live_kernels
    assert snapshot(state) == before
    assert engine.containers == containers
    assert half.exists
    mend()
    (seen,) = service.sessions.list()
    assert seen.reason == "exit code 3"


def test_an_engine_that_goes_away_in_between(
    service: Mooring, engine: FakeEngine, session: Session
) -> None:
    """An engine that leaves between the listing and a repair is unavailable, and repairs wait."""
    folder = half_created(engine)
    engine.fail("remove", EngineUnavailable("down"))
    with pytest.raises(EngineUnavailable):
        service.sessions.list()
    assert folder.exists
    assert len(engine.containers) == 2


def test_a_state_that_nobody_knows(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """A word of the engine's that mooring does not know is unknown: not stopped, not lost."""
    engine.containers[session.container].state = "hibernating"
    (seen,) = service.sessions.list()
    assert seen.state is State.UNKNOWN
    assert kinds(service, session.id) == ["requested", "started"]


# Other people's


def test_foreign_installations_are_never_touched(service: Mooring, engine: FakeEngine) -> None:
    """Containers of other installations, in whatever state, are not shown and not removed."""
    for number, labels in enumerate(
        (
            {LABEL_INSTALLATION: "f" * 16, LABEL_ID: "0123456789ab"},
            {LABEL_INSTALLATION: "f" * 16, LABEL_PROBE: "1:gone"},
            {LABEL_ID: "0123456789ab"},
            {},
        )
    ):
        container(engine, f"foreign-{number}", **labels)
    assert service.sessions.reconcile()[0] == []
    assert len(engine.containers) == 4


@pytest.mark.parametrize(
    "session_id",
    ["0123456789ab", "", ".", "../../etc", "0123456789AB", "0123456789ab/..", "\n"],
)
def test_forged_labels(
    service: Mooring, engine: FakeEngine, session: Session, state: Path, session_id: str
) -> None:
    """A container with our installation's id and no record of ours is not ours: never removed."""
    forged = container(
        engine,
        "forged",
        **{
            LABEL_INSTALLATION: Installation.here().id,
            LABEL_ID: session_id,
            LABEL_NAME: "train",
        },
    )
    engine.start(forged)
    before = snapshot(state / "sessions")
    assert [seen.id for seen in service.sessions.list()] == [session.id]
    assert service.sessions.get_running("train").container == session.container
    service.sessions.remove(service.sessions.get("train"), force=True)
    assert set(engine.containers) == {forged}
    assert before.keys() - snapshot(state / "sessions").keys() == before.keys()


def test_a_copy_of_a_sessions_labels(
    service: Mooring, engine: FakeEngine, session: Session
) -> None:
    """A container with all of a session's labels is not the session, however new it is."""
    labels = dict(engine.containers[session.container].config.labels)
    copy = container(engine, "copy", **labels)
    engine.start(copy)
    (seen,) = service.sessions.list()
    assert seen.container == session.container
    assert service.sessions.get_running("train").container == session.container
    engine.finish(session.container, 0)
    assert service.sessions.get("train").state is State.STOPPED
    assert copy in engine.containers


# Probes


def probe(engine: FakeEngine, mark: str, *, recorded: bool = True) -> str:
    name = f"mooring-probe-{mark.replace(':', '-')}"
    if recorded:
        (Installation.here().images / name).touch()
    return container(
        engine, name, **{LABEL_INSTALLATION: Installation.here().id, LABEL_PROBE: mark}
    )


def test_probes_of_dead_processes_are_removed(service: Mooring, engine: FakeEngine) -> None:
    """A look into an image is cleared away once its process is gone, also if its number is back."""
    alive = probe(engine, process_mark(os.getpid()))
    dead = probe(engine, f"{2**22}:1")
    another = probe(engine, f"{os.getpid()}:1")  # our number, another process's start
    stranger = probe(engine, f"{2**22}:2", recorded=False)
    repairs = service.sessions.reconcile()[1]
    assert set(repairs.probes) == {dead, another}
    assert set(engine.containers) == {alive, stranger}
    assert [path.name for path in Installation.here().images.glob("mooring-probe-*")] == [
        f"mooring-probe-{process_mark(os.getpid()).replace(':', '-')}"
    ]


def test_records_of_looks_that_were_cut_off_are_swept(service: Mooring) -> None:
    """A record of a look whose container never was goes after a while."""
    for name, age in (("mooring-probe-old", 61), ("mooring-probe-new", 0)):
        path = Installation.here().images / name
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    service.sessions.list()
    assert [path.name for path in Installation.here().images.iterdir()] == ["mooring-probe-new"]
