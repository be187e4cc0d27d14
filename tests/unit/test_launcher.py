"""The launcher of a restart, and what the last one has left to it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from mooring.engines.fake import FakeEngine
from mooring.errors import EngineError, SessionTimeout
from mooring.launch.plan import CLOCK
from mooring.service import Mooring
from mooring.sessions import lease
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session, State
from mooring.sessions.record import Folder
from mooring_provisioner import launcher
from mooring_provisioner.launcher import Launcher
from mooring_provisioner.opening import Wanted

PREDECESSOR = "1:2"


class Keeper:
    def tell(self, **what: object) -> None:
        pass


@pytest.fixture
def restart(project: Path, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    monkeypatch.setattr(launcher, "notebook_of", lambda client: "/p/a.ipynb")
    return Launcher("/spec", b"", Keeper())  # type: ignore[arg-type]


@pytest.fixture
def ended(service: Mooring, restart: Launcher, declare) -> Session:
    """A session of a launcher that is gone, which its clock has ended since."""
    session = service.create(declare(command="x"), name="train").session
    key = restart._lease_key(Wanted())
    Lease.make(Folder.open(session.id), key=key, holder=PREDECESSOR).release()
    service.engine.exec_detached(session.container, ["/bin/sh", CLOCK, "end", "idle"])
    assert Folder.open(session.id).end() is not None
    return session


def keeping(session: Session) -> int:
    """The lock of the last launcher's keeper, which waits as long as the session is ended."""
    path = Folder.open(session.id).path / "keeper"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def test_a_restart_that_gets_no_gpu_leaves_the_session_to_the_last_keeper(
    service: Mooring, ended: Session, restart: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper goes when it sees a new holder: there is none before the session runs."""
    folder, seen = Folder.open(ended.id), []

    def start(name: str, **options: object) -> Session:
        seen.append(lease.holder_of(folder))
        assert Lease.take(folder) is None, "nobody else gets it meanwhile"
        raise SessionTimeout("no turn within 40 s")

    kept = keeping(ended)
    with monkeypatch.context() as patch:
        patch.setattr(service, "start", start)
        with pytest.raises(SessionTimeout):
            restart._of_predecessor(service, Wanted())
    assert seen == [PREDECESSOR]
    assert lease.holder_of(folder) == PREDECESSOR
    assert [one.state for one in service.sessions()] == [State.STOPPED]
    again = restart._of_predecessor(service, Wanted())
    assert again is not None
    assert (again.id, again.state) == (ended.id, State.RUNNING)
    assert lease.holder_of(folder) == restart._me
    assert restart._lease is not None
    restart._lease.release()
    os.close(kept)


def test_a_restart_that_fails_late_keeps_the_files(
    service: Mooring, engine: FakeEngine, ended: Session, restart: Launcher
) -> None:
    """Once nothing tells that it had ended its keeper may go: it is nobody's then, and stays."""
    engine.fail("start", EngineError("no such device"))
    with pytest.raises(EngineError):
        restart._of_predecessor(service, Wanted())
    assert [one.state for one in service.sessions()] == [State.STOPPED]
    assert Folder.open(ended.id).home.exists()
