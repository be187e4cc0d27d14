"""``Mooring.records``: what the records on this machine tell, without the engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.errors import (
    EngineUnavailable,
)
from mooring.sessions.record import Plan
from tests.support.sessions import session_folder

IMAGE = "python:3.12"


def test_records_are_read_without_the_engine(
    service: Mooring, engine: FakeEngine, project: Path, declare
) -> None:
    """Names, images, the folder to open and whether a session is there need no request."""
    engine.images = {IMAGE: "sha256:1"}
    session = service.sessions.create(declare(image=IMAGE, command="x", name="one")).session
    for method in ("list", "inspect", "info"):
        engine.fail(method, EngineUnavailable("down"), times=99)
    assert service.records.names() == ["one"]
    assert service.records.images() == {IMAGE}
    assert service.records.exists(session.id)
    assert not service.records.has_ended(session.id)
    assert service.records.project_folder(session) == str(project)
    assert (service.records.note(session), service.records.gpu_sharing(session)) == ("", {})
    session_folder(session.id).guest.write("end", "reason idle\ntime 5\n")
    assert service.records.has_ended(session.id)
    assert service.records.has_ended("0" * 12)
    assert not service.records.exists("0" * 12)


def test_a_foreign_session_tells_no_record(service: Mooring, declare) -> None:
    """Of another installation's session nothing is read on this machine."""
    session = dataclasses.replace(
        service.sessions.create(declare(command="x")).session, foreign=True
    )
    session_folder(session.id).write_plan(Plan(note="secret"))
    session_folder(session.id).update_state(gpu_sharing={"GPU-a": "secret"})
    assert (service.records.note(session), service.records.gpu_sharing(session)) == ("", {})
