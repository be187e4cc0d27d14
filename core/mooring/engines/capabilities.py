"""Optional features of engines, one protocol class per capability.

::

    if isinstance(engine, SupportsOomEvents):      # optional
        starved = engine.out_of_memory(container, since)

    require(engine, SupportsRecreate).recreate(…)  # or raise NotSupported

An engine has a capability if it has its members; a subclass removes one by setting a member to
None, like ``__hash__ = None``. Each capability has its own class of contract tests
(``tests/contract``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, runtime_checkable

from mooring.engines.base import (
    Bind,
    ContainerConfig,
    DeviceRequest,
    Engine,
    Process,
    ResourceLimits,
    Stream,
)
from mooring.engines.mounted import Mounted
from mooring.errors import NotSupported


@runtime_checkable
class SupportsBinds(Protocol):
    """Runs on this machine, so that ``ContainerConfig.binds`` can mount its files and folders."""

    @property
    def address(self) -> str:
        """The engine's socket, as ``unix:///path``; empty if it has none."""

    def binds(self, container: str) -> tuple[Bind, ...]:
        """The binds that a container was created with. Raises EngineError if it is gone."""

    def check_source(self, source: str) -> None:
        """Check, without creating anything, that the engine can mount a file or folder.

        Args:
            source: an absolute path.

        Raises:
            EngineError: it cannot. An engine that does not check this beforehand raises nothing.
        """

    def mounted(self, container: str, paths: Sequence[str]) -> Sequence[Mounted | None] | None:
        """What is at paths of a running container, without running anything in it.

        Args:
            container: its id.
            paths: absolute paths in the container.

        Returns:
            What is at each path, None for nothing; None if this machine does not see the
            container's files, or not yet.

        Raises:
            EngineError: the container is not running.
        """


@runtime_checkable
class SupportsImport(Protocol):
    """Creates images from files, without a registry."""

    def import_image(self, tar: bytes, reference: str) -> str:
        """Create an image from a root filesystem.

        Args:
            tar: the root filesystem, as an uncompressed tar archive.
            reference: the name of the image, ``repository:tag``.

        Returns:
            The id of the image.

        Raises:
            EngineError: the engine refuses the archive.
        """

    def remove_older_images(self, reference: str) -> None:
        """Remove the older images of a name's repository that no container uses.

        Only those that ``import_image`` created: another user may have images by such a name.

        Args:
            reference: the name of the image that stays, ``repository:tag``.
        """


@runtime_checkable
class SupportsAttach(Protocol):
    """Connects a client to the main process of a container."""

    def attach(self, container: str, *, tty: bool, detach_keys: str = "") -> Stream:
        """Connect to the terminal or the three standard streams of the main process.

        Only output from now on is received; attach before the start to receive all of it.

        Args:
            container: the id of a container, running or not started yet.
            tty: as in its ``ContainerConfig``.
            detach_keys: the key sequence for detaching, ``ctrl-p,ctrl-q``; empty for the engine's
                default.

        Raises:
            EngineError: the container does not exist.
        """


@runtime_checkable
class SupportsDetachedExec(Protocol):
    """Runs processes without a client, identified by an id that any client can use."""

    def exec_detached(self, container: str, argv: Sequence[str]) -> str:
        """Start a background process in a running container; its output is discarded.

        Args:
            container: the id of a running container.
            argv: the command and its arguments.

        Returns:
            The exec id.

        Raises:
            EngineError: the container is not running.
        """

    def exec_exit_code(self, exec_id: str) -> int | None:
        """The exit code of an exec; None while it runs, 137 if its container was removed."""

    def resize(self, container: str, rows: int, columns: int, *, exec_id: str = "") -> None:
        """Set the size of a terminal in characters; sizes below 1 are ignored.

        Args:
            container: the id of a running container.
            rows, columns: the new size.
            exec_id: the exec whose terminal to resize; empty for the main process.
        """


@runtime_checkable
class SupportsLateNetwork(Protocol):
    """Connects a running container to its first network, so that it can start sooner."""

    def attach_network(self, container: str) -> None:
        """Connect a container that was started without a network to the network of sessions."""


@runtime_checkable
class SupportsPublishedPorts(Protocol):
    """Publishes ``ContainerConfig.ports``; ``start`` raises PortTaken if one is in use."""

    @property
    def publish_address(self) -> str:
        """The address of this machine on which ports are published."""


@runtime_checkable
class SupportsGpus(Protocol):
    """Gives containers GPUs (``gpus``, ``cdi_devices`` and ``devices`` of ``ContainerConfig``)."""

    def device_requests(self, container: str) -> tuple[DeviceRequest, ...]:
        """The GPUs that any container was created with, including those of other programs.

        Returns:
            One item per request, and one for all device files; empty if the container requested
            none or does not exist. A container's requests never change, so an engine may cache
            them.
        """


@runtime_checkable
class SupportsRecreate(Protocol):
    """Replaces a stopped container with one that has the same files and other GPUs."""

    def recreate(
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
        cdi_devices: Sequence[str] = (),
    ) -> str:
        """Create a container like a stopped one, from a snapshot of its files.

        The time it takes grows with the size of the files.

        Args:
            container: the id of the stopped container, which is not removed.
            image: the reference of the snapshot, ``repository:tag``.
            name: the name of the new container.
            labels: added to those of the old container, replacing equal keys.
            env: likewise; None removes a variable.
            binds: likewise, by target; None removes a bind.
            groups: supplementary group ids, in addition to those of the old container.
            gpus, devices, cdi_devices: replace the old ones, as in ``ContainerConfig``.

        Returns:
            The id of the new container, which is not started.

        Raises:
            EngineError: the engine refuses the snapshot or the container.
        """

    def rename(self, container: str, name: str) -> None:
        """Rename a container. Raises EngineError if the name is in use."""

    def remove_image(self, reference: str) -> None:
        """Remove an image. Idempotent. Raises EngineError while a container uses it."""


@runtime_checkable
class SupportsVolumes(Protocol):
    """Gives containers the volumes that their image declares, unless a bind has the same target."""

    def image_volumes(self, reference: str) -> tuple[str, ...]:
        """The paths at which an image declares volumes, sorted, as they are in the image.

        Args:
            reference: a reference or an id.

        Raises:
            ImageError: the engine does not have the image.
        """


@runtime_checkable
class SupportsImageNames(Protocol):
    """Lists the images that it has."""

    def image_names(self) -> Sequence[str]:
        """The names of all images, ``repository:tag``, sorted. Raises EngineUnavailable."""


@runtime_checkable
class SupportsLinks(Protocol):
    """Reads symbolic links in the files of a container that was not started."""

    @property
    def init(self) -> str:
        """The path of the engine's own init in a container, which runs before anything else."""

    def link_target(self, container: str, path: str) -> str | None:
        """The target of a symbolic link, resolved in the container.

        Args:
            container: the id of a container whose binds have their mount points, or that has
                none: some engines create missing ones, as root, for this request.
            path: an absolute path, in a folder without links above it.

        Returns:
            An absolute path; empty if there is no link at the path, None if there is nothing.
        """


@runtime_checkable
class SupportsLimits(Protocol):
    """Changes the limits of a container, whether it is running or not."""

    def update_limits(self, container: str, limits: ResourceLimits) -> None:
        """Change the limits of a container.

        Args:
            container: its id.
            limits: the new ones.

        Raises:
            EngineError: the container does not exist, or the engine refuses a limit.
        """


@runtime_checkable
class SupportsOomEvents(Protocol):
    """Records which processes the kernel killed because they were out of memory."""

    def out_of_memory(self, container: str, since: float, until: float | None = None) -> bool:
        """Whether a process of the container was killed because it was out of memory.

        The engine may learn of it after the process has ended, and is given a second from then.

        Args:
            container: its id.
            since: seconds since the epoch; earlier kills are ignored.
            until: when the process had ended, in seconds since the epoch; None for now.
        """


@runtime_checkable
class SupportsProcessList(Protocol):
    """Lists the processes of a container, without running anything in it."""

    def processes(self, container: str) -> Sequence[Process]:
        """The processes of a running container. Raises EngineError if it is not running."""


@runtime_checkable
class SupportsModeFilter(Protocol):
    """Applies ``ContainerConfig.denied_modes`` with a filter of system calls; others ignore it."""

    def why_no_mode_filter(self) -> str:
        """Why this engine ignores it too, in a few words; empty if it does not."""


_LOCAL = "use Docker or Podman on this machine"
# For the error if an engine lacks the capability: what it cannot do, and a hint
_REFUSALS: Mapping[type, tuple[str, str]] = {
    SupportsBinds: ("mount folders of this machine", _LOCAL),
    SupportsImport: ("run image: host", "name an image from a registry"),
    SupportsAttach: ("attach to a session's main process", "use mooring exec"),
    SupportsDetachedExec: ("run processes in the background of a session", _LOCAL),
    SupportsLateNetwork: ("connect a running container to a network", "start it with one"),
    SupportsPublishedPorts: ("publish ports", "leave ports out, and use mooring port-forward"),
    SupportsGpus: ("provide GPUs", "leave gpus out, or use another engine"),
    SupportsRecreate: ("change the GPUs of a stopped session", "wait until its own are free"),
    SupportsModeFilter: ("filter the system calls of containers", _LOCAL),
    SupportsImageNames: ("list images", "name one"),
    SupportsLinks: ("read the links of an image", "use Docker"),
    SupportsVolumes: ("give containers volumes", "use Docker"),
    SupportsOomEvents: ("report when a container runs out of memory", ""),
    SupportsLimits: ("change the limits of a session", "create it anew with them"),
    SupportsProcessList: ("list the processes of a session", "use Docker"),
}

Capability = TypeVar("Capability")


def require(engine: Engine, capability: type[Capability]) -> Capability:
    """Return the engine, typed as one that has a capability.

    Raises:
        NotSupported: the engine lacks the capability; the message names both.
    """
    if isinstance(engine, capability):
        return engine
    action, hint = _REFUSALS[capability]
    raise NotSupported(f"the engine ({engine.info().kind}) cannot {action}", hint)


def fitted(engine: Engine, config: ContainerConfig) -> ContainerConfig:
    """Adapt a container's config to the engine that is to create it.

    Args:
        engine: the engine that is to create the container.
        config: the requested config.

    Returns:
        The config, with the network enabled if the engine lacks SupportsLateNetwork.

    Raises:
        NotSupported: it has binds, ports or GPUs that the engine does not support.
    """
    for wanted, capability in (
        (config.binds, SupportsBinds),
        (config.ports, SupportsPublishedPorts),
        (config.gpus or config.devices, SupportsGpus),
    ):
        if wanted:
            require(engine, capability)
    return config if isinstance(engine, SupportsLateNetwork) else replace(config, network=True)
