"""What a container gets for its claims: devices, environment variables, and share limits.

A share is limited by a MIG instance, by CUDA's MPS, or by nothing; ``Devices.sharing`` tells which.
For the variables of MPS see https://docs.nvidia.com/deploy/mps/; a client finds the MPS daemon by
its pipe directory.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mooring.engines.base import Bind
from mooring.gpus.claims import Claim
from mooring.gpus.inventory import CDI_KIND, NVIDIA, Gpu, cdi_names, inventory
from mooring.host.ownership import distrust

PIPES = "/tmp/nvidia-mps"  # the daemon's default
GUEST_PIPES = "/run/nvidia-mps"
CONNECT_TIMEOUT_S = 1.0
#: Variables of a container whose share MPS limits; other containers must not have them.
MPS_VARIABLES = (
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
)


@dataclass(frozen=True)
class Devices:
    """What a container gets for its claims.

    Attributes:
        requested: UUIDs of the devices for the engine's GPU runtime.
        cdi: CDI names of those devices, if this machine's CDI files describe all of them.
        nodes: device files, if no runtime adds them.
        groups: group ids that may open ``nodes``.
        env: environment variables.
        binds: mounts in addition to the session's.
        sharing: what limits the container to each share, in words, by UUID; whole devices are
            omitted.
    """

    requested: tuple[str, ...] = ()
    cdi: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()
    sharing: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[tuple[str, Path], ...]:
        """The sources of ``binds`` for the policy, each with a word for the user."""
        return tuple(("gpus, by MPS", Path(bind.source)) for bind in self.binds)


def devices_of(claims: Sequence[Claim]) -> Devices:
    """Return what a container gets for its session's claims, on the machine as it is now.

    Without claims, ``NVIDIA_VISIBLE_DEVICES`` is set so that an image that requests all GPUs, as
    CUDA images do, gets none.
    """
    if not claims:
        return Devices(env={"NVIDIA_VISIBLE_DEVICES": "void"})
    known = {gpu.uuid: gpu for gpu in inventory()}
    gpus = [known[claim.gpu] for claim in claims if claim.gpu in known]
    uuids = tuple(claim.gpu for claim in claims)
    env = {"MOORING_GPU_UUIDS": ",".join(uuids)}
    binds: tuple[Bind, ...] = ()
    if all(gpu.kind == NVIDIA for gpu in gpus):
        env["NVIDIA_VISIBLE_DEVICES"] = ",".join(uuids)
    statements = {}
    for claim in claims:
        if claim.gpu in known:
            share = limits(claim, known[claim.gpu])
            env.update(share.env)
            binds += share.binds
            if share.statement:
                statements[claim.gpu] = share.statement
    nodes = tuple(dict.fromkeys(node for gpu in gpus for node in gpu.nodes))
    return Devices(
        requested=() if nodes else uuids,
        cdi=() if nodes else _cdi_names(uuids),
        nodes=nodes,
        groups=tuple({os.stat(node).st_gid for node in nodes if os.path.exists(node)}),
        env=env,
        binds=binds,
        sharing=statements,
    )


def _cdi_names(uuids: Sequence[str]) -> tuple[str, ...]:
    """Return the CDI names of devices; empty unless CDI files describe all of them."""
    described = cdi_names().issuperset(uuids)
    return tuple(f"{CDI_KIND}={uuid}" for uuid in uuids) if described else ()


@dataclass(frozen=True)
class Limits:
    """What a container gets for a share of a device.

    Attributes:
        statement: what limits it to that share, in words; empty for a whole device.
        env: environment variables.
        binds: mounts.
    """

    statement: str
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()


def limits(claim: Claim, gpu: Gpu, environ: Mapping[str, str] = os.environ) -> Limits:
    """Return how a claim is limited to its share of a device.

    Args:
        claim: the claim.
        gpu: the claimed device.
        environ: environment in which ``CUDA_MPS_PIPE_DIRECTORY`` names the MPS daemon's folder.
    """
    if gpu.parent:
        return Limits("a MIG instance, isolated by the hardware")
    if claim.share >= 1:
        return Limits("")
    pipes = Path(os.path.abspath(environ.get("CUDA_MPS_PIPE_DIRECTORY") or PIPES))
    why = "no MPS daemon answers" if gpu.kind != NVIDIA else _no_daemon(pipes)
    if why:
        return Limits(
            f"{claim.share:g} of it by agreement, because nothing enforces the limit "
            f"({why}, and the GPU has no MIG instances)"
        )
    env = {
        "CUDA_MPS_PIPE_DIRECTORY": GUEST_PIPES,
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": f"{claim.share * 100:g}",
    }
    if gpu.memory_bytes:
        mebibytes = int(gpu.memory_bytes * claim.share) >> 20
        env["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"0={mebibytes}M"
    return Limits(
        f"{claim.share:g} of its threads and memory, limited by MPS",
        env,
        (Bind(str(pipes), GUEST_PIPES, read_only=False),),
    )


def _no_daemon(pipes: Path) -> str:
    """Return why no MPS daemon can be used; empty if one can.

    Anybody can create a folder in ``/tmp`` and answer there, so the folder and the socket have to
    be root's or the caller's.
    """
    control = pipes / "control"
    if not control.exists():
        return "no MPS daemon answers"
    if reason := distrust(pipes):
        return f"the MPS daemon's folder is not used: {reason}"
    status = control.lstat()
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid not in (0, os.getuid()):
        return f"the MPS daemon is not used: {control} is not a socket of root's or yours"
    return "" if _listens(control) else "no MPS daemon answers"


def _listens(control: Path) -> bool:
    """Return whether a process listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(CONNECT_TIMEOUT_S)
        try:
            client.connect(str(control))
        except OSError:
            return False
    return True
