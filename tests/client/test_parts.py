"""``Mooring`` and its parts: each is there when it is asked for, and costs nothing before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mooring
from mooring import FakeEngine, Mooring
from mooring.errors import EngineUnavailable
from mooring.sessions.lease import holder_of
from tests.support.sessions import session_folder

PARTS = (
    "sessions",
    "records",
    "terminals",
    "kernels",
    "files",
    "ports",
    "gpus",
    "leases",
    "history",
)
HEAVY = ("pydantic", "docker", "yaml", "zmq", "jupyter_client", "pynvml", "requests")


def imported_by(program: str) -> set[str]:
    """The top-level packages that a Python program has imported at its end."""
    ending = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{ending}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("program", ["import mooring", "import mooring; mooring.Mooring()"])
def test_parts_are_lazy(program: str, state: Path) -> None:
    """Neither the import nor a client loads what validates specs, or what talks to an engine."""
    assert not imported_by(program) & set(HEAVY)


@pytest.mark.parametrize("name", mooring.__all__)
def test_every_public_name_resolves(name: str) -> None:
    """What ``mooring`` says that it has, it has."""
    assert getattr(mooring, name) is not None


def test_public_names_are_unique() -> None:
    """``__all__`` has each name once."""
    assert len(set(mooring.__all__)) == len(mooring.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    """As of every module: ``hasattr`` and ``from … import`` rely on it."""
    with pytest.raises(AttributeError, match="'mooring' has no attribute 'Nothing'"):
        mooring.Nothing  # noqa: B018


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_one_object(part: str) -> None:
    """However often it is asked for, and in whichever order."""
    client = Mooring(FakeEngine(), actor="tester")
    assert getattr(client, part) is getattr(client, part)


def test_parts_share_what_the_client_was_given(declare, engine: FakeEngine) -> None:
    """The engine, the installation and the actor are those of the client in every part."""
    client = Mooring(engine, actor="ada")
    session = client.sessions.create(declare(command="x", name="train")).session
    assert client.engine is engine
    assert client.installation.path.joinpath("sessions", session.id).is_dir()
    assert [event.actor for event in client.history.events(session.id)] == ["ada"] * 2
    lease = client.leases.make(session.id, key={}, holder="1:2")
    assert holder_of(session_folder(session.id)) == "1:2"
    lease.release()


def test_no_engine_is_asked_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client can be made, and can read records, while no engine answers."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    client = Mooring()
    assert client.records.names() == []
    assert client.sessions.unknown() == []
    with pytest.raises(EngineUnavailable):
        client.sessions.list()
