"""An engine in memory, for tests: of mooring itself, and of what is built on it.

::

    engine = FakeEngine(images=["python:3.12"])
    engine.fail("start", EngineUnavailable("no engine"))   # the next start, once
    service = Mooring(engine)

Containers, images and streams behave as a real engine's do; one suite of contract tests runs on
both. What runs in a container is not a program but a Python function, see ``FakeProcess``. Of
mooring's own clock, what a session cannot do without is played: it finds its mounts right at
once, and ends when it is told to.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from mooring.engines.base import (
    Bind,
    Container,
    ContainerConfig,
    ContainerDetail,
    DeviceRequest,
    EngineInfo,
    PullProgress,
)
from mooring.errors import EngineError, ImageError, PortTaken, SessionTimeout
from mooring.sessions.record import GUEST_RUN

SIGKILLED, SIGTERMED = 137, 143
POLL_S = 0.01


@dataclass
class FakeProcess:
    """A process in a fake container, as the function that plays it sees it.

    Attributes:
        container: the id of its container.
        stdin: read it to end of file; empty when nobody is attached.
        size: rows and columns of its terminal, as last set.
        terminated: set once it was asked to end, or was ended.
    """

    container: str
    argv: tuple[str, ...]
    env: dict[str, str]
    workdir: str
    user: str
    tty: bool
    stdin: BinaryIO = field(default_factory=BytesIO)
    size: tuple[int, int] = (0, 0)
    exit_code: int | None = None
    terminated: threading.Event = field(default_factory=threading.Event)
    printed: list[bytes] = field(default_factory=list)
    ends: list[socket.socket] = field(default_factory=list)

    def write(self, data: bytes, stderr: bool = False) -> None:
        """Print, to whoever is attached and to the log."""
        self.printed.append(data)
        framed = data if self.tty else struct.pack(">BxxxL", 2 if stderr else 1, len(data)) + data
        for end in list(self.ends):
            with contextlib.suppress(OSError):
                end.sendall(framed)

    def connect(self) -> socket.socket:
        """A new connection to its streams; the first one feeds its standard input."""
        near, far = socket.socketpair()
        if not self.ends:
            self.stdin = far.makefile("rb")
        self.ends.append(far)
        return near

    def finish(self, code: int) -> None:
        """End it, once: later codes do not count."""
        if self.exit_code is None:
            self.exit_code = code
        self.terminated.set()
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.stdin.close()
        self.ends.clear()


Program = Callable[[FakeProcess], int]


@dataclass
class FakeContainer:
    """A container, as tests may look at it and change it."""

    id: str
    config: ContainerConfig
    main: FakeProcess
    state: str
    created_at: float
    started_at: float = 0.0
    finished_at: float = 0.0
    oom_killed: bool = False
    network: bool = True
    ports: tuple[tuple[int, int], ...] = ()
    execs: list[FakeProcess] = field(default_factory=list)


@dataclass
class FakeStream:
    """``mooring.engines.base.Stream`` over a socket pair."""

    process: FakeProcess
    near: socket.socket
    tty: bool
    exec_id: str = ""

    def socket(self) -> socket.socket:
        return self.near

    def close_stdin(self) -> None:
        with contextlib.suppress(OSError):
            self.near.shutdown(socket.SHUT_WR)

    def resize(self, rows: int, columns: int) -> None:
        if self.tty and rows > 0 and columns > 0:
            self.process.size = (rows, columns)

    def exit_code(self) -> int | None:
        return self.process.exit_code

    def close(self) -> None:
        self.near.close()


@dataclass
class _Fault:
    method: str
    error: Exception
    times: int
    done: bool


class FakeEngine:
    """``mooring.engines.base.Engine`` without any engine. Thread-safe.

    Args:
        images: references of images that are here.
        registry: references that ``pull`` finds; their progress is three steps of 100 bytes.
        main: plays main processes, each in a thread; without, a session's runs until it is
            stopped and a look into an image finds ``python``.
        execute: plays all other processes, in a thread if there is a stream to them. What it
            returns is the exit code; without, they print nothing and end with 0 at once.
        python: the interpreter that has ipykernel, in every image; empty for none.
        clock, sleep: seconds since the epoch, and how to let them pass. Waits that time out
            call nothing else, so that a test with a clock of its own never waits.

    Attributes:
        containers: by id; ``containers[id].config`` is what was asked for.
        images: ids by reference.
        calls: names of the methods called so far.
    """

    def __init__(
        self,
        images: Iterable[str] = (),
        registry: Iterable[str] = (),
        *,
        main: Program | None = None,
        execute: Program = lambda process: 0,
        python: str = "",
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.images = {reference: _digest(reference.encode()) for reference in images}
        self.registry = set(registry)
        self.containers: dict[str, FakeContainer] = {}
        self.calls: list[str] = []
        self._main, self._execute, self._python = main, execute, python
        self._clock, self._sleep = clock, sleep
        self._execs: dict[str, FakeProcess] = {}
        self._faults: list[_Fault] = []
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    # what tests set

    def fail(
        self, method: str, error: Exception, *, times: int = 1, done: bool = False
    ) -> Callable[[], None]:
        """Let the next calls of a method raise.

        Args:
            method: its name, or ``*`` for every one.
            times: how many calls; -1 for all from now on.
            done: the call does its work first: the engine acted and its answer was lost.

        Returns:
            A function that takes the fault back.
        """
        fault = _Fault(method, error, times, done)
        self._faults.append(fault)
        return lambda: self._faults.remove(fault) if fault in self._faults else None

    def finish(self, container: str, exit_code: int = 0, *, oom_killed: bool = False) -> None:
        """End a container's main process, and with it the container."""
        with self._lock:
            found = self._find(container)
            if found.state not in ("running", "paused"):
                return
            found.state, found.finished_at = "exited", self._clock()
            found.oom_killed = oom_killed
            found.main.finish(exit_code)
            for process in found.execs:
                process.finish(SIGKILLED)

    # the protocol

    def info(self) -> EngineInfo:
        with self._call("info"):
            return EngineInfo("fake", "1.0", "1.0", "linux", False)

    def close(self) -> None:
        """Nothing is open."""

    def list(self, labels: Mapping[str, str], *, alive: bool = False) -> list[Container]:
        with self._call("list"), self._lock:
            return [
                Container(
                    id=found.id,
                    name=found.config.name,
                    image=found.config.image,
                    state=found.state,
                    labels=dict(found.config.labels),
                    created_at=found.created_at,
                    exit_code=found.main.exit_code if found.state == "exited" else None,
                    ports=found.ports if found.state == "running" else (),
                )
                for found in reversed(self.containers.values())
                if (not alive or found.state in ("running", "paused"))
                and all(
                    key in found.config.labels and value in ("", found.config.labels[key])
                    for key, value in labels.items()
                )
            ]

    def device_requests(self, container: str) -> tuple[DeviceRequest, ...]:
        with self._call("device_requests"):
            found = self.containers.get(container)
            if found is None or not found.config.gpus:
                return ()
            return (DeviceRequest(0, found.config.gpus),)

    def inspect(self, container: str) -> ContainerDetail | None:
        with self._call("inspect"):
            found = self.containers.get(container)
            if found is None:
                return None
            return ContainerDetail(
                id=found.id,
                state=found.state,
                exit_code=found.main.exit_code if found.state == "exited" else None,
                oom_killed=found.oom_killed,
                started_at=found.started_at,
                finished_at=found.finished_at,
            )

    def create(self, config: ContainerConfig) -> str:
        with self._call("create"), self._lock:
            if config.image not in self.images:
                raise ImageError(f"No such image: {config.image}", "pull it first")
            if any(found.config.name == config.name for found in self.containers.values()):
                raise EngineError(f"creating a container: the name {config.name} is in use")
            for bind in config.binds:
                if not os.path.exists(bind.source):
                    raise EngineError(f"creating a container: {bind.source} does not exist")
            made = _digest(str(next(self._numbers)).encode())
            main = FakeProcess(
                made, config.argv, dict(config.env), config.workdir, config.user, config.tty
            )
            self.containers[made] = FakeContainer(
                made, config, main, "created", self._clock(), network=config.network
            )
            return made

    def remake(
        self,
        container: str,
        *,
        image: str,
        name: str,
        labels: Mapping[str, str],
        env: Mapping[str, str | None],
        binds: Mapping[str, Bind | None],
        groups: Sequence[int],
        gpus: Sequence[str],
        devices: Sequence[str],
    ) -> str:
        with self._call("remake"):
            old = self._find(container).config
            self.images[image] = _digest(image.encode())
            changes = {
                "image": image,
                "name": name,
                "labels": {**old.labels, **labels},
                "env": {key: one for key, one in {**old.env, **env}.items() if one is not None},
                "binds": (
                    *(bind for bind in old.binds if bind.target not in binds),
                    *filter(None, binds.values()),
                ),
                "groups": tuple(sorted({*old.groups, *groups})),
                "gpus": tuple(gpus),
                "devices": tuple(devices),
                "network": True,
            }
            return self.create(replace(old, **changes))  # type: ignore[arg-type]

    def rename(self, container: str, name: str) -> None:
        with self._call("rename"), self._lock:
            found = self._find(container)
            if any(one.config.name == name for one in self.containers.values()):
                raise EngineError(f"renaming the container: the name {name} is taken")
            found.config = replace(found.config, name=name)

    def remove_image(self, reference: str) -> None:
        with self._call("remove_image"):
            self.images.pop(reference, None)

    def start(self, container: str) -> None:
        with self._call("start"), self._lock:
            found = self._find(container)
            if found.state == "running":
                return
            found.ports = self._published(found)
            if found.state == "exited":  # the same log goes on
                found.main = replace(
                    found.main,
                    exit_code=None,
                    terminated=threading.Event(),
                    ends=[],
                    stdin=BytesIO(),
                )
            found.state, found.started_at, found.finished_at = "running", self._clock(), 0.0
            found.oom_killed = False
            run_directories = list(_run_directories(found))
            for run in run_directories:
                (run / "checked").touch()
            if self._main is None and not run_directories:
                python = self._python or "no python3 on its PATH"
                found.main.write(f"--- group\n--- python\n{python}\n".encode())
                self.finish(container, 0)
            elif self._main is not None:
                main, play = found.main, self._main
                threading.Thread(
                    target=lambda: self._ended(found, main, _played(play, main)), daemon=True
                ).start()

    def attach_network(self, container: str) -> None:
        with self._call("attach_network"):
            self._find(container).network = True

    def stop(self, container: str, grace_s: float) -> None:
        with self._call("stop"):
            found = self.containers.get(container)
            if found is None or found.state not in ("running", "paused"):
                return
            found.main.terminated.set()
            if self._main is None:
                self.finish(container, SIGTERMED)
            elif not self._until_ended(found, grace_s):
                self.finish(container, SIGKILLED)

    def remove(self, container: str) -> None:
        with self._call("remove"), self._lock:
            found = self.containers.get(container)
            if found is not None:
                self.finish(container, SIGKILLED)
                found.main.finish(SIGKILLED)  # also one that was attached to, and never started
                del self.containers[container]

    def wait(self, container: str, timeout_s: float | None = None) -> int:
        with self._call("wait"):
            found = self._find(container)
            if not self._until_ended(found, timeout_s):
                raise SessionTimeout(f"still running after {timeout_s:g} s")
            return found.main.exit_code or 0

    def attach(self, container: str, *, tty: bool, detach_keys: str = "") -> FakeStream:
        with self._call("attach"):
            main = self._find(container).main
            return FakeStream(main, main.connect(), tty)

    def logs(self, container: str, *, tty: bool, follow: bool, tail: int | None) -> Iterator[bytes]:
        with self._call("logs"):
            found = self._find(container)
            lines = b"".join(found.main.printed).splitlines(keepends=True)
            seen = len(found.main.printed)
        return self._follow(found, lines[-tail:] if tail else lines, seen if follow else None)

    def _follow(
        self, found: FakeContainer, lines: Sequence[bytes], seen: int | None
    ) -> Iterator[bytes]:
        yield from lines
        while seen is not None:
            ended = found.state != "running"  # looked at before the last look at the log
            new = found.main.printed[seen:]
            seen += len(new)
            yield from new
            if ended:
                return
            self._sleep(POLL_S)

    def exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        tty: bool = False,
        stdin: bool = False,
        detach_keys: str = "",
        user: str | None = None,
    ) -> FakeStream:
        with self._call("exec"):
            process = self._process(container, argv, env, workdir, tty, user)
            exec_id = _digest(str(next(self._numbers)).encode())
            self._execs[exec_id] = process
            stream = FakeStream(process, process.connect(), tty, exec_id)
            if not stdin:
                process.stdin = BytesIO()
        threading.Thread(
            target=lambda: process.finish(self._executed(process)), daemon=True
        ).start()
        return stream

    def exec_detached(
        self,
        container: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
    ) -> str:
        with self._call("exec_detached"):
            process = self._process(container, argv, env, workdir, False, user)
            exec_id = _digest(str(next(self._numbers)).encode())
            self._execs[exec_id] = process
            process.finish(self._executed(process))
            return exec_id

    def exec_exit_code(self, exec_id: str) -> int | None:
        with self._call("exec_exit_code"):
            found = self._execs.get(exec_id)
            return SIGKILLED if found is None else found.exit_code

    def resize(self, container: str, rows: int, columns: int, *, exec_id: str = "") -> None:
        with self._call("resize"):
            process = self._execs.get(exec_id) if exec_id else self._find(container).main
            if process is not None and rows > 0 and columns > 0:
                process.size = (rows, columns)

    def out_of_memory(self, container: str, since: float) -> bool:
        with self._call("out_of_memory"):
            return self._find(container).oom_killed

    def image_id(self, reference: str) -> str | None:
        with self._call("image_id"):
            return self.images.get(reference)

    def image_env(self, reference: str) -> dict[str, str]:
        with self._call("image_env"):
            return {"PATH": "/usr/bin:/bin"} if reference in self.images else {}

    def pull(self, reference: str) -> Iterator[PullProgress]:
        with self._call("pull"):
            if reference not in self.registry:
                raise ImageError(f"cannot pull {reference}: not found", "check its name")
        for done in (0, 50, 100):
            yield PullProgress("Downloading", done, 100)
        self.images[reference] = _digest(reference.encode())

    def import_image(self, tar: bytes, reference: str) -> str:
        with self._call("import_image"):
            self.images[reference] = _digest(tar)
            return self.images[reference]

    # helpers

    @contextlib.contextmanager
    def _call(self, method: str) -> Iterator[None]:
        with self._lock:
            self.calls.append(method)
            fault = next((f for f in self._faults if f.method in (method, "*")), None)
            if fault is not None:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
        if fault is not None and not fault.done:
            raise fault.error
        yield
        if fault is not None:
            raise fault.error

    def _published(self, found: FakeContainer) -> tuple[tuple[int, int], ...]:
        others = [one for one in self.containers.values() if one.state == "running"]
        held = {here for one in others for here, _ in one.ports}
        published = []
        for here, there in found.config.ports:
            number = here or next(n for n in itertools.count(49153) if n not in held)
            if number in held:
                raise PortTaken(f"port {number} of this machine is taken", port=number)
            held.add(number)
            published.append((number, there))
        return tuple(published)

    def _find(self, container: str) -> FakeContainer:
        try:
            return self.containers[container]
        except KeyError:
            raise EngineError(f"No such container: {container}") from None

    def _process(
        self,
        container: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        workdir: str | None,
        tty: bool,
        user: str | None,
    ) -> FakeProcess:
        found = self._find(container)
        if found.state != "running":
            raise EngineError(f"container {container} is not running")
        process = FakeProcess(
            container,
            tuple(argv),
            {**found.config.env, **(env or {})},
            workdir or found.config.workdir,
            user or found.config.user,
            tty,
        )
        found.execs.append(process)
        return process

    def _executed(self, process: FakeProcess) -> int:
        if process.argv[1:3] != (f"{GUEST_RUN}/clock.sh", "end"):
            return _played(self._execute, process)
        reason, *detail = process.argv[3:]
        for run in _run_directories(self._find(process.container)):
            (run / "end").write_text(
                f"reason {reason}\ntime {self._clock():.0f}\ndetail {' '.join(detail)}\nsignals \n"
            )
        self.finish(process.container, SIGTERMED)
        return 0

    def _ended(self, found: FakeContainer, main: FakeProcess, code: int) -> None:
        with self._lock:
            if found.main is main and found.id in self.containers:
                self.finish(found.id, code)

    def _until_ended(self, found: FakeContainer, timeout_s: float | None) -> bool:
        deadline = None if timeout_s is None else self._clock() + timeout_s
        while found.state == "running" or found.state == "paused":
            if deadline is not None and self._clock() >= deadline:
                return False
            self._sleep(POLL_S)
        return True


def _run_directories(found: FakeContainer) -> Iterator[Path]:
    return (Path(bind.source) for bind in found.config.binds if bind.target == GUEST_RUN)


def _played(program: Program, process: FakeProcess) -> int:
    try:
        return program(process)
    except (OSError, ValueError):  # its streams were closed: it was ended
        return SIGKILLED


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
