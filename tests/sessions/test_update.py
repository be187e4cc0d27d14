"""Limits of a session that exists."""

from __future__ import annotations

from typing import Any

import pytest

from mooring import FakeEngine, LaunchOptions, ResourceLimits, parse_limits
from mooring.client import Mooring
from mooring.errors import EngineError, NoCapacity, NotSupported, SessionStateError, SpecError
from mooring.host.boot import uptime
from mooring.host.memory import total_memory
from mooring.sessions.model import Session
from tests.support.sessions import session_folder

GIB = 1 << 30


@pytest.fixture
def session(service: Mooring, declare: Any) -> Session:
    spec = declare(command="x", memory="1GiB", pids_limit=300)
    return service.sessions.create(spec, LaunchOptions(name="train")).session


def test_limits_are_there_at_once_and_stay(
    service: Mooring, engine: FakeEngine, session: Session
) -> None:
    """The container, the listing and the history have them, also after a stop and a start."""
    service.sessions.update(session, limits=ResourceLimits(1.5, 2 * GIB))
    config = engine.containers[session.container].config
    assert (config.cpus, config.memory_bytes, config.pids_limit) == (1.5, 2 * GIB, 300)
    for _ in range(2):
        (listed,) = service.sessions.list()
        shown = listed.to_dict()
        assert (shown["cpus"], shown["memory_limit_bytes"]) == (1.5, 2 * GIB)
        assert listed.spec.pids_limit == 300
        service.sessions.stop(listed)
        service.sessions.start(service.sessions.get("train"))
    kinds = {event.kind: event.detail for event in service.sessions.events(session.id)}
    assert kinds["updated"] == "cpus 1.5, memory 2 GiB"


def test_of_a_stopped_session(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """Its container has them when it starts; deadlines are those of a clock that runs."""
    service.sessions.stop(session)
    stopped = service.sessions.get("train")
    service.sessions.update(stopped, limits=ResourceLimits(pids_limit=0))
    assert engine.containers[session.container].config.pids_limit == 0
    with pytest.raises(SessionStateError, match="deadlines"):
        service.sessions.update(stopped, limits=ResourceLimits(cpus=2.0), idle_timeout_s=60.0)
    assert engine.containers[session.container].config.cpus is None


def test_less_memory_than_is_used_is_refused(service: Mooring, session: Session) -> None:
    """The kernel would kill the session's processes until the rest fits."""
    now = uptime()
    status = f"sampled {now}\nstarted {now}\nmemory_bytes {GIB}\ncomplete\n"
    session_folder(session.id).guest.write("status", status)
    with pytest.raises(SpecError, match="uses 1 GiB of memory, more than 512 MiB"):
        service.sessions.update(session, limits=ResourceLimits(memory_bytes=GIB // 2))
    service.sessions.update(session, limits=ResourceLimits(memory_bytes=2 * GIB))


def test_more_memory_than_the_machine_has(service: Mooring, session: Session) -> None:
    with pytest.raises(NoCapacity, match="this machine has"):
        service.sessions.update(session, limits=ResourceLimits(memory_bytes=2 * total_memory()))


def test_what_the_engine_refuses_is_not_recorded(
    service: Mooring, engine: FakeEngine, session: Session
) -> None:
    engine.fail("update_limits", EngineError("changing the limits of the container: no"))
    with pytest.raises(EngineError, match="no"):
        service.sessions.update(session, limits=ResourceLimits(cpus=8.0), idle_timeout_s=60.0)
    assert service.sessions.get("train").to_dict()["cpus"] is None
    assert service.sessions.deadlines(session)["idle_timeout"] == 3600


def test_an_engine_that_cannot(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """Podman before version 5, for one."""
    engine.__class__ = type("WithoutLimits", (type(engine),), {"update_limits": None})
    with pytest.raises(NotSupported, match="cannot change the limits"):
        service.sessions.update(session, limits=ResourceLimits(cpus=8.0))


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ({}, (None, None, None)),
        ({"cpus": "0.5", "memory": None}, (0.5, None, None)),
        ({"memory": "8g", "pids_limit": "off"}, (None, 8 * GIB, 0)),
        ({"pids_limit": "4096"}, (None, None, 4096)),
    ],
)
def test_values_as_a_spec_has_them(values: dict[str, Any], limits: tuple[Any, ...]) -> None:
    assert parse_limits(values) == limits


@pytest.mark.parametrize("values", [{"cpus": "0"}, {"memory": "8"}, {"pids_limit": "5"}])
def test_values_that_a_spec_refuses(values: dict[str, Any]) -> None:
    """In the words of the flag."""
    (key,) = values
    with pytest.raises(SpecError, match=f"^flag --{key}: "):
        parse_limits(values, lambda name: f"flag --{name}")
