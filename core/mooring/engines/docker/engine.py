"""The engine for Docker's API, over a Unix socket of this machine."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from mooring.engines.base import (
    Bind,
    Container,
    ContainerConfig,
    ContainerDetail,
    DeviceRequest,
    Process,
    PullProgress,
    ResourceLimits,
)
from mooring.engines.docker import cli_config, images, messages, networks, removal, seccomp, values
from mooring.engines.docker.client import NotFound
from mooring.engines.docker.connection import DockerConnection
from mooring.engines.docker.errors import collapsed
from mooring.engines.docker.streams import DockerStream
from mooring.engines.mounted import Mounted, mounted_at
from mooring.engines.streams import Demultiplexer
from mooring.errors import EngineError, ImageError, NotSupported, SessionTimeout

# How long after the end of a process the engine may learn that the kernel has killed it
_OOM_EVENT_S = 1.0
_NO_IMAGE = "mooring/none@sha256:" + 64 * "0"
REMEMBERED_MAX = 10_000
REMOVED_CODE = 137  # exit code of a process whose container was removed


class DockerEngine(DockerConnection):
    """Docker: ``mooring.engines.base.Engine`` and every capability.

    Args:
        address, timeout_s, pong, client: as for ``DockerConnection``.
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
            rows = self._api.get("containers", "json", query={"all": True, "filters": filters})
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
        with self._mapped("inspecting a container"):
            try:
                row: dict[str, Any] = self._api.get("containers", container, "json")
            except NotFound:
                return None
        return row

    def binds(self, container: str) -> tuple[Bind, ...]:
        return values.binds_of(self._existing(container))

    def check_source(self, source: str) -> None:
        mount = values.mount_of(Bind(source, "/mnt"), None)
        body = {"Image": _NO_IMAGE, "HostConfig": {"Mounts": [mount]}}
        # Docker checks the mounts first, and there is no such image
        with self._mapped("checking a mount"), contextlib.suppress(NotFound):
            self._api.post("containers", "create", body=body)

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
        self._refuse(config)
        with self._mapped("creating a container"):
            body = values.container_body(config)
            body["Env"] = values.env_strings(cli_config.proxies(self.address)) + body["Env"]
            body["HostConfig"] = self._host_config(config)
            try:
                return self._created(config.name, body)
            except NotFound as error:
                if not messages.IMAGE.search(error.why):
                    raise
                missing = messages.NO_IMAGE.search(error.why)
                raise ImageError(
                    f"No such image: {config.image}" if missing else collapsed(error.why),
                    "check its name, or pull it first",
                ) from error

    def _created(self, name: str, body: Mapping[str, Any]) -> str:
        """Create a container, and return its id."""
        made = self._api.post("containers", "create", query={"name": name}, body=body)
        return str(made["Id"])

    def _refuse(self, config: ContainerConfig) -> None:
        """Raise NotSupported for a config that the engine would ignore or apply incorrectly."""
        if self._is_rootless():
            raise NotSupported(
                "rootless Docker is not supported: its user mapping is unknown to this version",
                "use Docker with root, or rootless Podman",
            )

    def _host_config(self, config: ContainerConfig) -> dict[str, Any]:
        """The host configuration of a container, as the API's ``HostConfig``."""
        host = values.host_body(config, self.propagation, self._seccomp(config))
        network = self._network_mode() if config.network else "none"
        host["NetworkMode"] = network or "default"
        host["PortBindings"] = values.port_bindings(config.ports, self.publish_address)
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
            row = self._api.get("containers", container, "json")
            network = self._network_mode()
            images.snapshot(self._api, container, image)
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
            return self._created(name, config | changes)

    def _groups(self, host: Mapping[str, Any], groups: Sequence[int]) -> dict[str, Any]:
        """The key of a container's host configuration that adds supplementary groups."""
        if not groups:
            return {}
        return {"GroupAdd": sorted({*(host.get("GroupAdd") or []), *map(str, groups)})}

    def rename(self, container: str, name: str) -> None:
        with self._mapped("renaming the container"):
            self._api.send("POST", "containers", container, "rename", query={"name": name})

    def start(self, container: str) -> None:
        try:
            with self._mapped("starting the container"):
                self._api.send("POST", "containers", container, "start")
        except EngineError as error:
            if not networks.is_gone(error.message):
                raise
            with self._mapped("connecting the container to its network"):
                networks.reattach(self._api, container)
            with self._mapped("starting the container"):
                self._api.send("POST", "containers", container, "start")

    def attach_network(self, container: str) -> None:
        with self._mapped("connecting the container to its network"):
            networks.attach(self._api, container)

    def _network_mode(self) -> str | None:
        """The network of a container that has one from its start; None for the default."""
        with self._mapped("asking for the network of sessions"):
            return networks.ensure(self._api)

    def stop(self, container: str, grace_s: float) -> None:
        whole_s = max(0, round(grace_s))
        path, query = ("containers", container, "stop"), {"t": whole_s}
        limit_s = self._timeout_s + whole_s
        with self._mapped("stopping the container", limit_s), contextlib.suppress(NotFound):
            self._api.send("POST", *path, query=query, timeout_s=limit_s)

    def remove(self, container: str) -> None:
        with self._mapped("removing the container", removal.TIMEOUT_S):
            removal.remove_container(self._api, container)

    def wait(self, container: str, timeout_s: float | None = None) -> int:
        limit_s = math.inf if timeout_s is None else timeout_s
        with (
            self._mapped("waiting for the container to exit"),
            # its head says that the engine has begun to wait
            self._api.open("POST", "containers", container, "wait") as response,
        ):
            try:
                reply = response.document(limit_s)
            except TimeoutError as error:
                raise SessionTimeout(f"still running after {limit_s:g} s") from error
            return int(reply["StatusCode"])

    def update_limits(self, container: str, limits: ResourceLimits) -> None:
        with self._mapped("changing the limits of the container"):
            body = values.limits_body(limits)
            self._api.send("POST", "containers", container, "update", body=body)

    def out_of_memory(self, container: str, since: float, until: float | None = None) -> bool:
        ended = time.time() if until is None else until
        query = {
            "since": f"{since:.9f}",
            "until": f"{ended + _OOM_EVENT_S:.9f}",
            "filters": {"container": [container], "event": ["oom"]},
        }
        with (
            self._mapped("asking for the engine's events"),
            self._api.open("GET", "events", query=query) as response,
        ):
            return any(response.chunks())

    # processes

    def processes(self, container: str) -> Sequence[Process]:
        with self._mapped("listing the processes of a container"):
            query = {"ps_args": "-eo pid,stat,args"}
            return values.processes_of(
                self._api.get("containers", container, "top", query=query)["Processes"]
            )

    def attach(self, container: str, *, tty: bool, detach_keys: str = "") -> DockerStream:
        query = dict.fromkeys(("stdin", "stdout", "stderr", "stream"), 1)
        keys = detach_keys or cli_config.detach_keys() or None
        with self._mapped("attaching"):
            connection = self._api.hijack(
                "containers", container, "attach", query={**query, "detachKeys": keys}
            )
        return DockerStream(
            connection,
            tty,
            resize=partial(self.resize, container),
            exit_code=partial(self._main_exit_code, container),
        )

    def _main_exit_code(self, container: str) -> int | None:
        detail = self.inspect(container)
        return REMOVED_CODE if detail is None else detail.exit_code

    def logs(self, container: str, *, tty: bool, follow: bool, tail: int | None) -> Iterator[bytes]:
        with self._mapped("reading the container's output"):
            is_terminal = self._existing(container)["Config"].get("Tty", tty)
            query = {"stdout": 1, "stderr": 1, "follow": follow, "tail": tail or "all"}
            with self._api.open("GET", "containers", container, "logs", query=query) as response:
                frames = Demultiplexer()
                for chunk in response.chunks(math.inf if follow else None):
                    if is_terminal:
                        yield chunk
                    else:
                        yield from (bytes(piece) for _, piece in frames.feed(chunk))

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
            body = {
                "Cmd": list(argv),
                "Env": values.env_strings(env or {}),
                "Tty": tty,
                "AttachStdin": stdin,
                "AttachStdout": True,
                "AttachStderr": True,
                "DetachKeys": detach_keys or cli_config.detach_keys(),
            }
            if workdir is not None:
                body["WorkingDir"] = workdir
            exec_id = self._api.post("containers", container, "exec", body=body)["Id"]
            connection = self._api.hijack(
                "exec", exec_id, "start", body={"Tty": tty, "Detach": False}
            )
        return DockerStream(
            connection,
            tty,
            exec_id,
            resize=partial(self.resize, container, exec_id=exec_id),
            exit_code=partial(self.exec_exit_code, exec_id),
        )

    def exec_detached(self, container: str, argv: Sequence[str]) -> str:
        with self._mapped("starting a process in the container"):
            body = {"Cmd": list(argv)}
            exec_id = self._api.post("containers", container, "exec", body=body)["Id"]
            self._api.send("POST", "exec", exec_id, "start", body={"Tty": False, "Detach": True})
        return str(exec_id)

    def exec_exit_code(self, exec_id: str) -> int | None:
        with self._mapped("asking for the exit code of a process"):
            try:
                state = self._api.get("exec", exec_id, "json")
            except NotFound:  # the container was removed, with its processes
                return REMOVED_CODE
        return None if state["Running"] else state["ExitCode"]

    def resize(self, container: str, rows: int, columns: int, *, exec_id: str = "") -> None:
        if rows < 1 or columns < 1:
            return
        with self._mapped("resizing the terminal"):
            whose = ("exec", exec_id) if exec_id else ("containers", container)
            self._api.send("POST", *whose, "resize", query={"h": rows, "w": columns})

    # images

    def image_id(self, reference: str) -> str | None:
        with self._mapped("inspecting the image"):
            try:
                return str(self._api.get("images", reference, "json")["Id"])
            except NotFound:
                return None

    def image_names(self) -> Sequence[str]:
        with self._mapped("listing images"):
            return images.names_of(self._api.get("images", "json"))

    def link_target(self, container: str, path: str) -> str | None:
        with self._mapped("looking into the image"):
            return images.link_target(self._api, container, path)

    def image_volumes(self, reference: str) -> tuple[str, ...]:
        with self._mapped("inspecting the image"):
            try:
                row = self._api.get("images", reference, "json")
            except NotFound as error:
                raise ImageError(f"No such image: {reference}", "pull it first") from error
            return tuple(sorted((row.get("Config") or {}).get("Volumes") or {}))

    def remove_image(self, reference: str) -> None:
        with self._mapped("removing an image", removal.TIMEOUT_S):
            removal.remove_image(self._api, reference)

    def pull(self, reference: str) -> Iterator[PullProgress]:
        with self._mapped("pulling the image"):
            yield from images.pull(self._api, reference)

    def import_image(self, tar: bytes, reference: str) -> str:
        with self._mapped("importing an image"):
            made = images.import_tar(self._api, tar, reference)
            return self._imported(made, reference)

    def remove_older_images(self, reference: str) -> None:
        with self._mapped("removing older images"):
            images.remove_older(self._api, reference)

    def _imported(self, made: str, reference: str) -> str:
        """The id of an image that was just imported; ``made`` is what the engine says it is."""
        return str(self._api.get("images", reference, "json")["Id"])
