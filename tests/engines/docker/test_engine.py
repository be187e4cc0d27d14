"""What is asked of Docker, and how: the API's version, its words, how long it may take."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mooring.engines.base import ContainerConfig, DeviceRequest
from mooring.engines.docker import DockerEngine
from mooring.engines.labels import LABEL_ID, LABELS
from mooring.errors import EngineError, EngineUnavailable, SessionTimeout
from mooring.images.host_image import host_image
from tests.contract.support import DEADLINE_S, declare, logged
from tests.engines.conftest import Server
from tests.support.docker import docker_api

SAME: dict[str, Any] = {key: {} for key in ("labels", "env", "binds")}
SAME |= dict.fromkeys(("groups", "gpus", "devices"), ())


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [
        ("1.41", "1.12", "1.41"),
        ("1.51", "1.24", "1.41"),
        ("1.52", "1.44", "1.44"),
        ("1.60", "", "1.41"),
        ("", "1.44", "1.41"),
    ],
)
def test_no_older_version_than_the_engine_takes(
    server: Server, newest: str, oldest: str, spoken: str
) -> None:
    """An engine that has let go of the version that is enough is spoken to in its oldest; one that
    cannot have is not asked."""
    server.newest, server.oldest = newest, oldest
    engine = DockerEngine(f"unix://{server.server_address}")
    assert engine.list({}) == []
    assert engine.list({}) == []
    engine.close()
    listing = f"/v{spoken}/containers/json"
    asked = ["/_ping", "/version"] if newest > "1.51" else ["/_ping"]
    assert server.asked == [*asked, listing, listing]


def test_what_lives_is_asked_for_in_the_engines_own_words(server: Server) -> None:
    """What is alive is running, paused or restarting: each state is asked for by name."""
    with contextlib.closing(DockerEngine(f"unix://{server.server_address}")) as engine:
        assert engine.list({}, alive=True) == []
    assert server.states == ["running", "paused", "restarting"]


@pytest.mark.parametrize(("after_s", "told"), [(-0.1, True), (0.3, True), (60.0, False)])
def test_a_kill_for_want_of_memory_may_be_told_late(
    server: Server, after_s: float, told: bool
) -> None:
    """On a busy machine the engine learns of it after the process has ended; there is an end."""
    began = time.time()
    server.oom_at = began + after_s
    with contextlib.closing(DockerEngine(f"unix://{server.server_address}")) as engine:
        assert engine.out_of_memory("c", since=began - 1) is told


def test_a_kill_long_ago_is_not_waited_for(server: Server) -> None:
    """However many sessions are asked for, those that ended before cost no time."""
    began = time.time()
    server.oom_at = began + 0.3
    with contextlib.closing(DockerEngine(f"unix://{server.server_address}")) as engine:
        assert not engine.out_of_memory("c", since=began - 70, until=began - 60)


def test_many_files_may_take_their_time(server: Server) -> None:
    """Keeping a container's files, or deleting them, is no plain request: the engine would do it
    all the same, and with each try once more."""
    server.commit_s = server.remove_s = 0.5
    engine = DockerEngine(f"unix://{server.server_address}", timeout_s=0.2)
    made = engine.recreate("c", image="i:1", name="n", **SAME)
    assert made == "made"
    assert server.asked[-2:] == ["/v1.41/commit", "/v1.41/containers/create"]
    engine.remove("c")
    engine.remove_image("i:1")
    engine.close()
    assert server.asked[-2:] == ["/v1.41/containers/c", "/v1.41/images/i:1"]


def test_a_removal_that_goes_on_is_waited_for(server: Server) -> None:
    """The engine goes on with what an interrupted client asked for: the next one is told when it
    is done, however long that takes."""
    server.remove_s, server.removal = 0.5, {"StatusCode": 137}
    engine = DockerEngine(f"unix://{server.server_address}", timeout_s=0.2)
    begun = time.monotonic()
    engine.remove("c")
    engine.close()
    assert time.monotonic() - begun >= 0.5
    assert server.asked[-1] == "/v1.41/containers/c/wait?condition=removed"


def test_a_removal_that_failed_meanwhile_is_told(server: Server) -> None:
    """Not as one that was done."""
    server.removal = {"StatusCode": 0, "Error": {"Message": "unlinkat /x: device or resource busy"}}
    with (
        contextlib.closing(DockerEngine(f"unix://{server.server_address}")) as engine,
        pytest.raises(EngineError, match="removing the container: unlinkat /x"),
    ):
        engine.remove("c")


SLOW: dict[str, Callable[[DockerEngine], object]] = {
    "wait": lambda engine: engine.wait("c"),
    "logs": lambda engine: list(engine.logs("c", tty=True, follow=True, tail=None)),
    "pull": lambda engine: list(engine.pull("i")),
    "import": lambda engine: engine.import_image(b"", "i:1"),
    "stop": lambda engine: engine.stop("c", grace_s=1.0),
}


@pytest.fixture
def hurried(server: Server) -> Iterator[DockerEngine]:
    """An engine whose ordinary requests have 0.2 s, and a server that says what it is."""
    with contextlib.closing(DockerEngine(f"unix://{server.server_address}", 0.2)) as engine:
        engine.info()
        yield engine


@pytest.mark.parametrize("call", SLOW)
def test_what_takes_long_may_take_long(server: Server, hurried: DockerEngine, call: str) -> None:
    """What lasts as long as a program, a transfer or a grace period is no ordinary request."""
    server.body_s = 0.5
    SLOW[call](hurried)


@pytest.mark.parametrize("call", ["pull", "import", "stop"])
def test_a_slow_start_may_be_slow(server: Server, hurried: DockerEngine, call: str) -> None:
    """An engine answers some requests only when they are done."""
    server.head_s = 0.5
    SLOW[call](hurried)


@pytest.mark.parametrize("call", ["wait", "logs"])
def test_an_engine_that_does_not_begin(server: Server, hurried: DockerEngine, call: str) -> None:
    """An engine that hangs is not waited for, also where its answer may take as long as it likes:
    it says at once that it has begun."""
    server.head_s = 0.5
    with pytest.raises(EngineUnavailable, match=r"did not answer within 0\.2 s"):
        SLOW[call](hurried)


def test_an_engine_that_stops_in_its_logs(server: Server, hurried: DockerEngine) -> None:
    """Without ``follow`` a log has an end, which is waited for as for any other response."""
    server.body_s = 0.5
    with pytest.raises(EngineUnavailable):
        list(hurried.logs("c", tty=True, follow=False, tail=None))


def test_a_program_that_still_runs(server: Server, hurried: DockerEngine) -> None:
    """A timeout of a wait is not the engine's, unless that does not even begin to wait."""
    server.body_s = 0.5
    with pytest.raises(SessionTimeout, match=r"still running after 0\.1 s"):
        hurried.wait("c", timeout_s=0.1)
    server.body_s = 0.0
    assert hurried.wait("c", timeout_s=5.0) == 3


@pytest.mark.engine
def test_logs_need_no_record(real_engine: DockerEngine) -> None:
    """The engine knows better than a session's record, which may be lost, whether its output has
    the frames of one without a terminal."""
    config = declare(f"contract-{secrets.token_hex(4)}", "echo ours", host_image(real_engine))
    container = real_engine.create(config)
    try:
        real_engine.start(container)
        real_engine.wait(container, timeout_s=DEADLINE_S)
        printed = b"".join(real_engine.logs(container, tty=True, follow=False, tail=None))
    finally:
        real_engine.remove(container)
    assert printed == b"ours\n"


def test_what_a_container_was_given_is_asked_for_once() -> None:
    """A queue for GPUs looks several times a second, at every container there is."""
    asked = []

    class Api:
        def get(self, kind: str, container: str, _: str) -> dict[str, Any]:
            asked.append(container)
            return {"HostConfig": {"DeviceRequests": [{"Count": -1}]}}

    engine = DockerEngine("unix:///nowhere", client=Api())
    for container in ("a", "b", "a", "b"):
        (request,) = engine.device_requests(container)
        assert request.count == -1
    assert asked == ["a", "b"]


@pytest.mark.parametrize("has_cdi", [True, False])
def test_cdi_names_are_taken_as_given(server: Server, has_cdi: bool) -> None:
    """An engine with CDI is given the CDI names, another one the UUIDs for NVIDIA's own runtime."""
    server.info = {"CDISpecDirs": ["/etc/cdi"]} if has_cdi else {}
    uuids, names = ("GPU-1", "GPU-2"), ("nvidia.com/gpu=GPU-1", "nvidia.com/gpu=GPU-2")
    with contextlib.closing(DockerEngine(f"unix://{server.server_address}")) as engine:
        given = SAME | {"gpus": uuids, "cdi_devices": names}
        engine.recreate("c", image="i:1", name="n", **given)
    (request,) = server.posted[-1]["HostConfig"]["DeviceRequests"]
    assert request["DeviceIDs"] == list(names if has_cdi else uuids)
    assert (request["Driver"] == "cdi") == has_cdi


def test_an_image_configures_nothing(server: Server) -> None:
    """What a container would have from its image is always said: mooring's labels, no health
    check, the signal that stops it; also for one that is created from a snapshot."""
    config = ContainerConfig(name="n", image="i:1", argv=("true",), user="0:0")
    with contextlib.closing(DockerEngine(f"unix://{server.server_address}")) as engine:
        engine.create(dataclasses.replace(config, labels={LABEL_ID: "0123456789ab"}))
        engine.recreate("c", image="i:1", name="n", **SAME | {"labels": {LABEL_ID: "0123456789ab"}})
    for posted in (server.posted[0], server.posted[-1]):
        assert posted["Labels"] == {**dict.fromkeys(LABELS, ""), LABEL_ID: "0123456789ab"}
        assert posted["Healthcheck"]["Test"] == ["NONE"]
        assert posted["StopSignal"] == "SIGTERM"


def test_podman_in_dockers_place_is_refused(server: Server) -> None:
    """What answers at an engine's address is asked once what it is, and never taken for another."""
    server.podman = "4.3.1"
    engine = DockerEngine(f"unix://{server.server_address}")
    with pytest.raises(EngineError, match="is now podman, not docker"):
        engine.list({})


def test_requests_of_nvidias_own_runtime() -> None:
    """Devices that NVIDIA's runtime gives by a variable are requests as well."""

    class Api:
        def get(self, kind: str, container: str, _: str) -> dict[str, Any]:
            env = ["PATH=/bin", f"NVIDIA_VISIBLE_DEVICES={container}"]
            return {"HostConfig": {"Runtime": "nvidia"}, "Config": {"Env": env}}

    engine = DockerEngine("unix:///nowhere", client=Api())
    assert engine.device_requests("0,1") == (DeviceRequest(0, ("0", "1")),)
    assert engine.device_requests("void") == ()


@pytest.mark.engine
def test_an_entrypoint_gives_way(real_engine: DockerEngine) -> None:
    """An image's own entrypoint is not in the way of the main process that was asked for."""
    facts, api = host_image(real_engine), docker_api(real_engine)
    mark = f"contract-{secrets.token_hex(4)}"
    config = declare(mark, "echo ours", facts)
    made = [real_engine.create(config)]
    try:
        changes = 'ENTRYPOINT ["/bin/echo", "entrypoint"]\nCMD ["nothing"]'
        api.commit(made[0], repository=mark, tag="1", changes=changes)
        config = dataclasses.replace(config, name=f"{mark}-2", image=f"{mark}:1")
        made.append(real_engine.create(config))
        real_engine.start(made[1])
        real_engine.wait(made[1], timeout_s=DEADLINE_S)
        printed = logged(real_engine, made[1])
    finally:
        for container in made:
            real_engine.remove(container)
        real_engine.remove_image(f"{mark}:1")
        api.close()
    assert printed == b"ours\n"
