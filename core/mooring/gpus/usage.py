"""The current holders of GPUs, computed on each call from containers, tickets and processes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mooring.engines.base import Container, Engine
from mooring.engines.capabilities import SupportsGpus
from mooring.engines.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_SPEC,
    is_session,
    name_of,
    owner_of,
)
from mooring.gpus.claims import WHOLE, Claim, from_label
from mooring.gpus.inventory import Gpu
from mooring.gpus.tickets import Ticket
from mooring.host.processes import living_name, owner_name
from mooring.host.text import one_line
from mooring.host.untrusted import parse_json

if TYPE_CHECKING:
    from mooring.engines.base import DeviceRequest

FREE, HELD, SHARED, DRAINING, OUTSIDE, SPLIT = (
    "free", "held", "shared", "draining", "outside", "split",
)  # fmt: skip

#: Computes for its client processes, which NVML lists too. (The kernel keeps 15 bytes of a name.)
MPS_SERVER = "nvidia-cuda-mps-server"[:15]

_CONTAINER = re.compile(r"[0-9a-f]{64}")
_MOST_S = 1e10  # bounds a label's value: any user of the engine can write any label
_CGROUP_BYTES_MAX = 20_000


@dataclass(frozen=True)
class Holder:
    """A session, container or process that holds a GPU, or a share of it.

    Attributes:
        user: the owner's name; empty if unknown.
        session, session_id: empty for a holder that is not a session.
        container: the container's id; empty for a process, and for a session whose container
            does not run yet.
        what: description of a holder that is not a session: ``process 4711 (python)``,
            ``container web``; empty for a session.
        since: seconds since the epoch; 0 if unknown.
        share: share of the device; 1 for all of it.
        ends_at: when the session's maximum duration ends it, in seconds since the epoch; None if
            it has none.
        mine: whether it belongs to this installation.
    """

    user: str
    session: str
    session_id: str
    container: str
    what: str
    since: float
    share: float
    ends_at: float | None
    mine: bool


@dataclass(frozen=True)
class GpuUse:
    """A GPU and its holders.

    Attributes:
        state: ``free``; ``held``: nothing is left to claim; ``shared``: a share is left;
            ``draining``: no holder, but processes that are still exiting; ``outside``: held by
            something that is not a session; ``split``: only its instances can be claimed.
        free_share: share that can be claimed, 0 to 1.
        kept_for: the waiting session for which ``free_share`` is reserved; empty for none.
    """

    gpu: Gpu
    state: str
    free_share: float
    holders: tuple[Holder, ...]
    kept_for: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that ``mooring gpus --json`` and the REST API show.

        Returns:
            The attributes of ``Gpu``, ``state``, ``free_share``, ``kept_for``, and in ``holders``
            a list of the attributes of ``Holder``.
        """
        return dataclasses.asdict(self.gpu) | {
            "state": self.state,
            "free_share": self.free_share,
            "kept_for": self.kept_for,
            "holders": [dataclasses.asdict(holder) for holder in self.holders],
        }


def list_uses(
    engine: Engine, gpus: Iterable[Gpu], tickets: Iterable[Ticket], installation: str
) -> list[GpuUse]:
    """Return every GPU with its holders.

    Args:
        engine: the engine whose containers may hold GPUs.
        gpus: all GPUs of the machine.
        tickets: the tickets, read *before* this is called. A ticket is removed when its container
            runs: if it were read afterwards, a claim could be missed in between.
        installation: this installation's id.

    Raises:
        EngineUnavailable: the holders cannot be determined.
    """
    gpus = list(gpus)
    holders: dict[str, list[Holder]] = {gpu.uuid: [] for gpu in gpus}
    running = engine.list({}, alive=True)
    for row in running:
        for claim, holder in _holders_in(engine, row, gpus, installation):
            holders.setdefault(claim.gpu, []).append(holder)
    sessions = {holder.session_id for rows in holders.values() for holder in rows}
    for ticket in tickets:
        if ticket.id in sessions or (ticket.orphaned and not _may_run(engine, ticket)):
            continue
        for claim in ticket.granted:
            holder = _holder_of(ticket, claim, installation)
            holders.setdefault(claim.gpu, []).append(holder)
    live = {row.id for row in running}
    uses = [_use(gpu, holders[gpu.uuid], live) for gpu in gpus]
    if holders.keys() - {gpu.uuid for gpu in gpus}:
        # While the driver does not answer (it was replaced under running sessions), devices have
        # numbers instead of UUIDs, so which of them those sessions hold is unknown
        uses = [
            use if _has_driver(use.gpu) else replace(use, state=OUTSIDE, free_share=0.0)
            for use in uses
        ]
    return uses


def free_shares(uses: Iterable[GpuUse]) -> dict[str, int]:
    """Return the thousandths of each device that can be claimed, by UUID."""
    return {use.gpu.uuid: round(use.free_share * WHOLE) for use in uses}


def held_by(uses: Iterable[GpuUse], user: str) -> float:
    """Return how much a user's sessions hold in total, in devices."""
    holders = (holder for use in uses for holder in use.holders)
    return sum(holder.share for holder in holders if holder.session and holder.user == user)


def _holders_in(
    engine: Engine, row: Container, gpus: list[Gpu], installation: str
) -> list[tuple[Claim, Holder]]:
    """Return what a container holds: the devices it requested, in a session's shares of them."""
    labels, own = row.labels, is_session(row)
    labelled = from_label(labels.get(LABEL_GPUS, "")) if own else ()
    if not isinstance(engine, SupportsGpus) or (own and not labelled):
        return []
    claims = _claims(labelled, engine.device_requests(row.id), gpus)
    holder = Holder(
        user=owner_of(labels) if own else "",
        session=name_of(labels, row.name) if own else "",
        session_id=labels.get(LABEL_ID, "") if own else "",
        container=row.id,
        what="" if own else f"container {row.name}",
        since=row.created_at,
        share=1.0,
        ends_at=_latest_end(row) if own else None,
        mine=labels.get(LABEL_INSTALLATION) == installation,
    )
    return [(claim, replace(holder, share=claim.share)) for claim in claims]


def _claims(
    labelled: Iterable[Claim], requests: Iterable[DeviceRequest], gpus: list[Gpu]
) -> list[Claim]:
    """Return the claims of a container, of which a label, that anybody may write, is no proof.

    Args:
        labelled: the claims in its label, for the shares.
        requests: its device requests.
        gpus: all GPUs of the machine.

    Returns:
        One claim per requested device, also for those that are no longer known.
    """
    requests, shares = tuple(requests), {claim.gpu: claim for claim in labelled}
    named = (name.rpartition("=")[2] for request in requests for name in request.ids)
    uuids = [*requested_uuids(requests, gpus), *(name for name in named if name in shares)]
    return [shares.get(uuid, Claim(uuid)) for uuid in dict.fromkeys(uuids)]


def _holder_of(ticket: Ticket, claim: Claim, installation: str) -> Holder:
    """Return the holder for a session that was granted a GPU, and has no running container yet."""
    return Holder(
        user=ticket.user,
        session=ticket.session,
        session_id=ticket.id,
        container="",
        what="",
        since=ticket.since / 1e9,
        share=claim.share,
        ends_at=None,
        mine=ticket.installation == installation,
    )


def _may_run(engine: Engine, ticket: Ticket) -> bool:
    """Return whether a container has, or may still get, the grant of a ticket whose holder died.

    If there is no container, it cannot, because an engine starts only existing containers; nor if
    the container has exited since the grant. A container that started after the running ones were
    listed is included.
    """
    for row in filter(is_session, engine.list({LABEL_ID: ticket.id})):
        detail = engine.inspect(row.id)
        if detail is not None and (
            detail.state not in ("exited", "dead") or detail.started_at < ticket.orphaned
        ):
            return True
    return False


def _latest_end(row: Container) -> float | None:
    try:
        longest_s = float(parse_json(row.labels.get(LABEL_SPEC, "{}")).get("max_duration", 0))
    except (ValueError, TypeError, AttributeError):
        return None
    return row.created_at + longest_s if 0 < longest_s <= _MOST_S else None


def requested_uuids(requests: Iterable[DeviceRequest], gpus: list[Gpu]) -> list[str]:
    """Return the devices that a container got for its device requests.

    Args:
        requests: by count (-1 for all), or by number, UUID, CDI name or device file.
        gpus: all GPUs of the machine.

    Returns:
        UUIDs, including those of the instances of each GPU.
    """
    uuids: dict[str, None] = {}
    whole = [gpu for gpu in gpus if not gpu.parent]
    for request in requests:
        if request.count:
            some = whole if request.count < 0 else whole[: request.count]
            for gpu in some:
                uuids.update(dict.fromkeys(_with_instances(gpu, gpus)))
        for name in request.ids:
            name = name.rpartition("=")[2]  # nvidia.com/gpu=0
            for gpu in gpus:
                if (
                    name == "all"
                    or name in (gpu.uuid, str(gpu.index))
                    or (len(name) > 8 and gpu.uuid.startswith(name))
                    or name in _own_nodes(gpu, gpus)
                ):
                    uuids.update(dict.fromkeys(_with_instances(gpu, gpus)))
    return list(uuids)


def _own_nodes(gpu: Gpu, gpus: list[Gpu]) -> set[str]:
    """Return the device files of a GPU that no other one shares."""
    return set(gpu.nodes).difference(*(other.nodes for other in gpus if other.uuid != gpu.uuid))


def _with_instances(gpu: Gpu, gpus: list[Gpu]) -> list[str]:
    return [gpu.uuid, *(part.uuid for part in gpus if part.parent == gpu.uuid)]


def _use(gpu: Gpu, holders: list[Holder], live: set[str]) -> GpuUse:
    """Return a GPU with its known holders and the processes on it that belong to none of them.

    Args:
        gpu: the GPU.
        holders: the known holders.
        live: the ids of the running containers.
    """
    containers = {holder.container for holder in holders if holder.container}
    state, strangers = "", []
    for process in gpu.processes:
        container = container_of(process.pid)
        if container in containers:
            continue
        name = living_name(process.pid)
        if name == MPS_SERVER:
            continue
        if not name or (container and container not in live):
            state = DRAINING
        else:
            strangers.append(_stranger(process.pid, name, container))
    left = max(0, WHOLE - sum(Claim("", holder.share).thousandths for holder in holders))
    if strangers or state or gpu.split:
        left = 0
    if gpu.split:
        state = SPLIT
    elif any(holder.session for holder in holders):
        state = SHARED if left else HELD
    elif holders or strangers:
        state = OUTSIDE
    return GpuUse(gpu, state or FREE, left / WHOLE, (*holders, *strangers))


def _stranger(pid: int, name: str, container: str) -> Holder:
    """Return the holder for a process that uses a GPU without a session."""
    where = f" in container {container[:12]}" if container else ""
    return Holder(
        user=owner_name(pid),
        session="",
        session_id="",
        container=container,
        what=f"process {pid} ({one_line(name)}){where}",
        since=0.0,
        share=1.0,
        ends_at=None,
        mine=False,
    )


def container_of(pid: int) -> str:
    """Return the id of the container that a process of this machine runs in; empty for none."""
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            ids = _CONTAINER.findall(file.read(_CGROUP_BYTES_MAX))
    except OSError:
        return ""
    return str(ids[-1]) if ids else ""


def lost(claims: Iterable[Claim], gpus: Collection[Gpu]) -> bool:
    """Return whether a claimed device no longer exists on this machine; False if unknown.

    Args:
        claims: the claims.
        gpus: all GPUs of the machine.
    """
    if not gpus or not all(map(_has_driver, gpus)):
        return False
    present = {gpu.uuid for gpu in gpus}
    return any(claim.gpu not in present for claim in claims)


def _has_driver(gpu: Gpu) -> bool:
    """Return whether a GPU's driver answers; if not, only the GPU's number may be known."""
    return bool(gpu.driver)
