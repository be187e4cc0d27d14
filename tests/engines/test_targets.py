"""Which engine a target names, where it is, and what no container may see of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mooring.engines import local_address, local_sockets, open_engine
from mooring.engines.docker import DOCKER_SOCKET, DockerEngine
from mooring.engines.podman import PodmanEngine
from mooring.errors import EngineUnavailable, NotSupported
from tests.engines.conftest import Server


@pytest.mark.parametrize(("podman", "kind"), [("", DockerEngine), ("4.3.1", PodmanEngine)])
def test_who_answers_decides(
    server: Server, monkeypatch: pytest.MonkeyPatch, podman: str, kind: type
) -> None:
    """Docker and Podman are told apart by their own word, whatever the socket is called, and are
    asked once."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{server.server_address}")
    server.podman = podman
    engine = open_engine()
    assert type(engine) is kind
    assert engine.list({}) == []
    engine.close()
    assert server.asked == ["/_ping", "/v1.41/containers/json"]


@pytest.mark.parametrize(("name", "kind"), [("docker", DockerEngine), ("podman", PodmanEngine)])
def test_one_that_is_down_is_named_by_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: type
) -> None:
    """An engine that does not answer yet is opened all the same; its first request fails."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/{name}.sock")
    engine = open_engine()
    assert type(engine) is kind
    with pytest.raises(EngineUnavailable, match=f"{name}.sock does not exist"):
        engine.list({})


def test_other_targets_are_refused() -> None:
    """A target that this version does not know is refused by name."""
    with pytest.raises(NotSupported, match="'moon' is not supported"):
        open_engine("moon")


def test_other_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine on another machine is refused, and hides no socket of this one."""
    environ = {"DOCKER_HOST": "tcp://box:2375"}
    with pytest.raises(NotSupported, match="tcp://box:2375"):
        local_address(environ)
    assert local_sockets(environ) == [Path(os.path.realpath(DOCKER_SOCKET))]


@pytest.mark.parametrize("path", ["/a/b.sock", "a/b.sock", "//a/b.sock"])
def test_a_path_is_absolute(path: str) -> None:
    """A socket's path begins at the root folder, also without its first slash."""
    assert local_address({"DOCKER_HOST": f"unix://{path}"}) == "unix:///a/b.sock"


def test_podmans_socket_where_docker_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's socket comes first; rootless Podman's counts where there is none of Docker's."""
    monkeypatch.setattr("mooring.engines.docker.DOCKER_SOCKET", str(tmp_path / "docker.sock"))
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert local_address(environ) == f"unix://{tmp_path}/docker.sock"
    podman = tmp_path / "podman" / "podman.sock"
    podman.parent.mkdir()
    podman.touch()
    assert local_address(environ) == f"unix://{podman}"
    assert local_sockets(environ) == sorted([tmp_path / "docker.sock", podman])
    (tmp_path / "docker.sock").touch()
    assert local_address(environ) == f"unix://{tmp_path}/docker.sock"
