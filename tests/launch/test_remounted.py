"""The mounts of a stopped session, on the machine as it is when it starts again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.errors import PolicyError
from mooring.launch import container, remounted
from mooring.sessions.model import Session
from tests.support.sessions import session_folder


@pytest.fixture
def stopped(service: Mooring, declare: Any, project: Path) -> Session:
    """A stopped session with an input and a private home."""
    (project / "data").mkdir()
    session = service.sessions.create(declare(inputs=["data"], command="sleep 9")).session
    service.sessions.stop(session)
    return service.sessions.get(session.id)


def test_nothing_has_changed(service: Mooring, engine: FakeEngine, stopped: Session) -> None:
    """A session whose mounts are as they were starts again."""
    assert service.sessions.start(stopped).state == "running"


def test_every_bind_of_the_container_is_recorded(engine: FakeEngine, stopped: Session) -> None:
    """The record has each bind of the container, so that none is forgotten at a start."""
    plan = session_folder(stopped.id).record().plan
    assert plan.layout is not None
    assert plan.on_top is not None
    binds = engine.containers[stopped.container].config.binds
    known = [*plan.layout.image, *(target for _, target, _ in (*plan.layout.binds, *plan.on_top))]
    assert sorted(known) == sorted(bind.target for bind in binds)


def test_mooring_runs_from_elsewhere(
    service: Mooring,
    stopped: Session,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session is not started by a mooring whose environment it could change; the error names the
    place, and the one that created it starts it."""
    (project / "a" / "venv").mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "prefix", str(project / "a" / "venv"))
        with pytest.raises(PolicyError, match=f"^{project}/a was not protected") as caught:
            service.sessions.start(stopped)
    assert "the mooring that created it" in caught.value.hint
    assert service.sessions.start(stopped).state == "running"


@pytest.mark.parametrize("what", ["gone", "below an input", "below the project"])
def test_file_systems_have_changed(
    service: Mooring,
    declare: Any,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """A session does not start if the file system of a mount is gone, or another one was mounted
    below a read-only mount; what lies below a writable one is the user's own business."""
    (project / "data" / "sub").mkdir(parents=True)
    before, after = ("/", str(tmp_path)), ("/", str(tmp_path))
    after += (str(project / "data" / "sub"),) if what == "below an input" else ()
    after = ("/",) if what == "gone" else after
    after += (str(project / "sub"),) if what == "below the project" else ()

    def mounted(*points: str) -> None:
        for module in (container, remounted, sys.modules["mooring.images.mounts"]):
            monkeypatch.setattr(module, "mount_points", lambda: points)

    mounted(*before)
    session = service.sessions.create(declare(inputs=["data"], command="sleep 9")).session
    service.sessions.stop(session)
    mounted(*after)
    if what == "below the project":
        assert service.sessions.start(session).state == "running"
        return
    with pytest.raises(PolicyError, match="the file system at ") as caught:
        service.sessions.start(session)
    assert caught.value.hint
    mounted(*before)
    assert service.sessions.start(session).state == "running"


def test_a_session_of_an_earlier_version_starts(
    service: Mooring, stopped: Session, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session whose record does not tell what lies on top of its mounts starts as it did."""
    record = session_folder(stopped.id).path / "record.json"
    known = json.loads(record.read_text())
    del known["on_top"], known["file_systems"]
    record.write_text(json.dumps(known))
    (project / "venv").mkdir()
    monkeypatch.setattr(sys, "prefix", str(project / "venv"))
    assert service.sessions.start(stopped).state == "running"
