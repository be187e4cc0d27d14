"""The network of sessions: made once, isolated, and with what the administrator configured."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mooring.engines.docker import DockerEngine, networks
from mooring.engines.docker.client import ApiError
from mooring.errors import EngineError
from tests.support.docker import docker

ICC = "com.docker.network.bridge.enable_icc"
MTU = "com.docker.network.driver.mtu"
FULL = "could not find an available, non-overlapping IPv4 address pool among the defaults"


class Api:
    """What an engine says of networks; ``before`` runs before each creation."""

    def __init__(self, *rows: dict[str, Any], before: Callable[[], None] = lambda: None) -> None:
        self.rows, self.before = list(rows), before

    def get(self, *path: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        assert path == ("networks",)
        return [row for row in self.rows if query["filters"]["name"][0] in row["Name"]]

    def post(self, *path: str, body: dict[str, Any]) -> dict[str, str]:
        assert path == ("networks", "create")
        self.before()
        made = network("made", "2", name=body["Name"], **body["Options"])
        self.rows.append(made | {"made": body})
        return {"Id": "made"}

    def send(self, *path: str) -> None:
        self.rows = [row for row in self.rows if ("DELETE", "networks", row["Id"]) != path]


def network(key: str, created: str, name: str = "mooring", **options: str) -> dict[str, Any]:
    return {"Id": key, "Name": name, "Created": created, "Options": options}


def isolated(key: str, created: str) -> dict[str, Any]:
    return network(key, created, **{ICC: "false"})


def ids(api: Api) -> list[str]:
    return [row["Id"] for row in api.rows if row["Name"] == "mooring"]


def test_it_is_made_once() -> None:
    """The network is created where there is none, and then found."""
    api = Api(network("x", "1", name="mooring_default"))
    assert networks.ensure(api) == networks.ensure(api) == "mooring"  # type: ignore[arg-type]
    assert ids(api) == ["made"]
    assert api.rows[-1]["Options"][ICC] == "false"
    assert api.rows[-1]["made"]["Labels"] == {"mooring.network": "sessions"}


def test_the_default_networks_settings_hold() -> None:
    """A smaller packet size, as a cloud's network needs it, is that of the default network."""
    api = Api(network("b", "0", name="bridge", **{MTU: "1400", ICC: "true", "x.name": "docker0"}))
    networks.ensure(api)  # type: ignore[arg-type]
    assert api.rows[-1]["Options"] == {MTU: "1400", ICC: "false"}


@pytest.mark.parametrize("created", ["1", "3"])
def test_of_two_the_first_stays(created: str) -> None:
    """Where another process makes one at the same time, both use the older one."""
    api = Api()
    api.before = lambda: api.rows.append(isolated("other", created))
    networks.ensure(api)  # type: ignore[arg-type]
    assert sorted(ids(api)) == (["other"] if created == "1" else ["made", "other"])


def test_another_process_was_faster() -> None:
    """An engine that allows one network of a name says that there is one: it is used."""
    api = Api()

    def before() -> None:
        api.rows.append(isolated("other", "1"))
        raise ApiError(409, "network with name mooring already exists")

    api.before = before
    assert networks.ensure(api) == "mooring"  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {ICC: "true"}, {"other": "false"}])
def test_one_without_isolation_is_refused(options: dict[str, str]) -> None:
    """A network of that name in which containers reach each other is not used."""
    with pytest.raises(EngineError, match="reach each other") as caught:
        networks.ensure(Api(network("theirs", "1", **options)))  # type: ignore[arg-type]
    assert "docker network rm mooring" in caught.value.hint


@pytest.mark.parametrize(
    ("why", "hint"),
    [
        (FULL, "docker network prune"),
        ("all predefined address pools have been fully subnetted", "docker network prune"),
        ("please ensure that br_netfilter kernel module is loaded", "modprobe br_netfilter"),
        ("anything else", "docker network ls"),
    ],
)
def test_what_hinders_it_is_told(why: str, hint: str) -> None:
    """Where the engine cannot make it, no session starts without it, and what to do is told."""

    def before() -> None:
        raise ApiError(500, why)

    with pytest.raises(EngineError, match="creating the network mooring") as caught:
        networks.ensure(Api(before=before))  # type: ignore[arg-type]
    assert hint in caught.value.hint


@pytest.fixture
def other_name(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A network of another name, so that this machine's sessions keep theirs."""
    name = f"mooring-test-{os.getpid()}"
    monkeypatch.setattr(networks, "NAME", name)
    yield name
    docker("network", "rm", name)


def _ensure(address: str, name: str) -> str:
    networks.NAME = name
    return str(DockerEngine(address)._network_mode())


@pytest.mark.engine
def test_many_make_it_at_once(real_engine: DockerEngine, other_name: str) -> None:
    """Of many processes that need it at the same time each has it, and there is one."""
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        made = pool.starmap(_ensure, [(real_engine.address, other_name)] * 16)
    assert made == [other_name] * 16
    words = ["network", "ls", "--quiet", "--filter", f"name=^{other_name}$"]
    assert len(docker(*words).stdout.split()) == 1
