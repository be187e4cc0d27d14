"""The check for leaks is itself checked: one of each is leaked on purpose, and it turns red."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.errors import APIError

from mooring.client import Mooring
from mooring.engines.base import ContainerConfig, Engine
from mooring.engines.docker import networks
from mooring.engines.labels import LABEL_INSTALLATION
from mooring.host.paths import Installation
from mooring.spec.resolve import resolve
from tests.support.docker import docker_api
from tests.support.invariants import leaks, suite_leaks
from tests.support.sessions import make_folder
from tests.support.waiting import eventually


@pytest.fixture
def leaked_container(real_engine: Engine, state: Path) -> Iterator[str]:
    image = Mooring(real_engine).sessions.create(resolve(flags={"command": ["true"]})).session
    reference = "mooring/host"
    config = ContainerConfig(
        name=f"leak-{os.getpid()}",
        image=next(row.image for row in real_engine.list({}) if row.id == image.container),
        argv=("true",),
        user="0:0",
        labels={LABEL_INSTALLATION: Installation.here().id},
    )
    Mooring(real_engine).sessions.remove(Mooring(real_engine).sessions.get(image.name), force=True)
    assert config.image.startswith(reference)
    container = real_engine.create(config)
    yield container
    real_engine.remove(container)


@pytest.mark.engine
def test_a_container_turns_it_red(
    leaked_container: str, real_engine: Engine, state: Path, project: Path
) -> None:
    """A container with the installation's label is a leak, during a test and after the suite."""
    mine = Installation.here().id
    assert leaks(real_engine, state, mine) == [f"container leak-{os.getpid()} (created) is left"]
    assert suite_leaks({mine}) == leaks(real_engine, state, mine)
    assert suite_leaks({"somebody else"}) == []


@pytest.mark.engine
def test_a_second_network_turns_it_red(
    real_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two networks of the name that sessions use are a leak; one is not, and stays."""
    name, api = f"mooring-leak-{os.getpid()}", docker_api(real_engine)
    monkeypatch.setattr(networks, "NAME", name)
    made = [api.create_network(name)["Id"]]
    try:
        try:
            made.append(api.create_network(name)["Id"])
        except APIError:
            pytest.skip("this engine allows one network of a name")
        (told,) = suite_leaks(set())
        assert name in told
        api.remove_network(made.pop())
        assert suite_leaks(set()) == []
    finally:
        for network in made:
            api.remove_network(network)


@pytest.mark.engine
def test_a_folder_a_socket_and_a_process_turn_it_red(real_engine: Engine, state: Path) -> None:
    """A session's folder, a socket in it and a process that works on it are leaks."""
    mine = Installation.here().id
    assert leaks(real_engine, state, mine) == []
    folder = make_folder("0123456789ab", "leaked")
    folder.release()
    assert leaks(real_engine, state, mine) == [f"session folder {folder.path} is left"]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder.run / "s"))
        assert f"socket {folder.run / 's'} is left" in leaks(real_engine, state, mine)
    worker = subprocess.Popen(
        ["tail", "-f", folder.path / "record.json"], stdout=subprocess.DEVNULL
    )
    try:
        line = f"process {worker.pid} "  # its command line shows a moment after it was started
        eventually(lambda: any(one.startswith(line) for one in leaks(real_engine, state, mine)))
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.engine
@pytest.mark.skipif(os.getuid() != 0, reason="giving a file away needs root")
def test_a_file_of_somebody_else_turns_it_red(real_engine: Engine, state: Path) -> None:
    """A file that does not belong to the caller is a leak: nobody could delete it."""
    mine = Installation.here().id
    (state / "theirs").touch()
    os.chown(state / "theirs", 12345, 12345)
    assert leaks(real_engine, state, mine) == [f"{state / 'theirs'} belongs to uid 12345"]


@pytest.mark.alone  # whoever else looks at the machine meanwhile finds it too
def test_a_clock_outside_of_a_container_turns_the_suite_red(tmp_path: Path) -> None:
    """A clock on the machine itself is found: at its end it would end everything there."""
    script = tmp_path / "clock.sh"
    script.write_text("read -r line\n")
    with subprocess.Popen(["sh", script], stdin=subprocess.PIPE) as clock:
        # its command line shows a moment after it was started
        eventually(lambda: any(str(clock.pid) in line for line in suite_leaks(set())), timeout=10)
        clock.kill()
    assert suite_leaks(set()) == []
