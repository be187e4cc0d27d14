"""A kernel's start and its end, as all clients make them."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.errors import KernelError
from mooring.kernels.kernel import Connection
from mooring.sessions import kernels
from mooring.sessions.context import Context
from mooring.sessions.model import Session


class Handle:
    """A kernel that takes a few looks to end."""

    id = "0" * 12

    def __init__(self, looks: int = 3) -> None:
        self.calls: list[str] = []
        self.options: dict[str, Any] = {}
        self._looks = looks

    def start(self, **options: Any) -> None:
        self.calls.append("start")
        self.options = options

    def send_signal(self, signum: int) -> bool:
        self.calls.append(signal.Signals(signum).name)
        return True

    def poll(self) -> int | None:
        self._looks -= 1
        return -9 if self._looks < 0 else None

    def record_exit(self, history: object) -> bool:
        self.calls.append("record_exit")
        return True

    def forget(self) -> None:
        self.calls.append("forget")

    def close(self) -> None:
        pass


@pytest.fixture
def session(service: Mooring, declare: Any, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(kernels, "ensure_host", lambda ctx, session: None)
    return service.sessions.create(declare(command="x"), LaunchOptions(name="lab")).session


CONNECTION = Connection(ip="/s", key=b"k", kernel_name="ir")


def test_a_start_is_in_the_sessions_history(service: Mooring, session: Session) -> None:
    """Once the sockets are there, and in the client's name."""
    handle: Any = Handle()
    service.kernels.start(session, handle, CONNECTION, cwd="/p", env={"A": "b"}, timeout_s=5)
    assert handle.options == {"cwd": "/p", "env": {"A": "b"}, "arguments": (), "timeout_s": 5}
    event = service.sessions.events(session.id)[-1]
    assert (event.kind, event.actor) == ("kernel", "tester")
    assert event.detail == "ir 000000000000 started"


def test_a_start_that_fails_is_not(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that never ran has no line of its own."""

    def fail(**options: Any) -> None:
        raise KernelError("kernel ir cannot start")

    handle: Any = Handle()
    monkeypatch.setattr(handle, "start", fail)
    with pytest.raises(KernelError):
        service.kernels.start(session, handle, CONNECTION, cwd="/p", env={})
    assert "kernel" not in [event.kind for event in service.sessions.events(session.id)]


def test_a_kill_waits_until_the_kernel_has_ended(
    service: Mooring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It returns as soon as that is seen, and after its patience at the latest."""
    monkeypatch.setattr(kernels, "KILL_POLL_S", 0.0)
    handle: Any = Handle()
    service.kernels.kill(handle)
    assert handle.poll() == -9
    monkeypatch.setattr(kernels, "KILL_PATIENCE_S", 0.0)
    immortal: Any = Handle(looks=1 << 30)
    service.kernels.kill(immortal)
    assert immortal.calls == ["SIGKILL"]


def test_an_ended_kernel_is_recorded_and_then_forgotten(
    service: Mooring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder tells how it ended: that is read before it goes."""
    handle = Handle(looks=0)
    monkeypatch.setattr(Context, "kernel_handle", lambda ctx, session_id, kernel_id: handle)
    service.kernels.end("a" * 12, handle.id)
    assert handle.calls == ["SIGKILL", "record_exit", "forget"]
