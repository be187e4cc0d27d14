"""Mounted folders that were replaced while a session ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.engines.mounted import Mounted
from mooring.errors import SessionStateError
from mooring.sessions.model import Session
from mooring.sessions.replaced import refuse_replaced
from tests.support.sessions import session_folder


@pytest.fixture
def session(service: Mooring, declare, project: Path) -> Session:
    (project / "data").mkdir()
    made = service.sessions.create(
        declare(command="x", name="s", inputs=["data"]), cwd=project
    ).session
    assert service.records.replaced_sources(made) == []
    return made


def replace(folder: Path) -> None:
    """Put another folder in a folder's place; the first one lives on, with its inode."""
    folder.rename(folder.with_name("aside"))
    folder.mkdir()


def test_a_replaced_source_is_known_by_its_identity(
    service: Mooring, session: Session, project: Path
) -> None:
    """A path tells nothing; one that cannot be looked at is not called replaced."""
    replace(project / "data")
    assert service.records.replaced_sources(session) == [str(project / "data")]
    folder = session_folder(session.id)
    refuse_replaced(folder, str(project))
    with pytest.raises(SessionStateError, match="data was replaced on this machine") as refused:
        refuse_replaced(folder, str(project / "data" / "deep"))
    assert refused.value.hint.endswith("mooring stop s && mooring start s")
    (project / "data").rmdir()
    with pytest.raises(SessionStateError, match="data was removed on this machine"):
        refuse_replaced(folder, str(project / "data"))


def test_a_start_mounts_what_is_there_now(
    service: Mooring, session: Session, project: Path
) -> None:
    """The identities are those of the last start."""
    replace(project / "data")
    service.sessions.stop(session)
    stopped = service.sessions.get("s")
    assert service.records.replaced_sources(stopped) == []
    started = service.sessions.start(stopped)
    assert service.records.replaced_sources(started) == []


@pytest.mark.parametrize("deleted", [False, True])
def test_nothing_is_run_where_the_working_directory_was_deleted(
    service: Mooring,
    engine: FakeEngine,
    session: Session,
    project: Path,
    deleted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine would refuse in words of its own; in one that was moved away it runs commands."""
    monkeypatch.setattr(
        engine, "mounted", lambda container, paths: [Mounted(1, 2, 3, "", deleted=deleted)]
    )
    replace(project)
    if not deleted:
        service.sessions.exec(session, ["true"], stdin=False).close()
        return
    with pytest.raises(SessionStateError, match="session s still has the old one"):
        service.sessions.exec(session, ["true"], stdin=False)


def test_a_working_directory_that_was_removed_alone_is_to_be_made_again(
    service: Mooring,
    engine: FakeEngine,
    declare,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It lies in a mounted folder that is as it was."""
    (project / "sub").mkdir()
    declared = declare("command: x\nname: s\n")
    session = service.sessions.create(declared, cwd=project / "sub").session
    monkeypatch.setattr(engine, "mounted", lambda container, paths: [None])
    service.sessions.exec(session, ["true"], stdin=False).close()
    (project / "sub").rmdir()
    with pytest.raises(SessionStateError, match="the working directory of session s, was") as error:
        service.sessions.exec(session, ["true"], stdin=False)
    assert error.value.hint == f"create it again: mkdir -p {project / 'sub'}"
