"""Docker, through its SDK; Podman's Docker-compatible socket works the same way.

The SDK is imported when the first request is made: it costs 0.1 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring.engines.base import (
    Bind,
    Container,
    ContainerConfig,
    ContainerDetail,
    DeviceRequest,
    EngineInfo,
    PullProgress,
)
from mooring.engines.docker_errors import mapped, one_line
from mooring.engines.docker_streams import (
    DockerStream,
    asking_for_a_stream,
    leave_streams_alone,
)
from mooring.errors import (
    EngineError,
    ImageError,
    NotSupported,
    PortTaken,
    SessionTimeout,
)
from mooring.ports import LOOPBACK

if TYPE_CHECKING:
    from docker.api.client import APIClient

REQUEST_TIMEOUT_S = 30.0
COMMIT_TIMEOUT_S = 3600.0
API_VERSION = "1.41"  # Docker 20.10's, which is all that is needed
MOST_REMEMBERED = 10_000
DOCKER_SOCKET = "/var/run/docker.sock"


def local_address(environ: Mapping[str, str]) -> str:
    """The address of this machine's engine, as a URL.

    Args:
        environ: ``DOCKER_HOST`` wins; else Docker's socket if it is there; else the socket of
            rootless Podman if that is; else Docker's, so that errors name it.

    Raises:
        NotSupported: ``DOCKER_HOST`` names an engine on another machine.
    """
    host = environ.get("DOCKER_HOST", "")
    if host:
        if not host.startswith("unix://"):
            raise NotSupported(
                f"DOCKER_HOST is {host}: this version has no engines on other machines",
                "unset DOCKER_HOST, or set it to unix:///path/to/docker.sock",
            )
        return host
    if not os.path.exists(DOCKER_SOCKET):
        runtime = environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        podman = Path(runtime) / "podman" / "podman.sock"
        if podman.exists():
            return f"unix://{podman}"
    return f"unix://{DOCKER_SOCKET}"


class DockerEngine:
    """``mooring.engines.base.Engine`` over a Unix socket.

    Args:
        address: ``unix:///path``.
        timeout_s: seconds that a plain request may take before the engine counts as unavailable.
    """

    def __init__(self, address: str, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._client: APIClient | None = None
        self._version: dict[str, Any] = {}
        self._info: EngineInfo | None = None
        self._requests: dict[str, tuple[DeviceRequest, ...]] = {}

    @property
    def _api(self) -> APIClient:
        if self._client is None:
            from docker.api.client import APIClient

            client = APIClient(
                base_url=self.address, version=API_VERSION, timeout=self._timeout_s, num_pools=16
            )
            leave_streams_alone(client)
            self._version = client.version(api_version=False)
            oldest = self._version.get("MinAPIVersion") or API_VERSION
            if _numbers(oldest) > _numbers(API_VERSION):
                client._version = oldest  # Docker 29 and later have let go of ours
            self._client = client
        return self._client

    def close(self) -> None:
        """Give its connections back; the next request makes new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _mapped(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return mapped(doing, self.address, self._timeout_s)

    # engine

    def info(self) -> EngineInfo:
        if self._info is None:
            with self._mapped("asking the engine for its version"):
                client = self._api
                said = self._version or client.version(api_version=False)
            parts = [part.get("Name", "") for part in said.get("Components") or []]
            podman = any("podman" in part.lower() for part in parts)
            self._info = EngineInfo(
                kind="podman" if podman else "docker",
                version=said.get("Version", ""),
                api_version=said.get("ApiVersion", ""),
                os=said.get("Os", ""),
                rootless=os.getuid() != 0 if podman else self._is_rootless(),
            )
        return self._info

    def _is_rootless(self) -> bool:
        if self.address == f"unix://{DOCKER_SOCKET}":
            return False
        with self._mapped("asking the engine for its security options"):
            options = self._api.info().get("SecurityOptions") or []
        return any("rootless" in str(option) for option in options)

    # containers

    def list(self, labels: Mapping[str, str], *, alive: bool = False) -> list[Container]:
        filters: dict[str, list[str]] = {
            "label": [f"{key}={value}" if value else key for key, value in labels.items()]
        }
        if alive:  # Podman knows no such state as the last, and refuses to hear of it
            podman = self.info().kind == "podman"
            filters["status"] = ["running", "paused"] + ([] if podman else ["restarting"])
        with self._mapped("listing containers"):
            rows = self._api.containers(all=True, filters=filters)
        return [
            Container(
                id=row["Id"],
                name=row["Names"][0].lstrip("/") if row.get("Names") else "",
                image=row.get("Image", ""),
                state=row.get("State", "unknown").lower(),
                labels=row.get("Labels") or {},
                created_at=float(row.get("Created") or 0),
                exit_code=_exit_code_in(row.get("Status", "")),
                ports=tuple(
                    (port["PublicPort"], port["PrivatePort"])
                    for port in row.get("Ports") or []
                    if port.get("PublicPort") and port.get("Type") == "tcp"
                ),
            )
            for row in rows
        ]

    def inspect(self, container: str) -> ContainerDetail | None:
        from docker.errors import NotFound

        with self._mapped("inspecting a container"):
            try:
                row = self._api.inspect_container(container)
            except NotFound:
                return None
        state = row["State"]
        return ContainerDetail(
            id=row["Id"],
            state=state["Status"],
            exit_code=state["ExitCode"] if state["Status"] in ("exited", "dead") else None,
            oom_killed=bool(state.get("OOMKilled")),
            started_at=_epoch(state.get("StartedAt", "")),
            finished_at=_epoch(state.get("FinishedAt", "")),
        )

    def device_requests(self, container: str) -> tuple[DeviceRequest, ...]:
        from docker.errors import NotFound

        known = self._requests.get(container)
        if known is not None:  # who waits asks again and again, and none ever changes
            return known
        with self._mapped("inspecting a container"):
            try:
                row = self._api.inspect_container(container)
            except NotFound:
                return ()
        host = row.get("HostConfig") or {}
        found = [
            DeviceRequest(int(said.get("Count") or 0), tuple(said.get("DeviceIDs") or ()))
            for said in host.get("DeviceRequests") or []
        ]
        if host.get("Runtime") == "nvidia":
            pairs = (pair.partition("=") for pair in row.get("Config", {}).get("Env") or [])
            visible = {key: value for key, _, value in pairs}.get("NVIDIA_VISIBLE_DEVICES", "")
            if visible not in ("", "void", "none"):
                found.append(DeviceRequest(0, tuple(visible.split(","))))
        if len(self._requests) >= MOST_REMEMBERED:
            self._requests.clear()
        self._requests[container] = tuple(found)
        return tuple(found)

    def create(self, config: ContainerConfig) -> str:
        from docker.errors import ImageNotFound

        podman = self.info().kind == "podman"
        if self.info().rootless and not podman:
            raise NotSupported(
                "rootless Docker maps users in a way that this version does not know",
                "use Docker itself, or rootless Podman",
            )
        mounts = [self._mount(bind) for bind in config.binds]
        # Podman gives a running container no first network: there it has one from the start
        network = config.network or podman
        with self._mapped("creating a container"):
            host: dict[str, Any] = self._api.create_host_config(
                mounts=mounts,
                init=True,
                network_mode=None if network else "none",
                cap_drop=["ALL"],
                cap_add=list(config.capabilities) or None,
                security_opt=["no-new-privileges"],
                cgroupns="private",  # Docker's default on cgroup v1 is the machine's own
                group_add=[str(gid) for gid in config.groups] or None,
                mem_limit=config.memory_bytes,
                memswap_limit=config.memory_bytes,
                nano_cpus=int(config.cpus * 1e9) if config.cpus else None,
                shm_size=config.shm_bytes,
                port_bindings=_bindings(config.ports),
                log_config={"Type": "json-file", "Config": {"max-size": "16m", "max-file": "2"}},
            )
            host |= self._gpus(config.gpus, config.devices)
            if podman and self.info().rootless:
                self._refuse_limits(config)
                host["UsernsMode"] = "keep-id"
                del host["LogConfig"]
                host.pop("GroupAdd", None)
            try:
                made = self._api.create_container(
                    image=config.image,
                    command=list(config.argv),
                    entrypoint=[],
                    name=config.name,
                    hostname=config.hostname,
                    user=config.user,
                    environment=dict(config.env),
                    labels=dict(config.labels),
                    working_dir=config.workdir,
                    tty=config.tty,
                    stdin_open=config.open_stdin,
                    ports=sorted({there for _, there in config.ports}) or None,
                    host_config=host,
                )
            except ImageNotFound as error:
                raise ImageError(
                    f"No such image: {config.image}", "check its name, or pull it first"
                ) from error
        return str(made["Id"])

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
        with self._mapped("making the container anew"):
            row = self._api.inspect_container(container)
            self._commit(container, image)
            config, host = row["Config"], row["HostConfig"]
            pairs = {pair.partition("=")[0]: pair for pair in config["Env"] or []}
            for key, value in env.items():
                if value is not None:
                    pairs[key] = f"{key}={value}"
                elif key in pairs:
                    pairs[key] = key  # taken away, also where the image of the files has it
            mounts = [one for one in host.get("Mounts") or [] if one["Target"] not in binds]
            host["Mounts"] = mounts + [self._mount(bind) for bind in binds.values() if bind]
            if host.get("Binds"):  # Podman tells of them so
                host["Binds"] = [one for one in host["Binds"] if one.split(":")[1] not in binds]
            if groups and not (self.info().kind == "podman" and self.info().rootless):
                own = host.get("GroupAdd") or []
                host["GroupAdd"] = sorted({*own, *map(str, groups)})
            host |= {"DeviceRequests": None, "Devices": None} | self._gpus(gpus, devices)
            if any(mount.get("Type") == "volume" for mount in row.get("Mounts") or []):
                host["VolumesFrom"] = [container]  # the image's own, which no commit holds
            if host.get("NetworkMode") == "none":  # it has got one since it was created
                host["NetworkMode"] = "default"
            changes = {
                "Image": image,
                "Labels": config["Labels"] | labels,
                "Env": list(pairs.values()),
                "HostConfig": host,
            }
            made = self._api.create_container_from_config(config | changes, name)
        return str(made["Id"])

    def _commit(self, container: str, image: str) -> None:
        """Keep a container's files as an image: no plain request, it may copy gigabytes."""
        from docker.api.client import APIClient

        repository, _, tag = image.rpartition(":")
        version = self._api.api_version
        patient = APIClient(base_url=self.address, version=version, timeout=COMMIT_TIMEOUT_S)
        with contextlib.closing(patient):
            patient.commit(container, repository=repository, tag=tag)

    def rename(self, container: str, name: str) -> None:
        with self._mapped("renaming the container"):
            self._api.rename(container, name)

    def remove_image(self, reference: str) -> None:
        from docker.errors import ImageNotFound

        with self._mapped("removing an image"), contextlib.suppress(ImageNotFound):
            self._api.remove_image(reference)

    def _mount(self, bind: Bind) -> dict[str, Any]:
        from docker.types import Mount

        mount: dict[str, Any] = Mount(
            target=bind.target,
            source=bind.source,
            type="bind",
            read_only=bind.read_only,
            # Podman's default too, and naming it makes its mounts not recursive: the kernel
            # refuses that for a home with mounts in it, such as Podman's own storage
            propagation=None if self.info().kind == "podman" else "rprivate",
        )
        return mount

    def _gpus(self, uuids: Sequence[str], devices: Sequence[str]) -> dict[str, Any]:
        """The part of a container's host configuration that gives it GPUs."""
        nodes = [
            {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rw"}
            for path in devices
        ]
        return ({"DeviceRequests": [self._device_request(uuids)]} if uuids else {}) | (
            {"Devices": nodes} if nodes else {}
        )

    def _device_request(self, uuids: Sequence[str]) -> dict[str, Any]:
        """By CDI where the engine has it and the devices are described, else NVIDIA's own way."""
        from mooring.gpus.inventory import CDI_KIND, cdi_names

        described = cdi_names()
        podman = self.info().kind == "podman"
        if podman and int(self.info().version.partition(".")[0] or 0) < 5:
            raise NotSupported(
                "Podman before version 5 gives no GPUs through its Docker-compatible socket",
                "use Docker, or a newer Podman",
            )
        if described.issuperset(uuids) and (podman or self._api.info().get("CDISpecDirs")):
            names = [f"{CDI_KIND}={uuid}" for uuid in uuids]
            return {"Driver": "cdi", "DeviceIDs": names}
        return {"Driver": "", "DeviceIDs": list(uuids), "Capabilities": [["gpu"]]}

    def _refuse_limits(self, config: ContainerConfig) -> None:
        """Without root, cgroup v1 gives no limits, and Podman would ignore them in silence."""
        asked = {"memory": config.memory_bytes, "cpus": config.cpus}
        limits = [name for name, value in asked.items() if value]
        if limits and str(self._api.info().get("CgroupVersion")) == "1":
            raise NotSupported(
                f"{' and '.join(limits)}: rootless Podman cannot limit anything on cgroup v1",
                "leave it out, use Docker, or boot this machine with cgroup v2",
            )

    def start(self, container: str) -> None:
        try:
            with self._mapped("starting the container"):
                self._api.start(container)
        except EngineError as error:
            found = _TAKEN.search(error.message)
            if found is None:
                raise
            port = int(found.group(1))
            raise PortTaken(f"port {port} of this machine is taken", port=port) from error

    def attach_network(self, container: str) -> None:
        if self.info().kind == "podman":
            return
        with self._mapped("giving the container its network"):
            self._api.disconnect_container_from_network(container, "none")
            self._api.connect_container_to_network(container, "bridge")

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
                # 409: somebody else is removing it at this moment, which is as good
                if error.status_code != 409 or "already in progress" not in str(error.explanation):
                    raise

    def wait(self, container: str, timeout_s: float | None = None) -> int:
        import requests

        with self._mapped("waiting for the container to end"):
            try:
                # The SDK takes None for "its own default", so "for ever" is said in seconds;
                # no time at all is no timeout that the transport takes
                limit_s = 10**9 if timeout_s is None else max(timeout_s, 0.01)
                return int(self._api.wait(container, timeout=limit_s)["StatusCode"])
            except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError) as error:
                if timeout_s is None or "timed out" not in str(error).lower():
                    raise
                raise SessionTimeout(f"still running after {timeout_s:g} s") from error

    # streams

    def attach(self, container: str, *, tty: bool, detach_keys: str = "") -> DockerStream:
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        with self._mapped("attaching"), asking_for_a_stream():
            raw = self._api.attach_socket(
                container, params=params | ({"detachKeys": detach_keys} if detach_keys else {})
            )
        return DockerStream(self, raw, tty, container=container)

    def logs(self, container: str, *, tty: bool, follow: bool, tail: int | None) -> Iterator[bytes]:
        with self._mapped("reading the output"):
            # the SDK asks this with the log's connection open, and forgets that when it fails
            self._api.inspect_container(container)
            for chunk in self._api.logs(
                container, stdout=True, stderr=True, stream=True, follow=follow, tail=tail or "all"
            ):
                # the SDK decodes a terminal's where the answer names an encoding, as Podman's does
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
        user: str | None = None,
    ) -> DockerStream:
        with self._mapped("starting a process in the container"):
            made = self._api.exec_create(
                container,
                list(argv),
                environment=dict(env or {}),
                workdir=workdir,
                tty=tty,
                stdin=stdin,
                user=user or "",
                detach_keys=detach_keys or None,
            )["Id"]
            with asking_for_a_stream():
                raw = self._api.exec_start(made, tty=tty, socket=True)
        return DockerStream(self, raw, tty, exec_id=made)

    def exec_detached(
        self,
        container: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
    ) -> str:
        with self._mapped("starting a process in the container"):
            made = self._api.exec_create(
                container,
                list(argv),
                environment=dict(env or {}),
                workdir=workdir,
                user=user or "",
                stdout=False,
                stderr=False,
            )["Id"]
            self._api.exec_start(made, detach=True)
        return str(made)

    def exec_exit_code(self, exec_id: str) -> int | None:
        from docker.errors import NotFound

        with self._mapped("asking how a process ended"):
            try:
                said = self._api.exec_inspect(exec_id)
            except NotFound:
                return 137  # the container, and with it every process, was removed
        return None if said["Running"] else said["ExitCode"]

    def resize(self, container: str, rows: int, columns: int, *, exec_id: str = "") -> None:
        if rows < 1 or columns < 1:
            return
        with self._mapped("resizing the terminal"):
            if exec_id:
                self._api.exec_resize(exec_id, height=rows, width=columns)
            else:
                self._api.resize(container, height=rows, width=columns)

    def out_of_memory(self, container: str, since: float) -> bool:
        filters = {"container": container, "event": "oom"}
        with self._mapped("asking for the engine's events"):
            found = self._api.events(
                since=f"{since:.9f}", until=f"{time.time():.9f}", filters=filters
            )
            with contextlib.closing(found):
                return any(True for _ in found)

    # images

    def image_id(self, reference: str) -> str | None:
        image = self._image(reference)
        return None if image is None else str(image["Id"])

    def image_env(self, reference: str) -> dict[str, str]:
        image = self._image(reference) or {}
        pairs = (image.get("Config") or {}).get("Env") or []
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)

    def _image(self, reference: str) -> dict[str, Any] | None:
        from docker.errors import ImageNotFound, NotFound

        with self._mapped("looking for the image"):
            try:
                found: dict[str, Any] = self._api.inspect_image(reference)
            except (ImageNotFound, NotFound):
                return None
        return found

    def pull(self, reference: str) -> Iterator[PullProgress]:
        from docker.errors import APIError, ImageNotFound, NotFound

        hint = "check the name and the registry, or use an image that is here with pull: never"
        name, _, tag = reference.partition("@")
        if not tag and ":" in name.rsplit("/", 1)[-1]:
            name, _, tag = reference.rpartition(":")
        layers: dict[str, tuple[int, int]] = {}
        with self._mapped("pulling the image"):
            try:
                for line in self._api.pull(name, tag=tag or "latest", stream=True, decode=True):
                    if "error" in line:
                        raise ImageError(
                            f"cannot pull {reference}: {one_line(line['error'])}", hint
                        )
                    detail = line.get("progressDetail") or {}
                    if line.get("id") and detail.get("total"):
                        layers[line["id"]] = (detail.get("current", 0), detail["total"])
                    yield PullProgress(
                        status=line.get("status", ""),
                        done_bytes=sum(done for done, _ in layers.values()),
                        total_bytes=sum(total for _, total in layers.values()),
                    )
            except (ImageNotFound, NotFound) as error:
                raise ImageError(f"No such image: {reference}", hint) from error
            except APIError as error:
                why = one_line(str(error.explanation or error))
                raise ImageError(f"cannot pull {reference}: {why}", hint) from error

    def import_image(self, tar: bytes, reference: str) -> str:
        repository, _, tag = reference.rpartition(":")
        with self._mapped("importing an image"):
            said = self._api.import_image_from_data(tar, repository=repository, tag=tag)
            found = self.image_id(reference)
            if found is None:  # Podman 4 does not take the tag
                found = str(json.loads(said.split("\n")[0])["status"])
                self._api.tag(found, repository, tag)
        return found


# By another container, or by another program
_TAKEN = re.compile(
    r"\b[\d.]+:(\d+)(?: failed: port is already allocated|: bind: address already in use)"
)


def _bindings(ports: Sequence[tuple[int, int]]) -> dict[int, list[tuple[str, ...]]]:
    """Published ports in the SDK's form, on 127.0.0.1 alone."""
    bindings: dict[int, list[tuple[str, ...]]] = {}
    for here, there in ports:
        address = (LOOPBACK, str(here)) if here else (LOOPBACK,)
        bindings.setdefault(there, []).append(address)
    return bindings


_EXITED = re.compile(r"Exited \((\d+)\)")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _exit_code_in(status: str) -> int | None:
    found = _EXITED.match(status)
    return int(found.group(1)) if found else None


def _epoch(stamp: str) -> float:
    """Docker's RFC 3339 with nanoseconds, as seconds since the epoch; 0 for its zero time."""
    from datetime import datetime, timezone

    found = re.match(r"(\d{4})-(\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?", stamp)
    if not found or found.group(1) == "0001":
        return 0.0
    zone = (found.group(4) or "Z").replace("Z", "+00:00")
    whole = datetime.fromisoformat(f"{found.group(1)}-{found.group(2)}{zone}")
    return whole.astimezone(timezone.utc).timestamp() + float(found.group(3) or 0)
