"""Conversions between mooring's values and those of Docker's API."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mooring.engines.base import (
    Bind,
    Container,
    ContainerConfig,
    ContainerDetail,
    DeviceRequest,
    Process,
    ResourceLimits,
)
from mooring.engines.docker import messages
from mooring.engines.labels import complete

# Of these a container has its image's unless it has its own. A health check is a command of the
# image's, which runs from the container's start on; another signal would not end a session
NO_HEALTHCHECK = {"Test": ["NONE"]}
STOP_SIGNAL = "SIGTERM"
# If the machine itself runs out of memory, the kernel ends a container's process rather than one of
# its services: 500 counts as half of the machine's memory, proc(5)
OOM_SCORE_ADJ = 500

_STAMP = re.compile(r"(\d{4})-(\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?")


def is_podman(pong: Mapping[str, str]) -> bool:
    """Whether the headers of a response to ``GET /_ping`` are Podman's, which add a version."""
    return "libpod-api-version" in pong


def container_of(row: Mapping[str, Any]) -> Container:
    """Convert an item of ``GET /containers/json``."""
    status = messages.EXITED.match(row.get("Status", ""))
    return Container(
        id=row["Id"],
        name=row["Names"][0].lstrip("/") if row.get("Names") else "",
        image=row.get("Image", ""),
        state=row.get("State", "unknown").lower(),
        labels=row.get("Labels") or {},
        created_at=float(row.get("Created") or 0),
        exit_code=int(status.group(1)) if status else None,
        ports=tuple(
            (port["PublicPort"], port["PrivatePort"])
            for port in row.get("Ports") or []
            if port.get("PublicPort") and port.get("Type") == "tcp"
        ),
    )


def detail_of(row: Mapping[str, Any]) -> ContainerDetail:
    """Convert the response to ``GET /containers/ID/json``."""
    state = row["State"]
    return ContainerDetail(
        id=row["Id"],
        state=state["Status"],
        exit_code=state["ExitCode"] if state["Status"] in ("exited", "dead") else None,
        oom_killed=bool(state.get("OOMKilled")),
        started_at=_epoch(state.get("StartedAt", "")),
        finished_at=_epoch(state.get("FinishedAt", "")),
    )


def device_requests_of(row: Mapping[str, Any]) -> tuple[DeviceRequest, ...]:
    """The GPUs in ``GET /containers/ID/json``: device requests, device files, NVIDIA's runtime.

    NVIDIA's runtime reads them from the variable ``NVIDIA_VISIBLE_DEVICES``.
    """
    host = row.get("HostConfig") or {}
    requests = [
        DeviceRequest(int(request.get("Count") or 0), tuple(request.get("DeviceIDs") or ()))
        for request in host.get("DeviceRequests") or []
    ]
    files = tuple(str(device.get("PathOnHost", "")) for device in host.get("Devices") or [])
    if files:
        requests.append(DeviceRequest(0, files))
    if host.get("Runtime") == "nvidia":
        pairs = (pair.partition("=") for pair in row.get("Config", {}).get("Env") or [])
        visible = {key: value for key, _, value in pairs}.get("NVIDIA_VISIBLE_DEVICES", "")
        if visible not in ("", "void", "none"):
            requests.append(DeviceRequest(0, tuple(visible.split(","))))
    return tuple(requests)


def binds_of(row: Mapping[str, Any]) -> tuple[Bind, ...]:
    """The binds in the response to ``GET /containers/ID/json``."""
    mounts = [mount for mount in row.get("Mounts") or [] if mount.get("Type") == "bind"]
    return tuple(Bind(one["Source"], one["Destination"], not one["RW"]) for one in mounts)


def processes_of(rows: Sequence[Sequence[str]]) -> list[Process]:
    """Convert the rows of ``GET /containers/ID/top``: pid, state as in ps(1), command line."""
    return [Process(command, state[:1] in ("T", "t", "Z", "X")) for _, state, command in rows]


def mount_of(bind: Bind, propagation: str | None) -> dict[str, Any]:
    """Convert a bind to a mount of the API, which requires its source to exist.

    Args:
        bind: the bind.
        propagation: the bind propagation, ``rprivate``; None for the engine's default.
    """
    mount: dict[str, Any] = {
        "Target": bind.target,
        "Source": bind.source,
        "Type": "bind",
        "ReadOnly": bind.read_only,
    }
    return mount | ({"BindOptions": {"Propagation": propagation}} if propagation else {})


def device_nodes(paths: Sequence[str]) -> list[dict[str, str]]:
    """Convert paths of device files, which are the same in the container."""
    return [
        {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rw"} for path in paths
    ]


def port_bindings(
    ports: Sequence[tuple[int, int]], address: str
) -> dict[str, list[dict[str, str]]]:
    """Convert published ports.

    Args:
        ports: pairs of host port (0 for any free port) and container port.
        address: the address of this machine to publish on.
    """
    bindings: dict[str, list[dict[str, str]]] = {}
    for local, inside in ports:
        bindings.setdefault(f"{inside}/tcp", []).append(
            {"HostIp": address, "HostPort": str(local) if local else ""}
        )
    return bindings


def container_body(config: ContainerConfig) -> dict[str, Any]:
    """The body of ``POST /containers/create``, without the host configuration."""
    return {
        "Image": config.image,
        "Cmd": list(config.argv),
        "Entrypoint": [],
        "Hostname": config.hostname,
        "User": config.user,
        "Env": env_strings(config.env),
        "Labels": complete(config.labels),
        "WorkingDir": config.workdir,
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.open_stdin,
        "AttachStdin": config.open_stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "ExposedPorts": {f"{inside}/tcp": {} for _, inside in config.ports},
        "Healthcheck": NO_HEALTHCHECK,
        "StopSignal": STOP_SIGNAL,
    }


def host_body(config: ContainerConfig, propagation: str | None, seccomp: str) -> dict[str, Any]:
    """Mounts, privileges, limits and logging of a container, in the API's ``HostConfig``.

    Args:
        config: the container.
        propagation: as for ``mount_of``.
        seccomp: its seccomp profile; empty for the engine's default.
    """
    body = {
        "Mounts": [mount_of(bind, propagation) for bind in config.binds],
        "Init": True,
        "CapDrop": ["ALL"],
        "CapAdd": list(config.capabilities) or None,
        "SecurityOpt": ["no-new-privileges", *([f"seccomp={seccomp}"] if seccomp else ())],
        "CgroupnsMode": "private",  # Docker's default on cgroup v1 is the host's
        "GroupAdd": [str(gid) for gid in config.groups] or None,
        "Memory": config.memory_bytes,
        "MemorySwap": config.memory_bytes,
        "NanoCpus": int(config.cpus * 1e9) if config.cpus else None,
        "ShmSize": config.shm_bytes,
        "PidsLimit": config.pids_limit,
        "OomScoreAdj": OOM_SCORE_ADJ,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "2"}},
    }
    return {key: value for key, value in body.items() if value is not None}


def limits_body(limits: ResourceLimits) -> dict[str, Any]:
    """The body of ``POST /containers/ID/update``: limits that are None stay as they are."""
    body = {
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "NanoCpus": None if limits.cpus is None else int(limits.cpus * 1e9),
        "PidsLimit": -1 if limits.pids_limit == 0 else limits.pids_limit,
    }
    return {key: value for key, value in body.items() if value is not None}


def env_strings(env: Mapping[str, str]) -> list[str]:
    """Convert environment variables to ``NAME=VALUE`` strings."""
    return [f"{name}={value}" for name, value in env.items()]


def changed_env(old: Sequence[str], changes: Mapping[str, str | None]) -> list[str]:
    """Apply changes to a container's environment.

    Args:
        old: ``KEY=VALUE`` strings.
        changes: new values; None removes a variable.

    Returns:
        The new environment. ``KEY`` alone removes a variable even if the image sets it.
    """
    pairs = {pair.partition("=")[0]: pair for pair in old}
    for key, value in changes.items():
        if value is not None:
            pairs[key] = f"{key}={value}"
        elif key in pairs:
            pairs[key] = key
    return list(pairs.values())


def changed_config(
    config: Mapping[str, Any], labels: Mapping[str, str], env: Mapping[str, str | None]
) -> dict[str, Any]:
    """Apply changes to a container's configuration, whose image may have been replaced.

    Args:
        config: the configuration.
        labels: new labels.
        env: as for ``changed_env``.

    Returns:
        The changed keys of the configuration.
    """
    return {
        "Labels": complete(config["Labels"] | labels),
        "Healthcheck": NO_HEALTHCHECK,
        "StopSignal": STOP_SIGNAL,
        "Env": changed_env(config["Env"] or [], env),
    }


def changed_mounts(
    host: Mapping[str, Any], binds: Mapping[str, Bind | None], new: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Replace mounts in a container's host configuration.

    Args:
        host: the host configuration, with binds in ``Mounts`` (Docker) or ``Binds`` (Podman).
        binds: the changes; existing mounts at these targets are removed.
        new: the mounts to add, in the API's form.

    Returns:
        The changed keys of the host configuration.
    """
    mounts = [mount for mount in host.get("Mounts") or [] if mount["Target"] not in binds]
    changed: dict[str, Any] = {"Mounts": [*mounts, *new]}
    if host.get("Binds"):
        changed["Binds"] = [bind for bind in host["Binds"] if bind.split(":")[1] not in binds]
    return changed


def _epoch(stamp: str) -> float:
    """Convert an RFC 3339 time to seconds since the epoch; 0 for Docker's zero time (year 1)."""
    from datetime import datetime, timezone

    parts = _STAMP.match(stamp)
    if not parts or parts.group(1) == "0001":
        return 0.0
    zone = (parts.group(4) or "Z").replace("Z", "+00:00")
    whole = datetime.fromisoformat(f"{parts.group(1)}-{parts.group(2)}{zone}")
    return whole.astimezone(timezone.utc).timestamp() + float(parts.group(3) or 0)
