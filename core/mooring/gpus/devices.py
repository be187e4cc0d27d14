"""What a container is given for its claims: devices, variables, and what keeps it to a share.

A share is kept to by its instance, by CUDA's MPS, or by nobody; which of these is written down.
https://docs.nvidia.com/deploy/mps/ tells MPS's variables; its clients find the daemon by the
folder with its pipes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mooring.engines.base import Bind
from mooring.gpus.claims import Claim
from mooring.gpus.inventory import NVIDIA, Gpu, inventory
from mooring.sessions.record import Folder

PIPES = "/tmp/nvidia-mps"  # the daemon's own default
GUEST_PIPES = "/run/nvidia-mps"
ANSWER_S = 1.0
#: What a container is given beside its devices, and has no more when nothing limits its share.
MPS_VARIABLES = (
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
)


@dataclass(frozen=True)
class Devices:
    """What a container gets.

    Attributes:
        requested: of the engine's GPU runtime, by UUID.
        nodes: device files, where no runtime brings them.
        groups: group ids that may open those.
        sharing: what holds it to its share, of each device where it has one.
    """

    requested: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()
    sharing: Mapping[str, str] = field(default_factory=dict)


def devices_for(folder: Folder, claims: Sequence[Claim]) -> Devices:
    """``devices_of``; how shares are kept to goes on the session's record."""
    devices = devices_of(claims)
    if claims:
        folder.update_record(gpu_sharing=devices.sharing)
    return devices


def devices_of(claims: Sequence[Claim]) -> Devices:
    """What a container gets for its session's claims, as the machine is now.

    Without claims an image that asks for all GPUs, as CUDA's own do, gets none.
    """
    if not claims:
        return Devices(env={"NVIDIA_VISIBLE_DEVICES": "void"})
    known = {gpu.uuid: gpu for gpu in inventory()}
    mine = [known[claim.gpu] for claim in claims if claim.gpu in known]
    uuids = tuple(claim.gpu for claim in claims)
    env = {"MOORING_GPU_UUIDS": ",".join(uuids)}
    binds: tuple[Bind, ...] = ()
    if all(gpu.kind == NVIDIA for gpu in mine):
        env["NVIDIA_VISIBLE_DEVICES"] = ",".join(uuids)
    statements = {}
    for claim in claims:
        if claim.gpu in known:
            sharing = limits(claim, known[claim.gpu])
            env.update(sharing.env)
            binds += sharing.binds
            if sharing.statement:
                statements[claim.gpu] = sharing.statement
    nodes = tuple(dict.fromkeys(node for gpu in mine for node in gpu.nodes))
    return Devices(
        requested=() if nodes else uuids,
        nodes=nodes,
        groups=tuple({os.stat(node).st_gid for node in nodes if os.path.exists(node)}),
        env=env,
        binds=binds,
        sharing=statements,
    )


@dataclass(frozen=True)
class Limits:
    """What a container is given for a share, and ``statement``, what holds it to that."""

    statement: str
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()


def limits(claim: Claim, gpu: Gpu, environ: Mapping[str, str] = os.environ) -> Limits:
    """How a claim is limited to what it is.

    Args:
        environ: where ``CUDA_MPS_PIPE_DIRECTORY`` names the daemon's folder, if it does.
    """
    if gpu.parent:
        return Limits("a MIG instance, separated by the hardware")
    if claim.share >= 1:
        return Limits("")
    pipes = Path(environ.get("CUDA_MPS_PIPE_DIRECTORY") or PIPES)
    if gpu.kind != NVIDIA or not _answers(pipes / "control"):
        return Limits(
            f"{claim.share:g} of it by agreement: nothing limits the session to that "
            "(no MPS daemon answers, and the GPU has no MIG instances)"
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


def _answers(control: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_S)
        try:
            client.connect(str(control))
        except OSError:
            return False
    return True
