"""A client's restart of a kernel: the next launcher, and the session of the last one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

import pytest

from mooring import FakeEngine, LaunchOptions, Wait
from mooring.client import Mooring
from mooring.errors import EngineError, SessionTimeout
from mooring.guest.bundle import end_argv
from mooring.sessions import lease
from mooring.sessions.context import Context
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session, State
from mooring_provisioner.restart import take_over
from tests.support.sessions import session_folder

Restart = Callable[[], "tuple[Session, Lease] | None"]

PREDECESSOR, HOLDER = "1:2", "3:4"
KEY = {"notebook": "/p/a.ipynb"}


@pytest.fixture
def restart(service: Mooring) -> Restart:
    return lambda: take_over(
        service,
        KEY,
        notebook=True,
        holder=HOLDER,
        kernel="0" * 12,
        cancelled=lambda: False,
        max_wait_s=40.0,
    )


@pytest.fixture
def ended(service: Mooring, declare) -> Session:
    """A session of a launcher that is gone, which its clock has ended since."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    Lease.make(session_folder(session.id), key=KEY, holder=PREDECESSOR).release()
    service.engine.exec_detached(session.container, end_argv("/programs", "idle", ""))
    assert session_folder(session.id).clock.end() is not None
    return session


def keeping(session: Session) -> int:
    """The lock of the last launcher's keeper, which waits as long as the session is ended."""
    path = session_folder(session.id).path / "keeper"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def test_a_restart_that_gets_no_gpu_leaves_the_session_to_the_last_keeper(
    service: Mooring, ended: Session, restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper goes when it sees a new holder: there is none before the session runs."""
    folder, seen = session_folder(ended.id), []

    def start(ctx: Context, session: Session, wait: Wait) -> Session:
        assert wait.max_wait_s == 40.0
        seen.append(lease.holder_of(folder))
        assert Lease.take(folder) is None, "nobody else gets it meanwhile"
        raise SessionTimeout("still queued after 40 s")

    kept = keeping(ended)
    with monkeypatch.context() as patch:
        patch.setattr("mooring.launch.takeover.start", start)
        with pytest.raises(SessionTimeout):
            restart()
    assert seen == [PREDECESSOR]
    assert lease.holder_of(folder) == PREDECESSOR
    assert [one.state for one in service.sessions.list()] == [State.STOPPED]
    taken = restart()
    assert taken is not None
    again, held = taken
    assert (again.id, again.state) == (ended.id, State.RUNNING)
    assert lease.holder_of(folder) == HOLDER
    held.release()
    os.close(kept)


def test_a_restart_that_fails_late_keeps_the_files(
    service: Mooring, engine: FakeEngine, ended: Session, restart: Restart
) -> None:
    """Once nothing tells that it had ended its keeper may go: it is nobody's then, and stays."""
    engine.fail("start", EngineError("no such device"))
    with pytest.raises(EngineError):
        restart()
    assert [one.state for one in service.sessions.list()] == [State.STOPPED]
    assert session_folder(ended.id).home.exists()
