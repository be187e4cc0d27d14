"""The engine for Docker's API, over a Unix socket of this machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from mooring.engines.base import (
    Bind,
    Container,
    ContainerConfig,
    ContainerDetail,
    DeviceRequest,
    Process,
    PullProgress,
)
from mooring.engines.docker import images, networks, seccomp, values
from mooring.engines.docker.client import expecting_stream
from mooring.engines.docker.connection import DockerConnection
from mooring.engines.docker.streams import DockerStream
from mooring.engines.mounted import Mounted, mounted_at
from mooring.errors import EngineError, ImageError, NotSupported, SessionTimeout

if TYPE_CHECKING:
    pass

REMEMBERED_MAX = 10_000
REMOVED_CODE = 137  # exit code of a process whose container was removed


class DockerEngine(DockerConnection):
    """Docker: ``mooring.engines.base.Engine`` and every capability.

    Args:
        address, timeout_s, version, client: as for ``DockerConnection``.
    """

    publish_address = "127.0.0.1"
    alive_states: tuple[str, ...] = ("running", "paused", "restarting")
    propagation: str | None = "rprivate"
    init = "/sbin/docker-init"

    @cached_property
    def _requests(self) -> dict[str, tuple[DeviceRequest, ...]]:
        return {}

    # containers

    def list(self, labels: Mapping[str, str], *, alive: bool = False) -> list[Container]:
        filters: dict[str, list[str]] = {
            "label": [f"{key}={value}" if value else key for key, value in labels.items()]
        }
        if alive:
            filters["status"] = list(self.alive_states)
        with self._mapped("listing containers"):
            rows = self._api.containers(all=True, filters=filters)
        return [values.container_of(row) for row in rows]

    def inspect(self, container: str) -> ContainerDetail | None:
        row = self._inspected(container)
        return None if row is None else values.detail_of(row)

    def device_requests(self, container: str) -> tuple[DeviceRequest, ...]:
        requests = self._requests.get(container)
        if requests is None:  # cached: they never change, and a queue polls several times a second
            row = self._inspected(container)
            if row is None:
                return ()
            if len(self._requests) >= REMEMBERED_MAX:
                self._requests.clear()
            requests = self._requests[container] = values.device_requests_of(row)
        return requests

    def _inspected(self, container: str) -> dict[str, Any] | None:
        from docker.errors import NotFound

        with self._mapped("inspecting a container"):
            try:
                row: dict[str, Any] = self._api.inspect_container(container)
            except NotFound:
                return None
        return row

    def binds(self, container: str) -> tuple[Bind, ...]:
        return values.binds_of(self._existing(container))

    def mounted(self, container: str, paths: Sequence[str]) -> Sequence[Mounted | None] | None:
        pid = self._existing(container)["State"].get("Pid")
        if not pid:
            raise EngineError("the container is not running")
        return mounted_at(pid, paths)

    def _existing(self, container: str) -> dict[str, Any]:
        row = self._inspected(container)
        if row is None:
            raise EngineError(f"No such container: {container}")
        return row

    def create(self, config: ContainerConfig) -> str:
        from docker.errors import ImageNotFound

        self._refuse(config)
        with self._mapped("creating a container"):
            try:
                reply = self._api.create_container(
                    **values.container_options(config), host_config=self._host_config(config)
                )
            except ImageNotFound as error:
                raise ImageError(
                    f"No such image: {config.image}", "check its name, or pull it first"
                ) from error
        return str(reply["Id"])

    def _refuse(self, config: ContainerConfig) -> None:
        """Raise NotSupported for a config that the engine would ignore or apply incorrectly."""
        if self.info().rootless:
            raise NotSupported(
                "rootless Docker is not supported: its user mapping is unknown to this version",
                "use Docker with root, or rootless Podman",
            )

    def _host_config(self, config: ContainerConfig) -> dict[str, Any]:
        """The host configuration of a container, as the API's ``HostConfig``."""
        host: dict[str, Any] = self._api.create_host_config(
            mounts=[values.mount_of(bind, self.propagation) for bind in config.binds],
            init=True,
            network_mode=self._network_mode() if config.network else "none",
            port_bindings=values.port_bindings(config.ports, self.publish_address),
            **values.host_options(config, self._seccomp(config)),
        )
        return host | self._gpus(config.gpus, config.devices, config.cdi_devices)

    def _seccomp(self, config: ContainerConfig) -> str:
        """The seccomp profile of a container; empty for the engine's default."""
        if not config.denied_modes or self.why_no_mode_filter():
            return ""
        return seccomp.profile(config.denied_modes)

    def why_no_mode_filter(self) -> str:
        return seccomp.why_not(self._daemon())

    def _gpus(
        self, uuids: Sequence[str], devices: Sequence[str], cdi_devices: Sequence[str]
    ) -> dict[str, Any]:
        """The keys of a container's host configuration that give it GPUs."""
        host: dict[str, Any] = {}
        if uuids:
            host["DeviceRequests"] = [self._device_request(uuids, cdi_devices)]
        if devices:
            host["Devices"] = values.device_nodes(devices)
        return host

    def _device_request(self, uuids: Sequence[str], cdi_devices: Sequence[str]) -> dict[str, Any]:
        """A device request with CDI names if given and supported by the engine, else with UUIDs."""
        if cdi_devices and self._has_cdi():
            return {"Driver": "cdi", "DeviceIDs": list(cdi_devices)}
        return {"Driver": "", "DeviceIDs": list(uuids), "Capabilities": [["gpu"]]}

    def _has_cdi(self) -> bool:
        return bool(self._daemon().get("CDISpecDirs"))

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
        with self._mapped("recreating the container"):
            row = self._api.inspect_container(container)
            network = self._network_mode()
            images.snapshot(self._api, self.address, container, image)
            config, host = row["Config"], row["HostConfig"]
            added = [values.mount_of(bind, self.propagation) for bind in binds.values() if bind]
            host |= values.changed_mounts(host, binds, added) | self._groups(host, groups)
            host |= {"DeviceRequests": None, "Devices": None}
            host |= self._gpus(gpus, devices, cdi_devices)
            if any(mount.get("Type") == "volume" for mount in row.get("Mounts") or []):
                host["VolumesFrom"] = [container]  # volumes of the image, which a commit omits
            if network:
                host["NetworkMode"] = network  # was "none" if it was connected after its start
            changes = {"Image": image, "HostConfig": host}
            changes |= values.changed_config(config, labels, env)
            reply = self._api.create_container_from_config(config | changes, name)
        return str(reply["Id"])

    def _groups(self, host: Mapping[str, Any], groups: Sequence[int]) -> dict[str, Any]:
        """The key of a container's host configuration that adds supplementary groups."""
        if not groups:
            return {}
        return {"GroupAdd": sorted({*(host.get("GroupAdd") or []), *map(str, groups)})}

    def rename(self, container: str, name: str) -> None:
        with self._mapped("renaming the container"):
            self._api.rename(container, name)

    def start(self, container: str) -> None:
        try:
            with self._mapped("starting the container"):
                self._api.start(container)
        except EngineError as error:
            if not networks.is_gone(error.message):
                raise
            with self._mapped("connecting the container to its network"):
                networks.reattach(self._api, container)
            with self._mapped("starting the container"):
                self._api.start(container)

    def attach_network(self, container: str) -> None:
        with self._mapped("connecting the container to its network"):
            networks.attach(self._api, container)

    def _network_mode(self) -> str | None:
        """The network of a container that has one from its start; None for the default."""
        with self._mapped("asking for the network of sessions"):
            return networks.ensure(self._api)

    def stop(self, container: str, grace_s: float) -> None:
        from docker.errors import NotFound

        with self._mapped("stopping the container"), contextlib.suppress(NotFound):
            self._api.stop(container, timeout=max(0, round(grace_s)))

    def remove(self, container: str) -> None:
        from docker.errors import APIError, NotFound

        with self._mapped("removing the container"), contextlib.suppress(NotFound):
            try:
                self._api.remove_container(container, force=True, v=True)
            except APIError as error:
                # 409: another client is already removing it
                if error.status_code != 409 or "already in progress" not in str(error.explanation):
                    raise

    def wait(self, container: str, timeout_s: float | None = None) -> int:
        import requests

        with self._mapped("waiting for the container to exit"):
            try:
                # The SDK treats None as its default timeout, so "no limit" must be a number; the
                # transport does not accept a timeout of zero
                limit_s = 10**9 if timeout_s is None else max(timeout_s, 0.01)
                return int(self._api.wait(container, timeout=limit_s)["StatusCode"])
            except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError) as error:
                if timeout_s is None or "timed out" not in str(error).lower():
                    raise
                raise SessionTimeout(f"still running after {timeout_s:g} s") from error

    def out_of_memory(self, container: str, since: float) -> bool:
        filters = {"container": container, "event": "oom"}
        with self._mapped("asking for the engine's events"):
            events = self._api.events(
                since=f"{since:.9f}", until=f"{time.time():.9f}", filters=filters
            )
            with contextlib.closing(events):
                return any(True for _ in events)

    # processes

    def processes(self, container: str) -> Sequence[Process]:
        with self._mapped("listing the processes of a container"):
            rows = self._api.top(container, ps_args="-eo pid,stat,args")["Processes"]
        return values.processes_of(rows)

    def attach(self, container: str, *, tty: bool, detach_keys: str = "") -> DockerStream:
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        with self._mapped("attaching"), expecting_stream():
            raw = self._api.attach_socket(
                container, params=params | ({"detachKeys": detach_keys} if detach_keys else {})
            )
        return DockerStream(
            raw,
            tty,
            resize=partial(self.resize, container),
            exit_code=partial(self._main_exit_code, container),
        )

    def _main_exit_code(self, container: str) -> int | None:
        detail = self.inspect(container)
        return REMOVED_CODE if detail is None else detail.exit_code

    def logs(self, container: str, *, tty: bool, follow: bool, tail: int | None) -> Iterator[bytes]:
        with self._mapped("reading the container's output"):
            # the SDK's own request happens with the log's connection open, leaked if it fails
            self._api.inspect_container(container)
            for chunk in self._api.logs(
                container, stdout=True, stderr=True, stream=True, follow=follow, tail=tail or "all"
            ):
                # the SDK decodes a terminal's output if the response specifies an encoding
                yield chunk.encode() if isinstance(chunk, str) else chunk

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
    ) -> DockerStream:
        with self._mapped("starting a process in the container"):
            exec_id = self._api.exec_create(
                container,
                list(argv),
                environment=dict(env or {}),
                workdir=workdir,
                tty=tty,
                stdin=stdin,
                detach_keys=detach_keys or None,
            )["Id"]
            with expecting_stream():
                raw = self._api.exec_start(exec_id, tty=tty, socket=True)
        return DockerStream(
            raw,
            tty,
            exec_id,
            resize=partial(self.resize, container, exec_id=exec_id),
            exit_code=partial(self.exec_exit_code, exec_id),
        )

    def exec_detached(self, container: str, argv: Sequence[str]) -> str:
        with self._mapped("starting a process in the container"):
            exec_id = self._api.exec_create(container, list(argv), stdout=False, stderr=False)["Id"]
            self._api.exec_start(exec_id, detach=True)
        return str(exec_id)

    def exec_exit_code(self, exec_id: str) -> int | None:
        from docker.errors import NotFound

        with self._mapped("asking for the exit code of a process"):
            try:
                state = self._api.exec_inspect(exec_id)
            except NotFound:  # the container was removed, with its processes
                return REMOVED_CODE
        return None if state["Running"] else state["ExitCode"]

    def resize(self, container: str, rows: int, columns: int, *, exec_id: str = "") -> None:
        if rows < 1 or columns < 1:
            return
        with self._mapped("resizing the terminal"):
            if exec_id:
                self._api.exec_resize(exec_id, height=rows, width=columns)
            else:
                self._api.resize(container, height=rows, width=columns)

    # images

    def image_id(self, reference: str) -> str | None:
        from docker.errors import NotFound

        with self._mapped("inspecting the image"):
            try:
                return str(self._api.inspect_image(reference)["Id"])
            except NotFound:
                return None

    def link_target(self, container: str, path: str) -> str | None:
        with self._mapped("looking into the image"):
            return images.link_target(self._api, container, path)

    def image_volumes(self, reference: str) -> tuple[str, ...]:
        from docker.errors import NotFound

        with self._mapped("inspecting the image"):
            try:
                row = self._api.inspect_image(reference)
            except NotFound as error:
                raise ImageError(f"No such image: {reference}", "pull it first") from error
        return tuple(sorted((row.get("Config") or {}).get("Volumes") or {}))

    def remove_image(self, reference: str) -> None:
        from docker.errors import NotFound

        with self._mapped("removing an image"), contextlib.suppress(NotFound):
            self._api.remove_image(reference)

    def pull(self, reference: str) -> Iterator[PullProgress]:
        with self._mapped("pulling the image"):
            yield from images.pull(self._api, reference)

    def import_image(self, tar: bytes, reference: str) -> str:
        repository, _, tag = reference.rpartition(":")
        with self._mapped("importing an image"):
            reply = self._api.import_image_from_data(tar, repository=repository, tag=tag)
            return self._imported(str(reply), repository, tag)

    def _imported(self, reply: str, repository: str, tag: str) -> str:
        """The id of an image that was just imported."""
        return str(self._api.inspect_image(f"{repository}:{tag}")["Id"])
