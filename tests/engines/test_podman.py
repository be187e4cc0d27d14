"""What is asked of Podman in other words than of Docker, and what is not asked at all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.engines.base import Bind, ContainerConfig
from mooring.engines.capabilities import SupportsLateNetwork, SupportsRecreate, fitted
from mooring.engines.docker.seccomp import profile
from mooring.engines.podman import PodmanEngine
from mooring.errors import NotSupported
from tests.engines.conftest import Server

CONFIG = ContainerConfig(
    name="n",
    image="i:1",
    argv=("true",),
    user="1000:1000",
    groups=(4,),
    binds=(Bind("/usr", "/usr"),),
    network=False,
)


@pytest.fixture
def podman(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodmanEngine]:
    """Rootless Podman."""
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    server.podman = server.version = "4.3.1"
    with contextlib.closing(PodmanEngine(f"unix://{server.server_address}")) as engine:
        yield engine


def host_config(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.posted[-1]["HostConfig"]
    return found


def test_what_lives_is_asked_for_in_podmans_own_words(server: Server, podman: PodmanEngine) -> None:
    """Podman answers 500 to a state that it does not know, and then nobody knows of any GPU."""
    assert podman.list({}, alive=True) == []
    assert server.states == ["running", "paused"]


def test_a_network_comes_with_the_start(podman: PodmanEngine) -> None:
    """Podman gives a running container no first network: there it has one from the start."""
    assert not isinstance(podman, SupportsLateNetwork)
    assert isinstance(podman, SupportsRecreate)
    assert fitted(podman, CONFIG).network


def test_rootless_containers_are_their_users_own(server: Server, podman: PodmanEngine) -> None:
    """The user keeps uid and gid inside, and the groups that they have: none can be added."""
    podman.create(CONFIG)
    host = host_config(server)
    assert host["UsernsMode"] == "keep-id"
    assert "GroupAdd" not in host
    assert "LogConfig" not in host
    assert "BindOptions" not in host["Mounts"][0]


def test_a_profile_is_a_file_of_the_users_own(
    server: Server, podman: PodmanEngine, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Podman takes the path of a seccomp profile, where Docker takes its text."""
    monkeypatch.setattr(os, "getuid", lambda: state.stat().st_uid)
    server.info = {"Architecture": "amd64", "SecurityOptions": ["name=seccomp,profile=default"]}
    podman.create(dataclasses.replace(CONFIG, denied_modes=0o6000))
    plain, option = host_config(server)["SecurityOpt"]
    assert plain == "no-new-privileges"
    path = Path(option.removeprefix("seccomp="))
    assert path.parent == state
    assert path.read_text() == profile(0o6000)


@pytest.mark.parametrize("cgroups", ["1", "2"])
def test_limits_that_would_be_ignored_are_refused(
    server: Server, podman: PodmanEngine, cgroups: str
) -> None:
    """On cgroup v1 rootless Podman ignores limits in silence, so asking for one is refused."""
    server.info = {"CgroupVersion": cgroups}
    limited = ContainerConfig(name="n", image="i:1", argv=("true",), user="0:0", cpus=1.0)
    if cgroups == "2":
        podman.create(limited)
        assert host_config(server)["NanoCpus"] == 10**9
    else:
        with pytest.raises(NotSupported, match="cpus"):
            podman.create(limited)


@pytest.mark.parametrize("version", ["4.9.4", "5.0.0"])
def test_gpus_by_cdi(server: Server, podman: PodmanEngine, version: str) -> None:
    """Podman takes CDI names through this socket from version 5 on; before, they are refused."""
    server.version = version
    config = ContainerConfig(
        name="n", image="i:1", argv=("true",), user="0:0", gpus=("GPU-1",), cdi_devices=("x=GPU-1",)
    )
    if version < "5":
        with pytest.raises(NotSupported, match="before version 5"):
            podman.create(config)
    else:
        podman.create(config)
        (request,) = host_config(server)["DeviceRequests"]
        assert (request["Driver"], request["DeviceIDs"]) == ("cdi", ["x=GPU-1"])
