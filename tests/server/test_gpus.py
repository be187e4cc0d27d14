"""GPUs over HTTP: who holds them, and sessions that wait for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.errors import EngineUnavailable
from tests.fakes.gpus import FakeGpus
from tests.gpus.conftest import nvml
from tests.server.conftest import Serve
from tests.server.inprocess import InProcess
from tests.server.test_metrics import scrape
from tests.support.waiting import eventually

__all__ = ["nvml"]


@pytest.fixture
def machine(nvml: FakeGpus, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """A server on a machine with eight GPUs, where nothing starts what was left to wait."""
    monkeypatch.setattr("mooring_server_extension.gpu_usage.FRESH_S", 0.0)
    monkeypatch.setattr("mooring_server_extension.gpu_usage.SCRAPED_S", 0.0)
    for user in ("mooring.launch.create", "mooring.sessions.find"):
        monkeypatch.setattr(f"{user}.ensure_dispatcher", lambda ctx: None)
    return serve()


def create(server: InProcess, name: str, gpus: Any) -> tuple[int, Any]:
    return server.ask("POST", "/sessions", {"name": name, "values": {"gpus": gpus}})


def states(server: InProcess) -> list[str]:
    return [gpu["state"] for gpu in server.ask("GET", "/gpus")[1]["gpus"]]


def test_the_gpus_and_their_holders_are_told(machine: InProcess) -> None:
    """Each GPU of the machine is there, with its state and the session that holds it."""
    assert states(machine) == ["free"] * 8
    status, made = create(machine, "aa", 2)
    assert status == 201
    uuids = {claim["gpu"] for claim in made["claims"]}
    assert len(uuids) == 2
    _, reply = machine.ask("GET", "/gpus")
    holders = {gpu["uuid"]: gpu["holders"] for gpu in reply["gpus"] if gpu["state"] == "held"}
    assert set(holders) == uuids
    assert all(one["session"] == "aa" for (one,) in holders.values())
    create(machine, "bb", 0.5)
    assert sorted(states(machine)) == ["free"] * 5 + ["held"] * 2 + ["shared"]


def test_a_machine_without_gpus_has_none(server: InProcess) -> None:
    """An empty list is no error, and a session with one can never be."""
    assert server.ask("GET", "/gpus") == (200, {"gpus": []})
    status, reply = create(server, "aa", 1)
    assert (status, reply["code"]) == (409, "no_capacity")


def test_gpus_are_counted_by_state(machine: InProcess) -> None:
    """Prometheus has each state of the machine's GPUs, and what sessions hold, shares as such."""
    create(machine, "aa", 2)
    create(machine, "bb", 0.5)
    eventually(lambda: scrape(machine)["mooring_gpus{state=held}"] == 2, timeout=10)
    figures = scrape(machine)
    assert figures["mooring_gpus{state=free}"] == 5
    assert figures["mooring_gpus{state=shared}"] == 1
    assert figures["mooring_gpus{state=outside}"] == 0
    assert figures["mooring_gpus_held"] == 2.5
    machine.ask("POST", "/sessions/aa/stop")
    eventually(lambda: scrape(machine)["mooring_gpus{state=held}"] == 0, timeout=10)


@pytest.mark.parametrize("how", ["stop", "remove"])
def test_a_session_that_has_to_wait_is_pending(
    machine: InProcess, fake: FakeEngine, state: Path, how: str
) -> None:
    """No request waits for GPUs: it answers 202; the session tells its place, and is cancelled."""
    assert create(machine, "aa", 8)[0] == 201
    status, waiting = create(machine, "bb", 1)
    assert (status, waiting["state"], waiting["claims"]) == (202, "pending", [])
    assert "queue" in waiting["waiting"]
    listed = {one["name"]: one for one in machine.ask("GET", "/sessions")[1]["sessions"]}
    assert listed["bb"]["state"] == "pending"
    if how == "stop":
        assert machine.ask("POST", "/sessions/bb/stop")[0] == 200
    else:
        assert machine.ask("DELETE", "/sessions/bb?force=1")[0] == 204
    assert [one["name"] for one in machine.ask("GET", "/sessions")[1]["sessions"]] == ["aa"]
    assert len(fake.containers) == 1
    assert len(list((state / "sessions").iterdir())) == 1
    ended = machine.ask("GET", "/sessions?ended=1")[1]["sessions"]
    assert len([one for one in ended if one["name"] == "bb"]) == 1  # and not its first attempt too


def test_what_can_never_fit_is_refused(machine: InProcess) -> None:
    """More GPUs than there are is an error at once, with what there is."""
    status, reply = create(machine, "aa", 9)
    assert (status, reply["code"]) == (409, "no_capacity")
    assert "8 x NVIDIA A100" in reply["message"]
    assert machine.ask("GET", "/sessions")[1]["sessions"] == []


def test_a_start_waits_for_its_gpus_without_its_request(machine: InProcess) -> None:
    """A stopped session whose GPUs are taken is pending again, and runs once they are free."""
    create(machine, "aa", 8)
    machine.ask("POST", "/sessions/aa/stop")
    assert create(machine, "bb", 8)[0] == 201
    status, reply = machine.ask("POST", "/sessions/aa/start", {})
    assert (status, reply["state"]) == (202, "pending")
    assert "bb" in reply["waiting"]
    machine.ask("POST", "/sessions/bb/stop")
    eventually(lambda: machine.ask("GET", "/sessions/aa")[1]["state"] == "running", timeout=20)


def test_a_start_that_waits_can_be_given_up(machine: InProcess) -> None:
    """Stopping it leaves it stopped, with its files."""
    create(machine, "aa", 8)
    machine.ask("POST", "/sessions/aa/stop")
    create(machine, "bb", 8)
    assert machine.ask("POST", "/sessions/aa/start", {})[0] == 202
    assert machine.ask("POST", "/sessions/aa/stop")[0] == 200
    eventually(lambda: machine.ask("GET", "/sessions/aa")[1]["state"] == "stopped", timeout=10)


def test_an_engine_that_is_away_is_told(
    machine: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the engine nobody knows who holds what: that is no empty list."""

    def away(*_: object) -> None:
        raise EngineUnavailable("no engine answers", "start it")

    monkeypatch.setattr(machine.context.mooring.gpus, "list", away)
    status, reply = machine.ask("GET", "/gpus")
    assert (status, reply["code"]) == (503, "engine_unavailable")
    assert scrape(machine)["mooring_gpus{state=free}"] == 0
