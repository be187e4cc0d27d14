"""Whatever goes wrong with Docker, callers see one of mooring's errors."""

from __future__ import annotations

import contextlib
import errno
import inspect
import json
import socket
import threading
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mooring.engines import capabilities
from mooring.engines.base import ContainerConfig, Engine, ResourceLimits
from mooring.engines.docker import DOCKER_SOCKET, DockerEngine
from mooring.engines.docker.client import ApiError, NotFound
from mooring.engines.docker.connection import DockerConnection
from mooring.engines.docker.errors import mapped
from mooring.engines.docker.streams import DockerStream
from mooring.errors import EngineError, EngineUnavailable, MooringError
from tests.support.fuse import private_folder

DEADLINE_S = 30.0


def _exceptions() -> list[Exception]:
    """One of every exception that a request can raise."""
    return [
        ApiError(500, "boom"),
        NotFound(404, "boom"),
        NotFound(404, "No such image: boom"),
        OSError(errno.EMFILE, "boom"),
        OSError("AF_UNIX path too long"),
        ConnectionResetError(),
        BrokenPipeError("boom"),
        FileNotFoundError(errno.ENOENT, "boom"),
        PermissionError(errno.EACCES, "boom"),
        ConnectionRefusedError(errno.ECONNREFUSED, "boom"),
        TimeoutError("timed out"),
        ValueError("boom"),
        json.JSONDecodeError("boom", "", 0),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "boom"),
        EngineError("boom", "hint"),
    ]


CONFIG = ContainerConfig(name="n", image="i:1", argv=("true",), user="0:0")

PUBLIC: dict[str, Callable[[DockerEngine], object]] = {
    "info": lambda engine: engine.info(),
    "update_limits": lambda engine: engine.update_limits("c", ResourceLimits(1.0)),
    "ping": lambda engine: engine.ping(),
    "list": lambda engine: engine.list({"a": "b"}),
    "inspect": lambda engine: engine.inspect("c"),
    "device_requests": lambda engine: engine.device_requests("c"),
    "recreate": lambda engine: engine.recreate(
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
    "binds": lambda engine: engine.binds("c"),
    "image_names": lambda engine: engine.image_names(),
    "link_target": lambda engine: engine.link_target("c", "/x"),
    "image_volumes": lambda engine: engine.image_volumes("i:1"),
    "processes": lambda engine: engine.processes("c"),
    "check_source": lambda engine: engine.check_source("/"),
    "mounted": lambda engine: engine.mounted("c", ["/"]),
    "exec": lambda engine: engine.exec("c", ["true"]),
    "exec_detached": lambda engine: engine.exec_detached("c", ["true"]),
    "exec_exit_code": lambda engine: engine.exec_exit_code("e"),
    "resize": lambda engine: engine.resize("c", 24, 80),
    "out_of_memory": lambda engine: engine.out_of_memory("c", since=0.0),
    "why_no_mode_filter": lambda engine: engine.why_no_mode_filter(),
    "image_id": lambda engine: engine.image_id("i:1"),
    "pull": lambda engine: list(engine.pull("i:1")),
    "import_image": lambda engine: engine.import_image(b"", "i:1"),
    "remove_older_images": lambda engine: engine.remove_older_images("i:1"),
}


def test_every_method_is_tried() -> None:
    """The list of calls that are tried with every exception is the whole protocol."""
    kinds = [kind for name, kind in vars(capabilities).items() if name.startswith("Supports")]
    protocol = {
        name
        for kind in (Engine, *kinds)
        for name, member in vars(kind).items()
        if not name.startswith("_") and inspect.isfunction(member)
    }
    public = {
        name
        for kind in (DockerConnection, DockerEngine)
        for name, member in vars(kind).items()
        if not name.startswith("_") and inspect.isfunction(member)
    }
    assert protocol - {"close"} == set(PUBLIC) == public - {"close"}


class Failing:
    """Stands for the client; each request fails, at once or while its response is read."""

    def __init__(self, error: Exception, late: bool = False) -> None:
        self.error, self.late, self.hits = error, late, 0

    def get(self, *path: str, **options: object) -> Any:
        self.hits += 1
        raise self.error

    ping = post = send = hijack = get

    def open(self, *path: str, **options: object) -> Any:
        if self.late:
            self.hits += 1
            return self
        return self.get()

    headers: Mapping[str, str] = {}

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def chunks(self, timeout_s: float | None = None) -> Generator[bytes]:
        yield b'{"status": "so far"}\n'
        self.get()

    def read(self, timeout_s: float | None = None) -> Any:
        self.get()

    document = read


def failing(client: Any) -> DockerEngine:
    """An engine whose requests fail."""
    return DockerEngine(f"unix://{DOCKER_SOCKET}", client=client)


@pytest.mark.parametrize("method", PUBLIC)
def test_nothing_unmapped_escapes(method: str) -> None:
    """Whatever the client or the system raises, callers see a MooringError."""
    for error in _exceptions():
        for late in (False, True):
            client = Failing(error, late)
            engine = failing(client)
            # a MooringError, or an answer where "not found" is one
            with contextlib.suppress(MooringError):
                PUBLIC[method](engine)
            assert client.hits, f"{method} asked the engine for nothing"


def test_nothing_unmapped_escapes_from_a_stream() -> None:
    """A stream's own requests raise nothing but a MooringError either."""
    for error in _exceptions():
        near, far = socket.socketpair()
        engine = failing(Failing(error))
        stream = DockerStream(
            near,
            True,
            "e",
            resize=partial(engine.resize, "c", exec_id="e"),
            exit_code=partial(engine.exec_exit_code, "e"),
        )
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


@pytest.mark.parametrize(
    ("why", "message", "hint"),
    [
        (
            'invalid mount config for type "bind": stat /home/u/sshfs: permission denied',
            "the engine may not read /home/u/sshfs",
            "allow_other",
        ),
        ("statfs /mnt/a b: permission denied", "the engine may not read /mnt/a b", "root_squash"),
        (
            'invalid mount config for type "bind": bind source path does not exist: /nosuch/a',
            "the engine does not see /nosuch/a",
            "create it",
        ),
        (
            f'invalid mount config for type "bind": bind source path does not exist: {__file__}',
            f"the engine does not see {__file__}",
            "run mooring where the engine runs",
        ),
        (
            "statfs /nosuch/a: no such file or directory",  # Podman
            "the engine does not see /nosuch/a",
            "create it",
        ),
    ],
)
def test_folders_that_the_engine_cannot_mount(why: str, message: str, hint: str) -> None:
    """A folder that root cannot read, or that the engine's machine lacks, is told as that
    (moby#35002)."""
    with pytest.raises(EngineError) as caught, mapped("creating a container", "unix:///s", 1.0):
        raise ApiError(400, why)
    assert caught.value.message == message
    assert hint in caught.value.hint


@pytest.mark.engine
def test_a_folder_of_a_fuse_file_system(real_engine: Engine) -> None:
    """Docker tells before anything is created that its daemon may not read a user's FUSE mount."""
    assert isinstance(real_engine, capabilities.SupportsBinds)
    with private_folder(54_321) as folder:
        for path in (folder, folder / "project"):
            with pytest.raises(EngineError, match=f"may not read {path}"):
                real_engine.check_source(str(path))
