"""The protocol between mooring and what runs its containers.

An engine is asked for containers, streams and images, and knows nothing of sessions, specs or
kernels. Everything it raises is a ``mooring.errors.EngineError``.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Bind:
    """A directory or file of this machine, seen at ``target`` in the container.

    ``source`` must exist: an engine never creates it (Docker's ``type=bind``, not ``-v``).
    """

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class ContainerConfig:
    """All that an engine needs to create a container.

    Attributes:
        argv: the main process.
        user: ``uid:gid``, numeric.
        groups: supplementary group ids.
        cpus: cores, fractions allowed; None for no limit.
        memory_bytes, shm_bytes: None for the engine's default.
        tty: the main process has a terminal.
        open_stdin: the main process's standard input can be attached to.
        network: False starts without one; ``attach_network`` gives it later.
        capabilities: those kept; all others are dropped.
        gpus: devices by UUID, brought by the engine's own GPU runtime.
        devices: device files of the machine, at the same place inside.
        ports: published on 127.0.0.1: this machine's, 0 for a free one, and the container's.
    """

    name: str
    image: str
    argv: tuple[str, ...]
    user: str
    groups: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()
    workdir: str = "/"
    hostname: str = ""
    cpus: float | None = None
    memory_bytes: int | None = None
    shm_bytes: int | None = None
    tty: bool = False
    open_stdin: bool = False
    network: bool = True
    capabilities: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class DeviceRequest:
    """GPUs that a container has asked the engine for.

    Attributes:
        count: so many of them, -1 for all; 0 where ``ids`` tells.
        ids: UUIDs, the beginnings of some, numbers, or CDI names.
    """

    count: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Container:
    """One row of a listing.

    Attributes:
        state: created, running, paused, restarting, removing, exited or dead.
        exit_code: of an exited one, None otherwise.
        ports: published ones of a running one: this machine's, and the container's.
    """

    id: str
    name: str
    image: str
    state: str
    labels: Mapping[str, str]
    created_at: float
    exit_code: int | None = None
    ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class ContainerDetail:
    """What only a look at one container tells. Times are seconds since the epoch, 0 for never."""

    id: str
    state: str
    exit_code: int | None
    oom_killed: bool
    started_at: float
    finished_at: float


@dataclass(frozen=True)
class EngineInfo:
    """Who answers: ``kind`` is docker, podman or fake."""

    kind: str
    version: str
    api_version: str
    os: str
    rootless: bool


@dataclass(frozen=True)
class PullProgress:
    """How far a pull is; bytes over all layers that have said their size."""

    status: str
    done_bytes: int
    total_bytes: int


class Stream(Protocol):
    """A process's terminal, or its three streams, over one connection.

    With ``tty`` the bytes are the terminal's. Without, what is read is Docker's multiplexed
    format (eight bytes of header, then the payload; see Docker Engine API, "Attach to a
    container") and what is written is standard input. ``exec_id`` is the engine's name for the
    process, empty for the container's main one.
    """

    tty: bool
    exec_id: str

    def socket(self) -> socket.socket:
        """The connection; for ``select``, ``recv`` and ``send``."""

    def close_stdin(self) -> None:
        """Half-close: the process reads end of file, its output still comes."""

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size in characters; no effect without a terminal."""

    def exit_code(self) -> int | None:
        """The process's exit code, or None while it runs (a detached one)."""

    def close(self) -> None:
        """Give the connection back; the process goes on."""


@runtime_checkable
class Engine(Protocol):
    """The minimum every engine does. Ids are the engine's own, never names."""

    def info(self) -> EngineInfo:
        """Who answers. Raises EngineUnavailable when nobody does."""

    def close(self) -> None:
        """Give connections back; the next request makes new ones."""

    def list(self, labels: Mapping[str, str], *, alive: bool = False) -> list[Container]:
        """Every container that carries all of the labels: one call.

        Args:
            alive: only those with processes (running, paused, restarting), not in any state.
        """

    def inspect(self, container: str) -> ContainerDetail | None:
        """One container, or None when it is gone."""

    def device_requests(self, container: str) -> tuple[DeviceRequest, ...]:
        """The GPUs that a container, of whoever's, was given; empty for one that is gone.

        Asked once: no container's ever change.
        """

    def create(self, config: ContainerConfig) -> str:
        """Create and do not start. Returns the id."""

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
        """Create a container like one that is stopped, with its files and other GPUs.

        It takes as long as there are files.

        Args:
            image: the reference under which its files are kept.
            labels, env: those that are other, beside all that it has; None takes one away.
            binds: the same, by their place in the container.
            groups: beside those that it has.
            gpus, devices: in place of its own, as in ``ContainerConfig``.

        Returns:
            The new one's id. The old one is still there.
        """

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""

    def remove_image(self, reference: str) -> None:
        """Remove an image that no container uses. Idempotent."""

    def start(self, container: str) -> None:
        """Start a created or exited container.

        Raises PortTaken when a port that it publishes is held by somebody.
        """

    def attach_network(self, container: str) -> None:
        """Give a container that was started without one the default network."""

    def stop(self, container: str, grace_s: float) -> None:
        """SIGTERM to the main process, SIGKILL after ``grace_s``. Idempotent."""

    def remove(self, container: str) -> None:
        """Kill and remove with all that it wrote inside itself. Idempotent."""

    def wait(self, container: str, timeout_s: float | None = None) -> int:
        """Block until the container has ended; its exit code.

        Raises SessionTimeout after ``timeout_s`` seconds.
        """

    def attach(self, container: str, *, tty: bool, detach_keys: str = "") -> Stream:
        """The main process's terminal or streams, from now on."""

    def logs(self, container: str, *, tty: bool, follow: bool, tail: int | None) -> Iterator[bytes]:
        """What the main process printed, standard output and error as they came."""

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
    ) -> Stream:
        """Start another process in a running container, with a connection to it."""

    def exec_detached(
        self,
        container: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
    ) -> str:
        """Start another process in a running container and leave it alone. Returns its exec id."""

    def resize(self, container: str, rows: int, columns: int, *, exec_id: str = "") -> None:
        """Tell a terminal its size: of the main process, or of an exec."""

    def out_of_memory(self, container: str, since: float) -> bool:
        """Whether a process of the container was killed for want of memory since then (epoch)."""

    def exec_exit_code(self, exec_id: str) -> int | None:
        """Exit code of an exec, or None while it runs."""

    def image_id(self, reference: str) -> str | None:
        """The id of an image that is here, or None."""

    def image_env(self, reference: str) -> dict[str, str]:
        """The environment that an image that is here declares."""

    def pull(self, reference: str) -> Iterator[PullProgress]:
        """Fetch an image; progress until it is here. Raises ImageError."""

    def import_image(self, tar: bytes, reference: str) -> str:
        """Make an image out of a root filesystem. Returns its id."""
