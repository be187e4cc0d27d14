"""The protocol that every container engine implements.

An engine manages containers, streams and images, and knows nothing of sessions, specs or kernels.
Unless documented otherwise, a method raises only ``mooring.errors.EngineError`` and its subclasses.
Optional features are in ``mooring.engines.capabilities``.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

#: The stream numbers of a process's output.
STDOUT, STDERR = 1, 2


class Bind(NamedTuple):
    """A directory or file of this machine, mounted at ``target`` in the container.

    ``source`` must exist; an engine never creates it (like Docker's ``--mount type=bind``, unlike
    ``-v``).
    """

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class ContainerConfig:
    """The declaration of a container.

    Attributes:
        name: unique on the engine.
        image: a reference or an id.
        argv: the main process, replacing the image's entrypoint and command.
        user: ``uid:gid``, numeric.
        groups: supplementary group ids.
        env: environment variables, in addition to those of the image.
        labels: stored with the container.
        binds: in mount order. See SupportsBinds.
        workdir: an absolute path in the container.
        hostname: empty for the engine's default.
        cpus: CPU limit in cores, fractions allowed; None for no limit.
        memory_bytes, shm_bytes: None for the engine's default.
        pids_limit: the maximum number of processes and threads; None for the engine's default.
        tty: allocate a terminal for the main process.
        open_stdin: keep the main process's standard input open, so that clients can write to it.
        network: False starts the container without a network. See SupportsLateNetwork.
        denied_modes: mode bits that its processes cannot give to files: those of set-user-ID and
            set-group-ID, or none. See SupportsModeFilter.
        capabilities: Linux capabilities to keep, without ``CAP_``; all others are dropped.
        gpus: UUIDs of devices for the engine's GPU runtime. See SupportsGpus.
        devices: device files of the machine, available at the same path in the container.
        ports: published ports as pairs of host port (0 for any free port) and container port. See
            SupportsPublishedPorts.
        cdi_devices: CDI names of the devices in ``gpus``, if this machine has CDI specifications
            for all of them; an engine that supports CDI uses these instead.
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
    pids_limit: int | None = None
    tty: bool = False
    open_stdin: bool = False
    network: bool = True
    denied_modes: int = 0
    capabilities: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    cdi_devices: tuple[str, ...] = ()


class ResourceLimits(NamedTuple):
    """New limits of a container; None keeps the present one.

    Attributes:
        cpus: CPU cores; may be a fraction.
        memory_bytes: memory, without swap.
        pids_limit: processes and threads; 0 for no limit.
    """

    cpus: float | None = None
    memory_bytes: int | None = None
    pids_limit: int | None = None


@dataclass(frozen=True)
class DeviceRequest:
    """A request for GPUs that a container was created with.

    Attributes:
        count: the number of devices; -1 for all, 0 if ``ids`` lists them.
        ids: UUIDs, prefixes of UUIDs, indexes, CDI names, or paths of device files.
    """

    count: int
    ids: tuple[str, ...]


class Container(NamedTuple):
    """A container as listed by ``Engine.list``.

    Attributes:
        state: created, running, paused, restarting, removing, exited or dead.
        labels: all labels of the container.
        created_at: seconds since the epoch.
        exit_code: None unless the container has exited.
        ports: the published ports of a running container, as pairs of host and container port.
    """

    id: str
    name: str
    image: str
    state: str
    labels: Mapping[str, str]
    created_at: float
    exit_code: int | None = None
    ports: tuple[tuple[int, int], ...] = ()


class ContainerDetail(NamedTuple):
    """The detailed state of a container; times are seconds since the epoch, 0 for never."""

    id: str
    state: str
    exit_code: int | None
    oom_killed: bool
    started_at: float
    finished_at: float


class Process(NamedTuple):
    """A process of a container.

    Attributes:
        command: its command line, the words separated by spaces.
        stopped: whether it was stopped by a signal, or has exited.
    """

    command: str
    stopped: bool


class EngineInfo(NamedTuple):
    """The engine's identity.

    Attributes:
        kind: docker, podman or fake.
        version, api_version: as reported by the engine.
        os: the operating system of its containers, ``linux``.
        rootless: the engine runs without root, so root in a container is an unprivileged user on
            the host.
    """

    kind: str
    version: str
    api_version: str
    os: str
    rootless: bool


class PullProgress(NamedTuple):
    """The progress of a pull; byte counts are summed over all layers of known size."""

    status: str
    done_bytes: int
    total_bytes: int


class Stream(Protocol):
    """A connection to a process's terminal, or to its three standard streams.

    Attributes:
        tty: the process has a terminal.
        exec_id: the engine's id for the process; empty for the container's main process.
    """

    tty: bool
    exec_id: str

    def socket(self) -> socket.socket:
        """The underlying socket, for ``select``, timeouts and ``send`` (standard input).

        A terminal's bytes pass through it unchanged in both directions, so it may be handed to
        another process. Output without a terminal may be framed in an engine-specific format,
        which only ``recv`` decodes. An engine without such a socket bridges to a socket pair.
        """

    def recv(self, size: int = 65536) -> list[tuple[int, memoryview]]:
        """Receive output.

        Args:
            size: the maximum number of bytes.

        Returns:
            Pairs of a stream number (STDOUT or STDERR; always STDOUT for a terminal) and its next
            bytes, never empty; an empty list at the end of the output.

        Raises:
            BlockingIOError: the socket is non-blocking and no data is available.
            TimeoutError: the socket's timeout expired.
        """

    def close_stdin(self) -> None:
        """Half-close: the process reads end-of-file, and its output can still be received."""

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size in characters; does nothing without a terminal."""

    def exit_code(self) -> int | None:
        """The exit code of the process; None while it runs."""

    def close(self) -> None:
        """Close the connection; the process keeps running. Idempotent."""


@runtime_checkable
class Engine(Protocol):
    """The minimum that every engine implements.

    Containers are identified by the engine's ids, never by their names.
    """

    def ping(self) -> None:
        """Do nothing if the engine answers. Raises EngineUnavailable if it does not."""

    def info(self) -> EngineInfo:
        """The engine's identity. Raises EngineUnavailable if it does not answer."""

    def close(self) -> None:
        """Close what is open between requests; the next request reopens it."""

    def list(self, labels: Mapping[str, str], *, alive: bool = False) -> list[Container]:
        """List containers, newest first, with one request.

        Args:
            labels: a container must have all of these; an empty value matches any value.
            alive: list only containers with processes (running, paused, restarting).
        """

    def inspect(self, container: str) -> ContainerDetail | None:
        """The state of a container; None if it does not exist."""

    def create(self, config: ContainerConfig) -> str:
        """Create a container without starting it.

        Returns:
            Its id.

        Raises:
            ImageError: the engine does not have the image.
            NotSupported: the engine does not support a part of the config.
            EngineError: the name is in use, or a bind's source is missing.
        """

    def start(self, container: str) -> None:
        """Start a created or exited container. Idempotent.

        Raises:
            PortTaken: a port that it publishes is in use.
            EngineError: the container cannot be started.
        """

    def stop(self, container: str, grace_s: float) -> None:
        """Stop a container. Idempotent.

        Args:
            container: its id; does nothing if the container is not running.
            grace_s: seconds between SIGTERM to the main process and SIGKILL.
        """

    def remove(self, container: str) -> None:
        """Kill a container and remove it with its files. Idempotent."""

    def wait(self, container: str, timeout_s: float | None = None) -> int:
        """Block until a container has exited.

        Args:
            container: its id.
            timeout_s: seconds; None for no limit.

        Returns:
            Its exit code.

        Raises:
            SessionTimeout: the container is still running after ``timeout_s``.
        """

    def logs(self, container: str, *, tty: bool, follow: bool, tail: int | None) -> Iterator[bytes]:
        """The output of the main process, standard output and error in the order written.

        Args:
            container: its id.
            tty: as in its ``ContainerConfig``.
            follow: continue until the container exits.
            tail: the number of last lines to begin with; None for all.
        """

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
    ) -> Stream:
        """Start another process in a running container.

        Args:
            container: its id.
            argv: the command and its arguments.
            env: environment variables, in addition to those of the container.
            workdir: an absolute path in the container; None for the container's own.
            tty: allocate a terminal for the process.
            stdin: connect the process's standard input to the stream.
            detach_keys: as in ``SupportsAttach.attach``.

        Returns:
            A connection to the process; closing it does not end the process.

        Raises:
            EngineError: the container is not running.
        """

    def image_id(self, reference: str) -> str | None:
        """The id of an image; None if the engine does not have the image."""

    def pull(self, reference: str) -> Iterator[PullProgress]:
        """Pull an image, and yield its progress until the pull is complete. Raises ImageError."""
