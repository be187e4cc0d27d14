"""What every engine does alike: the fake one always, the real one wherever there is one."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import os
import secrets
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.engines.base import Bind, Container, ContainerConfig, Engine, EngineInfo, Stream
from mooring.engines.docker import DockerEngine, DockerStream
from mooring.engines.fake import FakeEngine, FakeProcess
from mooring.errors import (
    EngineError,
    EngineUnavailable,
    ImageError,
    MooringError,
    PortTaken,
    SessionTimeout,
)
from mooring.images import images
from mooring.terminals.pump import Demultiplexer

DEADLINE_S = 30.0
SIGTERMED, SIGKILLED = 143, 137

# What runs, as a real engine runs it, and as Python plays it in the fake one
SLEEP = "echo up; exec sleep 1000"
DEAF = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
EXIT_3 = "echo out; echo err >&2; exit 3"
CAT = "exec cat"
CAT_THEN_7 = "cat; exit 7"
SAY_SIZE = "while read -r line; do stty size; done"
SAY_WHERE = 'echo "$GREETING"; pwd'
LINES = "for n in 1 2 3 4 5; do echo line $n; done"


def play(process: FakeProcess) -> int:
    script = process.argv[2]
    if script == SLEEP:
        process.write(b"up\n")
        process.terminated.wait(DEADLINE_S)
        return SIGTERMED
    if script == DEAF:
        process.write(b"deaf\n")
        while process.exit_code is None:
            time.sleep(0.01)
    if script == EXIT_3:
        process.write(b"out\n")
        process.write(b"err\n", stderr=True)
        return 3
    if script in (CAT, CAT_THEN_7):
        while data := process.stdin.read1(65536):  # type: ignore[attr-defined]
            process.write(data)
        return 7 if script == CAT_THEN_7 else 0
    if script == SAY_SIZE:
        while process.stdin.readline():
            process.write("{} {}\r\n".format(*process.size).encode())
    if script == SAY_WHERE:
        process.write(f"{process.env['GREETING']}\n{process.workdir}\n".encode())
    if script == LINES:
        for number in range(1, 6):
            process.write(f"line {number}\n".encode())
    return 0


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.engine)])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "fake":
        return FakeEngine(main=play, execute=play)
    real: Engine = request.getfixturevalue("real_engine")
    return real


Make = Callable[..., str]


@pytest.fixture
def make(engine: Engine) -> Iterator[Make]:
    """Creates containers out of the host image and removes them after the test."""
    facts = images.host_image(engine)
    mark = f"contract-{secrets.token_hex(4)}"

    def create(script: str = SLEEP, *, start: bool = True, **options: Any) -> str:
        config = ContainerConfig(
            name=f"{mark}-{secrets.token_hex(2)}",
            image=facts.reference,
            argv=("/bin/sh", "-c", script),
            user=f"{os.getuid()}:{os.getgid()}",
            env=dict(facts.env),
            labels={"mooring.contract": mark},
            binds=facts.binds,
            network=False,
        )
        config = dataclasses.replace(config, **options)
        container = engine.create(
            dataclasses.replace(config, labels={"mooring.contract": mark, **config.labels})
        )
        if start:
            engine.start(container)
        return container

    yield create
    for row in engine.list({"mooring.contract": mark}):
        engine.remove(row.id)


def read_all(stream: Stream) -> bytes:
    """Everything until the far side's end, as it came."""
    near = stream.socket()
    near.settimeout(DEADLINE_S)
    data = b""
    while True:
        try:
            more = near.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            return data
        data += more


def outputs(data: bytes) -> dict[int, bytes]:
    """A multiplexed stream's standard output (1) and error (2)."""
    found = {1: b"", 2: b""}
    for kind, piece in Demultiplexer().feed(data):
        found[kind] += piece
    return found


def code_of(stream: Stream) -> int:
    deadline = time.monotonic() + DEADLINE_S
    while (code := stream.exit_code()) is None:
        assert time.monotonic() < deadline, "the process has not ended"
        time.sleep(0.01)
    return code


def row_of(engine: Engine, container: str) -> Container | None:
    return next((row for row in engine.list({"mooring.contract": ""}) if row.id == container), None)


# Life


def test_info_names_the_engine(engine: Engine) -> None:
    """Who answers is said with a kind and a version."""
    info = engine.info()
    assert info.kind in ("docker", "podman", "fake")
    assert info.version
    assert info.os == "linux"


def test_created_then_running_then_exited(engine: Engine, make: Make) -> None:
    """A container is created, running and exited in turn, in the list and on inspection alike."""
    container = make(EXIT_3, start=False)
    for look in (row_of, lambda e, c: e.inspect(c)):
        assert look(engine, container).state == "created"
        assert look(engine, container).exit_code is None
    engine.start(container)
    assert engine.wait(container, timeout_s=DEADLINE_S) == 3
    for look in (row_of, lambda e, c: e.inspect(c)):
        assert look(engine, container).state == "exited"
        assert look(engine, container).exit_code == 3
    detail = engine.inspect(container)
    assert detail is not None
    # the engine stamps a start after the fact: a short life may end before it
    assert 0 < detail.started_at <= detail.finished_at + 1.0
    assert not detail.oom_killed


def test_start_is_idempotent(engine: Engine, make: Make) -> None:
    """Starting what runs changes nothing."""
    container = make()
    before = engine.inspect(container)
    engine.start(container)
    assert engine.inspect(container) == before


def test_an_exited_container_starts_again(engine: Engine, make: Make) -> None:
    """An exited container can be started again and keeps its id."""
    container = make(SLEEP)
    engine.stop(container, grace_s=5.0)
    engine.start(container)
    assert engine.inspect(container).state == "running"  # type: ignore[union-attr]


def test_list_needs_every_label(engine: Engine, make: Make) -> None:
    """A listing holds the containers that carry all of the labels, in any state, and no others."""
    mark = secrets.token_hex(4)
    both = make(labels={"one": mark, "two": mark})
    stopped = make(labels={"one": mark, "two": mark}, start=False)
    make(labels={"one": mark}, start=False)
    make(labels={"one": mark, "two": "another"}, start=False)

    found = engine.list({"one": mark, "two": mark})

    assert {row.id for row in found} == {both, stopped}
    assert {row.state for row in found} == {"running", "created"}
    assert found[0].labels["one"] == mark
    assert len(engine.list({"one": mark, "two": ""})) == 3


def test_list_of_those_that_live(engine: Engine, make: Make) -> None:
    """A listing of what is alive holds what has processes, and nothing made or ended."""
    mark = secrets.token_hex(4)
    running = make(labels={"alive": mark})
    make(labels={"alive": mark}, start=False)
    ended = make(EXIT_3, labels={"alive": mark})
    engine.wait(ended, timeout_s=DEADLINE_S)
    assert [row.id for row in engine.list({"alive": mark}, alive=True)] == [running]
    assert running in [row.id for row in engine.list({}, alive=True)]


def test_list_tells_the_newest_first(engine: Engine, make: Make) -> None:
    """A listing holds names without a slash, and the newest container first."""
    mark = secrets.token_hex(4)
    names = [f"order-{mark}-{number}" for number in range(3)]
    for name in names:
        make(name=name, labels={"order": mark}, start=False)
    assert [row.name for row in engine.list({"order": mark})] == names[::-1]


def test_stop_asks_first(engine: Engine, make: Make) -> None:
    """Stopping is SIGTERM to the main process, whose own exit code counts."""
    container = make(SLEEP)
    engine.stop(container, grace_s=DEADLINE_S)
    assert engine.inspect(container).exit_code == SIGTERMED  # type: ignore[union-attr]


def test_stop_kills_what_does_not_listen(engine: Engine, make: Make) -> None:
    """A main process that ignores SIGTERM is killed when the grace is over."""
    container = make(DEAF, start=False)
    stream = engine.attach(container, tty=False)
    engine.start(container)
    assert stream.socket().recv(1)  # its trap is set
    engine.stop(container, grace_s=1.0)
    detail = engine.inspect(container)
    assert detail is not None
    assert (detail.state, detail.exit_code) == ("exited", SIGKILLED)
    stream.close()


def test_stop_is_idempotent(engine: Engine, make: Make) -> None:
    """Stopping what has ended, was never started or is gone is no error."""
    container, never = make(EXIT_3), make(start=False)
    engine.wait(container, timeout_s=DEADLINE_S)
    engine.stop(container, grace_s=1.0)
    assert engine.inspect(container).exit_code == 3  # type: ignore[union-attr]
    engine.stop(never, grace_s=1.0)
    engine.stop("f" * 64, grace_s=1.0)


def test_remove_takes_a_running_one_and_is_idempotent(engine: Engine, make: Make) -> None:
    """Removing kills first; removing what is gone is no error."""
    container = make()
    engine.remove(container)
    assert row_of(engine, container) is None
    assert engine.inspect(container) is None
    engine.remove(container)


def test_inspect_of_nothing(engine: Engine) -> None:
    """What is gone is None on inspection, not an error."""
    assert engine.inspect("f" * 64) is None


@pytest.mark.parametrize(
    "act",
    [
        lambda engine, container: engine.start(container),
        lambda engine, container: engine.wait(container, timeout_s=1.0),
        lambda engine, container: engine.attach(container, tty=False),
        lambda engine, container: list(engine.logs(container, tty=False, follow=False, tail=None)),
        lambda engine, container: engine.exec(container, ["true"]),
        lambda engine, container: engine.exec_detached(container, ["true"]),
    ],
    ids="start wait attach logs exec exec_detached".split(),
)
def test_nothing_can_be_done_with_nothing(
    engine: Engine, act: Callable[[Engine, str], object]
) -> None:
    """Acting on a container that is gone is an EngineError, and not an unavailable engine."""
    with pytest.raises(EngineError) as caught:
        act(engine, "f" * 64)
    assert not isinstance(caught.value, EngineUnavailable)


def test_a_name_is_taken_once(engine: Engine, make: Make) -> None:
    """Two containers cannot have one name."""
    name = f"twice-{secrets.token_hex(4)}"
    make(name=name, start=False)
    with pytest.raises(EngineError, match="in use"):
        make(name=name, start=False)


def test_a_missing_source_is_refused(engine: Engine, make: Make, tmp_path: Path) -> None:
    """A bind's source is never made by the engine: a missing one is an error."""
    missing = tmp_path / "missing"
    with pytest.raises(EngineError, match="missing"):
        make(binds=(Bind(str(missing), "/mnt/x"),), start=False)
    assert not missing.exists()


def test_the_network_can_come_later(engine: Engine, make: Make) -> None:
    """A container started without a network is given one while it runs."""
    container = make()
    engine.attach_network(container)
    assert engine.inspect(container).state == "running"  # type: ignore[union-attr]


# Waiting


@pytest.mark.parametrize("timeout_s", [0, 0.3])
def test_wait_times_out(engine: Engine, make: Make, timeout_s: float) -> None:
    """Waiting longer than asked for is a SessionTimeout, for no time at all too."""
    container = make()
    began = time.monotonic()
    with pytest.raises(SessionTimeout):
        engine.wait(container, timeout_s=timeout_s)
    assert time.monotonic() - began >= timeout_s
    assert engine.inspect(container).state == "running"  # type: ignore[union-attr]


def test_wait_ends_with_the_container(engine: Engine, make: Make) -> None:
    """Who waits without a limit is told the exit code once the container ends."""
    container = make()
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(engine.wait(container)))
    waiting.start()
    engine.stop(container, grace_s=DEADLINE_S)
    waiting.join(DEADLINE_S)
    assert codes == [SIGTERMED]


# Streams


def test_exec_exit_codes(engine: Engine, make: Make) -> None:
    """An exec's output, its error stream and its exit code are told apart."""
    container = make()
    stream = engine.exec(container, ["/bin/sh", "-c", EXIT_3])
    assert outputs(read_all(stream)) == {1: b"out\n", 2: b"err\n"}
    assert code_of(stream) == 3
    stream.close()


def test_exec_reads_to_the_end_of_input(engine: Engine, make: Make) -> None:
    """A half-close is an end of file to the process, whose output still comes to its last byte."""
    container = make()
    stream = engine.exec(container, ["/bin/sh", "-c", CAT_THEN_7], stdin=True)
    sent = os.urandom(300_000)

    def send() -> None:
        stream.socket().sendall(sent)
        stream.close_stdin()

    sending = threading.Thread(target=send)
    sending.start()
    received = outputs(read_all(stream))
    sending.join(DEADLINE_S)
    assert received[1] == sent
    assert code_of(stream) == 7
    stream.close()


def test_exec_environment_and_folder(engine: Engine, make: Make) -> None:
    """An exec gets the variables and the working directory that were asked for."""
    container = make()
    stream = engine.exec(
        container, ["/bin/sh", "-c", SAY_WHERE], env={"GREETING": "ahoy"}, workdir="/usr"
    )
    assert outputs(read_all(stream))[1] == b"ahoy\n/usr\n"
    stream.close()


def test_exec_terminal_has_its_size(engine: Engine, make: Make) -> None:
    """A terminal's new size is what the process sees; nonsense sizes are ignored."""
    container = make()
    stream = engine.exec(container, ["/bin/sh", "-c", SAY_SIZE], tty=True, stdin=True)
    near = stream.socket()
    near.settimeout(DEADLINE_S)
    seen = b""
    for rows, columns in ((41, 132), (10, 20)):
        stream.resize(rows, columns)
        stream.resize(0, 0)
        near.sendall(b"\n")
        wanted, deadline = f"{rows} {columns}".encode(), time.monotonic() + DEADLINE_S
        while wanted not in seen:
            assert time.monotonic() < deadline, seen
            seen += near.recv(4096)
    stream.close()


def test_exec_detached_is_asked_for_its_code(engine: Engine, make: Make) -> None:
    """A detached exec's exit code is told by its id; one that is gone was killed."""
    container = make()
    exec_id = engine.exec_detached(container, ["/bin/sh", "-c", EXIT_3])
    deadline = time.monotonic() + DEADLINE_S
    while (code := engine.exec_exit_code(exec_id)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert code == 3
    assert engine.exec_exit_code("f" * 64) == SIGKILLED


def test_no_exec_in_what_does_not_run(engine: Engine, make: Make) -> None:
    """An exec in a container that does not run is an EngineError."""
    container = make(start=False)
    for start in (engine.exec, engine.exec_detached):
        with pytest.raises(EngineError, match="not running"):
            start(container, ["true"])


def test_execs_end_with_their_container(engine: Engine, make: Make) -> None:
    """Stopping a container ends its execs and closes their streams."""
    container = make()
    stream = engine.exec(container, ["/bin/sh", "-c", SLEEP])
    first = stream.socket().recv(4096)
    engine.stop(container, grace_s=1.0)
    assert outputs(first + read_all(stream)) == {1: b"up\n", 2: b""}
    assert code_of(stream) != 0
    stream.close()


def test_attach_before_the_start_misses_nothing(engine: Engine, make: Make) -> None:
    """Who attaches before the start sees the first byte, and the main process's exit code."""
    container = make(EXIT_3, start=False)
    stream = engine.attach(container, tty=False)
    engine.start(container)
    assert outputs(read_all(stream)) == {1: b"out\n", 2: b"err\n"}
    assert code_of(stream) == 3
    stream.close()


def test_attach_feeds_the_main_process(engine: Engine, make: Make) -> None:
    """What is sent to an attached stream is the main process's standard input, ended or not."""
    container = make(CAT, start=False, open_stdin=True)
    stream = engine.attach(container, tty=False)
    engine.start(container)
    stream.socket().sendall(b"ahoy\n")
    stream.close_stdin()
    assert outputs(read_all(stream))[1] == b"ahoy\n"
    assert engine.wait(container, timeout_s=DEADLINE_S) == 0
    stream.close()


def test_nobody_starved(engine: Engine, make: Make) -> None:
    """A container that was merely killed was not killed for want of memory."""
    container = make()
    engine.stop(container, grace_s=0.0)
    assert not engine.out_of_memory(container, since=time.time() - DEADLINE_S)


def test_closing_a_stream_ends_nothing(engine: Engine, make: Make) -> None:
    """A stream that is given back leaves its process alone."""
    container = make()
    stream = engine.attach(container, tty=False)
    stream.close()
    assert engine.inspect(container).state == "running"  # type: ignore[union-attr]


def test_logs(engine: Engine, make: Make) -> None:
    """The log holds what the main process printed; a tail holds its last lines."""
    container = make(LINES)
    engine.wait(container, timeout_s=DEADLINE_S)
    every = b"".join(engine.logs(container, tty=False, follow=False, tail=None))
    assert every == b"".join(b"line %d\n" % number for number in range(1, 6))
    assert b"".join(engine.logs(container, tty=False, follow=False, tail=2)) == b"line 4\nline 5\n"


def test_logs_are_followed_to_the_end(engine: Engine, make: Make) -> None:
    """A followed log goes on until the container ends."""
    container = make(CAT, start=False, open_stdin=True)
    stream = engine.attach(container, tty=False)
    engine.start(container)
    log = engine.logs(container, tty=False, follow=True, tail=None)
    for text in (b"one\n", b"two\n"):
        stream.socket().sendall(text)
        assert next(log) == text
    stream.close_stdin()
    assert list(log) == []
    stream.close()


# Images


def test_image_id_of_what_is_here(engine: Engine, make: Make) -> None:
    """An image that is here has an id, and one that is not has none."""
    assert engine.image_id(images.host_image(engine).reference)
    assert engine.image_id("mooring.invalid/nothing:here") is None
    assert engine.image_env("mooring.invalid/nothing:here") == {}


def test_missing_image(engine: Engine, make: Make) -> None:
    """A container of an image that is not here is an ImageError that names it."""
    with pytest.raises(ImageError, match=r"mooring\.invalid/nothing:here"):
        make(image="mooring.invalid/nothing:here", start=False)


def test_a_failed_pull_is_an_image_error(engine: Engine) -> None:
    """A reference that no registry has is an ImageError that names it, with a hint."""
    with pytest.raises(ImageError, match="nothing:here") as caught:
        list(engine.pull("127.0.0.1:1/nothing:here"))
    assert caught.value.hint


def test_pull_tells_its_progress() -> None:
    """A pull says how far it is, and then the image is here (real registries are not asked)."""
    engine = FakeEngine(registry=["python:3.12"])
    steps = list(engine.pull("python:3.12"))
    assert [step.done_bytes for step in steps] == sorted(step.done_bytes for step in steps)
    assert steps[-1].done_bytes == steps[-1].total_bytes > 0
    assert engine.image_id("python:3.12")


def root_tar(text: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return data.getvalue()


def test_import(engine: Engine, request: pytest.FixtureRequest) -> None:
    """An imported root filesystem is an image under the name that was asked for."""
    reference = f"mooring-contract/{secrets.token_hex(4)}:1"
    request.addfinalizer(lambda: forget(engine, reference))
    made = engine.import_image(root_tar(secrets.token_bytes(8)), reference)
    assert engine.image_id(reference) == made


def forget(engine: Engine, reference: str) -> None:
    if isinstance(engine, DockerEngine):
        engine._api.remove_image(reference)


@pytest.mark.engine
def test_an_entrypoint_gives_way(real_engine: Engine, request: pytest.FixtureRequest) -> None:
    """An image's own entrypoint is not in the way of the main process that was asked for."""
    assert isinstance(real_engine, DockerEngine)
    facts = images.host_image(real_engine)
    reference = f"mooring-contract/{secrets.token_hex(4)}:1"
    request.addfinalizer(lambda: forget(real_engine, reference))
    real_engine._api.import_image_from_data(
        images._root_tar(images._root_layout()),
        repository=reference.partition(":")[0],
        tag="1",
        changes=['ENTRYPOINT ["/bin/echo", "entrypoint"]', 'CMD ["nothing"]'],
    )
    container = real_engine.create(
        ContainerConfig(
            name=f"contract-{secrets.token_hex(4)}",
            image=reference,
            argv=("/bin/sh", "-c", "echo ours"),
            user="0:0",
            binds=facts.binds,
            network=False,
        )
    )
    try:
        real_engine.start(container)
        real_engine.wait(container, timeout_s=DEADLINE_S)
        said = b"".join(real_engine.logs(container, tty=False, follow=False, tail=None))
    finally:
        real_engine.remove(container)
    assert said == b"ours\n"


# Nothing unmapped escapes


def _exceptions() -> list[Exception]:
    """One of every exception that the SDK, its transport and the system can raise."""
    import http.client

    import docker.errors
    import docker.utils.socket
    import requests.exceptions
    import urllib3.exceptions

    kinds: set[type[Exception]] = {
        OSError,
        ConnectionResetError,
        BrokenPipeError,
        FileNotFoundError,
        PermissionError,
        TimeoutError,
        docker.utils.socket.SocketError,
        http.client.IncompleteRead,
        http.client.BadStatusLine,
    }
    modules = (docker.errors, requests.exceptions, urllib3.exceptions)
    for module in modules:
        kinds |= {
            kind
            for kind in vars(module).values()
            if inspect.isclass(kind)
            and issubclass(kind, Exception)
            and not issubclass(kind, Warning)
        }
    return [_instance(kind) for kind in sorted(kinds, key=lambda kind: kind.__qualname__)]


def _instance(kind: type[Exception]) -> Exception:
    for arguments in range(7):
        with contextlib.suppress(TypeError, AttributeError):
            error = kind(*["boom"] * arguments)
            str(error)
            return error
    error = kind.__new__(kind)  # its constructor wants what only the library has
    kind.__str__ = lambda self: "boom"  # type: ignore[method-assign,assignment]
    return error


CONFIG = ContainerConfig(name="n", image="i:1", argv=("true",), user="0:0")


def test_remade_with_its_files(engine: Engine, make: Make, tmp_path: Path) -> None:
    """A stopped container is made anew with what it wrote, other labels and another environment,
    other binds, and groups beside its own."""
    script = "cat /kept; echo ${C-none}; id -G; ls /bound/*/mark; echo treasure >/kept; exit 0"
    (tmp_path / "mark").touch()
    bound = [Bind(str(tmp_path), f"/bound/{name}") for name in ("a", "b", "c")]
    container = make(
        script,
        user="0:0",
        env={"A": "1", "B": "2", "C": "3"},
        groups=(4241,),
        binds=(*images.host_image(engine).binds, *bound[:2]),
    )
    engine.wait(container, timeout_s=DEADLINE_S)
    image = f"mooring-contract:{secrets.token_hex(4)}"
    made = engine.remake(
        container,
        image=image,
        name=f"contract-{secrets.token_hex(4)}",
        labels={"new": "yes"},
        env={"B": "3", "C": None},
        binds={"/bound/a": None, "/bound/c": bound[2]},
        groups=(4242,),
        gpus=(),
        devices=(),
    )
    try:
        engine.remove(container)
        engine.rename(made, f"contract-{secrets.token_hex(4)}")
        (row,) = (row for row in engine.list({"new": "yes"}) if row.id == made)
        assert "mooring.contract" in row.labels
        if isinstance(engine, DockerEngine):
            with pytest.raises(EngineError):
                engine.remove_image(image)  # it is in use
            engine.start(made)
            assert engine.wait(made, timeout_s=DEADLINE_S) == 0
            config = engine._api.inspect_container(made)["Config"]
            assert {"A=1", "B=3"} <= set(config["Env"])
            assert "B=2" not in config["Env"]
            said = b"".join(engine.logs(made, tty=False, follow=False, tail=None)).split()
            assert said == b"treasure none 0 4241 4242 /bound/b/mark /bound/c/mark".split()
        else:
            config = engine.containers[made].config  # type: ignore[attr-defined]
            assert config.env.items() >= {("A", "1"), ("B", "3")}
            assert "C" not in config.env
            assert config.groups == (4241, 4242)
            assert config.binds[-2:] == tuple(bound[1:])
            assert bound[0] not in config.binds
    finally:
        engine.remove(made)
        engine.remove_image(image)
        engine.remove_image(image)
    assert engine.image_id(image) is None


def test_what_a_container_was_given_is_asked_for_once() -> None:
    """Whoever waits for a GPU looks several times a second, at every container there is."""
    engine, asked = DockerEngine("unix:///nowhere"), []

    class Api:
        def inspect_container(self, container: str) -> dict[str, Any]:
            asked.append(container)
            return {"HostConfig": {"DeviceRequests": [{"Count": -1}]}}

    engine._client = Api()  # type: ignore[assignment]
    for container in ("a", "b", "a", "b"):
        (request,) = engine.device_requests(container)
        assert request.count == -1
    assert asked == ["a", "b"]


@pytest.mark.engine
def test_remade_with_its_volumes(real_engine: DockerEngine) -> None:
    """What was written where the image declares a volume is a file of the container's too."""
    facts, api = images.host_image(real_engine), real_engine._api
    mark = f"contract-{secrets.token_hex(4)}"
    config = ContainerConfig(
        name=mark,
        image=facts.reference,
        argv=("/bin/sh", "-c", "cat /data/kept || echo first >/data/kept"),
        user="0:0",
        env=dict(facts.env),
        binds=facts.binds,
        network=False,
    )
    made = [real_engine.create(config)]
    tags = [f"{mark}:1", f"{mark}:2", f"{mark}:3"]
    try:
        api.commit(made[0], repository=mark, tag="1", changes="VOLUME /data")
        made.append(real_engine.create(dataclasses.replace(config, name="v" + mark, image=tags[0])))
        for number, tag in enumerate(tags[1:]):
            real_engine.start(made[-1])
            assert real_engine.wait(made[-1], timeout_s=DEADLINE_S) == 0
            same: dict[str, Any] = {key: {} for key in ("labels", "env", "binds")}
            same |= dict.fromkeys(("groups", "gpus", "devices"), ())
            made.append(real_engine.remake(made[-1], image=tag, name=f"v{number}{mark}", **same))
            real_engine.remove(made[-2])
        volumes = [
            one["Name"] for one in api.inspect_container(made[-1])["Mounts"] if "Name" in one
        ]
        assert len(volumes) == 1
        real_engine.start(made[-1])
        assert real_engine.wait(made[-1], timeout_s=DEADLINE_S) == 0
        assert b"first" in b"".join(real_engine.logs(made[-1], tty=False, follow=False, tail=None))
        real_engine.remove(made[-1])
        left = {one["Name"] for one in api.volumes()["Volumes"] or []}
        assert not left.intersection(volumes), "they go with the session"
    finally:
        for container in made:
            real_engine.remove(container)
        for tag in reversed(tags):
            real_engine.remove_image(tag)


PUBLIC: dict[str, Callable[[DockerEngine], object]] = {
    "info": lambda engine: engine.info(),
    "list": lambda engine: engine.list({"a": "b"}),
    "inspect": lambda engine: engine.inspect("c"),
    "device_requests": lambda engine: engine.device_requests("c"),
    "remake": lambda engine: engine.remake(
        "c", image="i:1", name="n", labels={}, env={}, binds={}, groups=(), gpus=(), devices=()
    ),
    "rename": lambda engine: engine.rename("c", "n"),
    "remove_image": lambda engine: engine.remove_image("i:1"),
    "create": lambda engine: engine.create(CONFIG),
    "start": lambda engine: engine.start("c"),
    "attach_network": lambda engine: engine.attach_network("c"),
    "stop": lambda engine: engine.stop("c", grace_s=1.0),
    "remove": lambda engine: engine.remove("c"),
    "wait": lambda engine: engine.wait("c", timeout_s=1.0),
    "attach": lambda engine: engine.attach("c", tty=True),
    "logs": lambda engine: list(engine.logs("c", tty=True, follow=True, tail=1)),
    "exec": lambda engine: engine.exec("c", ["true"]),
    "exec_detached": lambda engine: engine.exec_detached("c", ["true"]),
    "exec_exit_code": lambda engine: engine.exec_exit_code("e"),
    "resize": lambda engine: engine.resize("c", 24, 80),
    "out_of_memory": lambda engine: engine.out_of_memory("c", since=0.0),
    "image_id": lambda engine: engine.image_id("i:1"),
    "image_env": lambda engine: engine.image_env("i:1"),
    "pull": lambda engine: list(engine.pull("i:1")),
    "import_image": lambda engine: engine.import_image(b"", "i:1"),
}


def test_every_method_is_tried() -> None:
    """The list of calls that are tried with every exception is the whole protocol."""
    protocol = {name for name in vars(Engine) if not name.startswith("_")}
    public = {name for name in vars(DockerEngine) if not name.startswith("_")}
    assert protocol - {"close"} == set(PUBLIC) == public - {"close"}


class Failing:
    """Stands for the SDK's client; each request fails, at once or while its answer is read."""

    def __init__(self, error: Exception, late: bool) -> None:
        self.error, self.late, self.hits = error, late, 0

    def create_host_config(self, **options: object) -> dict[str, object]:
        return {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def request(*arguments: object, **options: object) -> Any:
            if self.late and name in ("logs", "pull"):
                return self.answer()
            self.hits += 1
            raise self.error

        return request

    def answer(self) -> Iterator[Any]:
        yield {"status": "so far"}
        self.hits += 1
        raise self.error


def failing(error: Exception, *, late: bool = False, informed: bool = True) -> DockerEngine:
    engine = DockerEngine("unix:///nowhere")
    engine._client = Failing(error, late)  # type: ignore[assignment]
    if informed:
        engine._info = EngineInfo("docker", "20.10", "1.41", "linux", False)
    return engine


@pytest.mark.parametrize("method", PUBLIC)
def test_nothing_unmapped_escapes(method: str) -> None:
    """Whatever the SDK, its transport or the system raises, callers see a MooringError."""
    for error in _exceptions():
        for late in (False, True):
            engine = failing(error, late=late, informed=method != "info")
            # a MooringError, or an answer where the library's "not found" is one
            with contextlib.suppress(MooringError):
                PUBLIC[method](engine)
            assert engine._api.hits, f"{method} asked the engine for nothing"


def test_nothing_unmapped_escapes_from_a_stream() -> None:
    """A stream's own requests raise nothing but a MooringError either."""
    for error in _exceptions():
        near, far = socket.socketpair()
        stream = DockerStream(failing(error), near, tty=True, exec_id="e")
        stream.resize(24, 80)
        with contextlib.suppress(MooringError):
            stream.exit_code()
        far.close()
        stream.close_stdin()
        stream.close()
        stream.close()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("unix:///nonexistent/docker.sock", "does not exist"),
        ("unix:///dev/null", "does not answer"),
    ],
)
def test_an_engine_that_is_down(address: str, says: str) -> None:
    """No engine at the address is EngineUnavailable with the address and a hint."""
    with pytest.raises(EngineUnavailable, match=says) as caught:
        DockerEngine(address).list({"a": "b"})
    assert caught.value.hint


def test_an_engine_that_hangs(tmp_path: Path) -> None:
    """An engine that takes the request and says nothing is unavailable after the timeout."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(EngineUnavailable, match="did not answer within"):
            DockerEngine(f"unix://{path}", timeout_s=0.2).list({"a": "b"})


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n[",
        b"HTTP/1.1 200 OK\r\n\r\n{}x",
        b"?!\r\n",
    ],
    ids="nothing cut-short not-json not-http".split(),
)
def test_an_engine_that_talks_nonsense(tmp_path: Path, answer: bytes) -> None:
    """An answer that is cut short or is no answer is an EngineError, whatever its bytes."""
    path = tmp_path / "engine.sock"

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = listening.accept()
                with connected:
                    connected.recv(65536)
                    connected.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        engine = DockerEngine(f"unix://{path}", timeout_s=5.0)
        for call in (engine.info, lambda: engine.inspect("c"), lambda: engine.list({"a": "b"})):
            with pytest.raises(EngineError):
                call()  # type: ignore[operator]
        listening.shutdown(socket.SHUT_RDWR)
        serving.join(DEADLINE_S)


def test_a_port_is_published_while_it_runs(engine: Engine, make: Make) -> None:
    """On 127.0.0.1, with a number of the engine's where any will do; a second holder is refused."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = int(listening.getsockname()[1])
    first = make(ports=((here, 80), (0, 81)), network=True, labels={"mooring.contract.port": "1"})

    def listed() -> tuple[tuple[int, int], ...]:
        (row,) = [row for row in engine.list({"mooring.contract.port": "1"}) if row.id == first]
        return row.ports

    numbers = {there: number for number, there in listed()}
    assert numbers[80] == here
    assert numbers[81] not in (0, here)
    second = make(start=False, ports=((here, 80),), network=True)
    with pytest.raises(PortTaken) as caught:
        engine.start(second)
    assert caught.value.port == here
    engine.stop(first, grace_s=0)
    assert listed() == ()
    engine.start(second)
