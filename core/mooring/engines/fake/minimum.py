"""An in-memory engine without capabilities, whose processes are Python functions."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import BytesIO

from mooring.engines.base import (
    Container,
    ContainerConfig,
    ContainerDetail,
    EngineInfo,
    PullProgress,
)
from mooring.engines.fake.faults import Faults
from mooring.engines.fake.process import (
    SIGKILLED,
    SIGTERMED,
    FakeContainer,
    FakeProcess,
    FakeStream,
    Program,
)
from mooring.errors import EngineError, ImageError, SessionTimeout

POLL_S = 0.01


class MinimumEngine:
    """An in-memory ``mooring.engines.base.Engine`` without capabilities. Thread-safe.

    Args:
        images: references of the images that the engine has.
        registry: references that ``pull`` finds; their progress is three steps of 100 bytes.
        main: run as each main process, in a thread; None for one that runs until it is stopped.
        execute: run as each other process, in a thread if a client is connected to it. By default
            it prints nothing and exits with 0.
        on_start: called with each started container, before its main process runs.
        clock: returns seconds since the epoch.
        sleep: called between polls by every wait; a test with its own ``clock`` can replace it to
            avoid real waiting.

    Attributes:
        containers: by id; ``containers[id].config`` is the container's declaration.
        images: ids by reference.
        calls: the names of the methods called so far.
        main, execute: as given; a test may replace them.
    """

    def __init__(
        self,
        images: Iterable[str] = (),
        registry: Iterable[str] = (),
        *,
        main: Program | None = None,
        execute: Program = lambda process: 0,
        on_start: Callable[[FakeContainer], None] = lambda container: None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.images = {reference: digest(reference.encode()) for reference in images}
        self.registry = set(registry)
        self.containers: dict[str, FakeContainer] = {}
        self.main, self.execute, self._on_start = main, execute, on_start
        self._clock, self._sleep = clock, sleep
        self._execs: dict[str, FakeProcess] = {}
        self._faults = Faults()
        self.calls = self._faults.calls
        self._call = self._faults.call
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    # for tests

    def fail(
        self, method: str, error: Exception, *, times: int = 1, done: bool = False
    ) -> Callable[[], None]:
        """Make the next calls of a method raise an error.

        Args:
            method: its name, or ``*`` for every method.
            error: the exception to raise.
            times: the number of calls; -1 for all.
            done: perform the call first, as if only the engine's response were lost.

        Returns:
            A function that removes the fault.
        """
        return self._faults.add(method, error, times, done)

    def finish(self, container: str, exit_code: int = 0, *, oom_killed: bool = False) -> None:
        """End a container's main process, and so the container.

        Args:
            container: its id; does nothing if the container is not running.
            exit_code: the exit code of the main process.
            oom_killed: it was killed because it was out of memory.
        """
        with self._lock:
            ended = self._find(container)
            if not ended.alive:
                return
            ended.state, ended.finished_at = "exited", self._clock()
            ended.oom_killed = oom_killed
            ended.main.finish(exit_code)
            for process in ended.execs:
                process.finish(SIGKILLED)

    # the Engine protocol

    def ping(self) -> None:
        with self._call("ping"):
            pass

    def info(self) -> EngineInfo:
        with self._call("info"):
            return EngineInfo("fake", "1.0", "1.0", "linux", False)

    def close(self) -> None:
        """Do nothing, because there is no connection."""

    def list(self, labels: Mapping[str, str], *, alive: bool = False) -> list[Container]:
        with self._call("list"), self._lock:
            return [
                Container(
                    id=one.id,
                    name=one.config.name,
                    image=one.config.image,
                    state=one.state,
                    labels=dict(one.config.labels),
                    created_at=one.created_at,
                    exit_code=one.main.exit_code if one.state == "exited" else None,
                    ports=one.ports if one.state == "running" else (),
                )
                for one in reversed(self.containers.values())
                if (one.alive or not alive)
                and all(one.carries(key, value) for key, value in labels.items())
            ]

    def inspect(self, container: str) -> ContainerDetail | None:
        with self._call("inspect"):
            one = self.containers.get(container)
            if one is None:
                return None
            return ContainerDetail(
                id=one.id,
                state=one.state,
                exit_code=one.main.exit_code if one.state == "exited" else None,
                oom_killed=one.oom_killed,
                started_at=one.started_at,
                finished_at=one.finished_at,
            )

    def create(self, config: ContainerConfig) -> str:
        with self._call("create"), self._lock:
            if config.image not in self.images:
                raise ImageError(f"No such image: {config.image}", "pull it first")
            if any(config.name == other.config.name for other in self.containers.values()):
                raise EngineError(f"creating a container: the name {config.name} is in use")
            for bind in config.binds:
                if not os.path.exists(bind.source):
                    raise EngineError(f"creating a container: {bind.source} does not exist")
            container = self._new_id()
            main = FakeProcess(
                container, config.argv, dict(config.env), config.workdir, config.user, config.tty
            )
            self.containers[container] = FakeContainer(
                container, config, main, "created", self._clock(), network=config.network
            )
            return container

    def start(self, container: str) -> None:
        with self._call("start"), self._lock:
            started = self._find(container)
            if started.state == "running":
                return
            started.ports = self._published(started)
            if started.state == "exited":  # the log continues
                started.main = replace(
                    started.main,
                    exit_code=None,
                    terminated=threading.Event(),
                    ends=[],
                    stdin=BytesIO(),
                )
            started.state, started.started_at, started.finished_at = "running", self._clock(), 0.0
            started.oom_killed = False
            self._on_start(started)
            if self.main is not None:
                main, program = started.main, self.main
                threading.Thread(
                    target=lambda: self._ended(started, main, main.play(program)), daemon=True
                ).start()

    def stop(self, container: str, grace_s: float) -> None:
        with self._call("stop"):
            stopped = self.containers.get(container)
            if stopped is None or not stopped.alive:
                return
            stopped.main.terminated.set()
            if self.main is None:
                self.finish(container, SIGTERMED)
            elif not self._until_ended(stopped, grace_s):
                self.finish(container, SIGKILLED)

    def remove(self, container: str) -> None:
        with self._call("remove"), self._lock:
            removed = self.containers.get(container)
            if removed is not None:
                self.finish(container, SIGKILLED)
                removed.main.finish(SIGKILLED)  # even if it was attached to but never started
                del self.containers[container]

    def wait(self, container: str, timeout_s: float | None = None) -> int:
        with self._call("wait"):
            awaited = self._find(container)
            if not self._until_ended(awaited, timeout_s):
                raise SessionTimeout(f"still running after {timeout_s:g} s")
            return awaited.main.exit_code or 0

    def logs(self, container: str, *, tty: bool, follow: bool, tail: int | None) -> Iterator[bytes]:
        with self._call("logs"):
            printer = self._find(container)
            lines = b"".join(printer.main.printed).splitlines(keepends=True)
            seen = len(printer.main.printed)
        return self._follow(printer, lines[-tail:] if tail else lines, seen if follow else None)

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
    ) -> FakeStream:
        with self._call("exec"):
            exec_id, process = self._process(container, argv, env, workdir, tty=tty)
        stream = FakeStream(process, tty, exec_id)
        if not stdin:
            process.stdin = BytesIO()
        threading.Thread(
            target=lambda: process.finish(process.play(self.execute)), daemon=True
        ).start()
        return stream

    def image_id(self, reference: str) -> str | None:
        with self._call("image_id"):
            return self.images.get(reference)

    def pull(self, reference: str) -> Iterator[PullProgress]:
        with self._call("pull"):
            if reference not in self.registry:
                raise ImageError(f"cannot pull {reference}: not found", "check its name")
        for done in (0, 50, 100):
            yield PullProgress("Downloading", done, 100)
        self.images[reference] = digest(reference.encode())

    # helpers

    def _new_id(self) -> str:
        return digest(str(next(self._numbers)).encode())

    def _find(self, container: str) -> FakeContainer:
        try:
            return self.containers[container]
        except KeyError:
            raise EngineError(f"No such container: {container}") from None

    def _running(self, container: str) -> FakeContainer:
        found = self._find(container)
        if found.state != "running":
            raise EngineError(f"container {container} is not running")
        return found

    def _published(self, starting: FakeContainer) -> tuple[tuple[int, int], ...]:
        """The ports to publish for a starting container: none in this engine."""
        return ()

    def _process(
        self,
        container: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        *,
        tty: bool = False,
    ) -> tuple[str, FakeProcess]:
        """Create a process in a running container; returns it and its exec id."""
        running = self._running(container)
        config = running.config
        process = FakeProcess(
            container=container,
            argv=tuple(argv),
            env={**config.env, **(env or {})},
            workdir=workdir or config.workdir,
            user=config.user,
            tty=tty,
        )
        running.execs.append(process)
        exec_id = self._new_id()
        self._execs[exec_id] = process
        return exec_id, process

    def _follow(
        self, printer: FakeContainer, lines: Sequence[bytes], seen: int | None
    ) -> Iterator[bytes]:
        yield from lines
        while seen is not None:
            ended = printer.state != "running"  # read before the log, to miss no output
            new = printer.main.printed[seen:]
            seen += len(new)
            yield from new
            if ended:
                return
            self._sleep(POLL_S)

    def _ended(self, started: FakeContainer, main: FakeProcess, code: int) -> None:
        with self._lock:
            if started.main is main and started.id in self.containers:
                self.finish(started.id, code)

    def _until_ended(self, awaited: FakeContainer, timeout_s: float | None) -> bool:
        deadline = None if timeout_s is None else self._clock() + timeout_s
        while awaited.alive:
            if deadline is not None and self._clock() >= deadline:
                return False
            self._sleep(POLL_S)
        return True


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
