"""The Podman engine, through its Docker-compatible socket: the differences from Docker."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mooring.engines.base import ContainerConfig
from mooring.engines.docker import DockerEngine
from mooring.errors import NotSupported
from mooring.host import atomic
from mooring.host.paths import Installation


class PodmanEngine(DockerEngine):
    """Podman: a DockerEngine without SupportsLateNetwork, SupportsLimits and SupportsProcessList.

    Rootless Podman maps the user to the same uid and gid in the container (``keep-id``) and keeps
    the user's groups.
    """

    kind = "podman"
    # Podman responds with status 500 to an unknown state
    alive_states = ("running", "paused")
    # rprivate is the default too, but setting it explicitly makes binds non-recursive, which the
    # kernel refuses for a home that contains mounts, such as Podman's own storage
    propagation = None
    init = "/run/podman-init"
    attach_network = None  # type: ignore[assignment]  # withdrawn: it has no SupportsLateNetwork
    update_limits = None  # type: ignore[assignment]  # not in this API before Podman 5
    processes = None  # type: ignore[assignment]  # it runs the image's ps, if there is one

    def _is_rootless(self) -> bool:
        return os.getuid() != 0

    def _refuse(self, config: ContainerConfig) -> None:
        if not self._is_rootless():
            return
        # Rootless Podman silently ignores limits on cgroup v1
        wanted = {"memory": config.memory_bytes, "cpus": config.cpus}
        limits = [name for name, value in wanted.items() if value]
        if limits and str(self._daemon().get("CgroupVersion")) == "1":
            raise NotSupported(
                f"{' and '.join(limits)}: rootless Podman cannot enforce limits on cgroup v1",
                "leave it out, use Docker, or boot this machine with cgroup v2",
            )

    def _host_config(self, config: ContainerConfig) -> dict[str, Any]:
        host = super()._host_config(config)
        if self._is_rootless():
            host["UsernsMode"] = "keep-id"
            del host["LogConfig"]
            host.pop("GroupAdd", None)
        return host

    def _seccomp(self, config: ContainerConfig) -> str:
        profile = super()._seccomp(config)
        if not profile:
            return ""
        path = Installation.here().path / f"seccomp-{config.denied_modes:o}.json"
        atomic.write_text(path, profile)  # Podman takes the path of a file
        return str(path)

    def _network_mode(self) -> str | None:
        return None

    def _groups(self, host: Mapping[str, Any], groups: Sequence[int]) -> dict[str, Any]:
        return {} if self._is_rootless() else super()._groups(host, groups)

    def _device_request(self, uuids: Sequence[str], cdi_devices: Sequence[str]) -> dict[str, Any]:
        if int(self.info().version.partition(".")[0] or 0) < 5:
            raise NotSupported(
                "Podman before version 5 provides no GPUs through its Docker-compatible socket",
                "use Docker, or a newer Podman",
            )
        return super()._device_request(uuids, cdi_devices)

    def _has_cdi(self) -> bool:
        return True

    def _imported(self, made: str, reference: str) -> str:
        image = self.image_id(reference)
        if image is None:  # Podman 4 ignores the tag
            repository, _, tag = reference.rpartition(":")
            query = {"repo": repository, "tag": tag}
            self._api.send("POST", "images", made, "tag", query=query)
        return image or made
