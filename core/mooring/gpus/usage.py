"""Who holds which GPU now: found from containers, tickets and processes, each time anew."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mooring.engines.base import Container, Engine
from mooring.gpus.claims import WHOLE, Claim, from_label
from mooring.gpus.inventory import Gpu
from mooring.gpus.tickets import Ticket
from mooring.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    LABEL_OWNER,
    LABEL_SPEC,
    container_name,
)

if TYPE_CHECKING:
    from mooring.engines.base import DeviceRequest

FREE, HELD, SHARED, DRAINING, OUTSIDE, SPLIT = (
    "free", "held", "shared", "draining", "outside", "split",
)  # fmt: skip

#: It computes for others, which NVML lists beside it. (The kernel keeps 15 letters of a name.)
MPS_SERVER = "nvidia-cuda-mps-server"[:15]

_CONTAINER = re.compile(r"[0-9a-f]{64}")
_MOST_S = 1e10  # whoever may use the engine may write anything on a container


@dataclass(frozen=True)
class Holder:
    """Who holds a GPU, or a share of it.

    Attributes:
        user: empty where nobody knows.
        session, session_id: empty for a holder outside of mooring.
        what: of one outside, what it is: ``process 4711 (python)``, ``container web``.
        since: seconds since the epoch, 0 for unknown.
        ends_at: when its maximum duration ends it at the latest, seconds since the epoch.
        mine: of this installation.
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
    """A GPU and who holds it.

    Attributes:
        state: ``free``; ``held`` by one session or by several to the full; ``shared``, with
            something left; ``draining``: nobody's, and its last processes have not gone;
            ``outside``: taken by what is not mooring's; ``split``: its instances are to be had.
        free_share: what can be claimed of it, 0 to 1.
        kept_for: the session in the queue for which what is free of it is kept; empty for none.
    """

    gpu: Gpu
    state: str
    free_share: float
    holders: tuple[Holder, ...]
    kept_for: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: what ``mooring gpus --json`` and REST tell of a GPU."""
        return dataclasses.asdict(self.gpu) | {
            "state": self.state,
            "free_share": self.free_share,
            "kept_for": self.kept_for,
            "holders": [dataclasses.asdict(holder) for holder in self.holders],
        }


def look(
    engine: Engine, gpus: Iterable[Gpu], tickets: Iterable[Ticket], installation: str
) -> list[GpuUse]:
    """Every GPU with its holders.

    Args:
        tickets: read *before* this is called. A ticket leaves when its container runs: read the
            other way round, a claim could be missed on its way from the one to the other.

    Raises:
        EngineUnavailable: nothing is known then.
    """
    gpus = list(gpus)
    holders: dict[str, list[Holder]] = {gpu.uuid: [] for gpu in gpus}
    running = engine.list({}, alive=True)
    for row in running:
        for claim, holder in _of_container(engine, row, gpus, installation):
            holders.setdefault(claim.gpu, []).append(holder)
    known = {one.session_id for several in holders.values() for one in several}
    for ticket in tickets:
        if ticket.id in known or (ticket.orphaned and not _about_to_run(engine, ticket)):
            continue
        for claim in ticket.granted:
            holders.setdefault(claim.gpu, []).append(
                Holder(
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
            )
    alive = {row.id for row in running}
    uses = [_use(gpu, holders[gpu.uuid], alive) for gpu in gpus]
    if holders.keys() - {gpu.uuid for gpu in gpus}:
        # Where the driver does not answer (it was replaced under running sessions) devices have
        # numbers for names, and nobody can say which of them those sessions hold
        uses = [
            use if _known(use.gpu) else replace(use, state=OUTSIDE, free_share=0.0) for use in uses
        ]
    return uses


def free_shares(uses: Iterable[GpuUse]) -> dict[str, int]:
    """Thousandths that are left of each device, by UUID."""
    return {use.gpu.uuid: round(use.free_share * WHOLE) for use in uses}


def held_by(uses: Iterable[GpuUse], user: str) -> float:
    """How much a user holds in all, in devices."""
    return sum(one.share for use in uses for one in use.holders if one.session and one.user == user)


def _of_container(
    engine: Engine, row: Container, gpus: list[Gpu], installation: str
) -> list[tuple[Claim, Holder]]:
    """What a container has: one of mooring's by its label, another by what it asked the engine."""
    labels = row.labels
    name = container_name(labels.get(LABEL_NAME, ""), labels.get(LABEL_ID, ""))
    # an image that was made of a session's container has its labels, and is none
    own = LABEL_INSTALLATION in labels and row.name.startswith(name)
    if own:
        claims = from_label(labels.get(LABEL_GPUS, ""))
    else:
        asked = engine.device_requests(row.id)
        claims = tuple(Claim(uuid) for uuid in _resolved(asked, gpus))
    holder = Holder(
        user=labels.get(LABEL_OWNER, "") if own else "",
        session=labels.get(LABEL_NAME, row.name) if own else "",
        session_id=labels.get(LABEL_ID, "") if own else "",
        container=row.id,
        what="" if own else f"container {row.name}",
        since=row.created_at,
        share=1.0,
        ends_at=_latest_end(row) if own else None,
        mine=labels.get(LABEL_INSTALLATION) == installation,
    )
    return [(claim, _with_share(holder, claim.share)) for claim in claims]


def _about_to_run(engine: Engine, ticket: Ticket) -> bool:
    """Whether a container has what was granted, or may be given it yet, though its maker is dead.

    Not if there is none, for the engine starts only what was made before, nor if it has ended
    since. One that began to run after the listing of those that do counts too.
    """
    for row in engine.list({LABEL_ID: ticket.id}):
        detail = engine.inspect(row.id)
        if detail is not None and (
            detail.state not in ("exited", "dead") or detail.started_at < ticket.orphaned
        ):
            return True
    return False


def _with_share(holder: Holder, share: float) -> Holder:
    return replace(holder, share=share)


def _latest_end(row: Container) -> float | None:
    try:
        longest = float(json.loads(row.labels.get(LABEL_SPEC, "{}")).get("max_duration", 0))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return row.created_at + longest if 0 < longest <= _MOST_S else None


def _resolved(asked: Iterable[DeviceRequest], gpus: list[Gpu]) -> list[str]:
    """Which devices a request of the engine's means: all, so many, numbers, UUIDs or CDI names."""
    found: dict[str, None] = {}
    whole = [gpu for gpu in gpus if not gpu.parent]
    for request in asked:
        if request.count:
            some = whole if request.count < 0 else whole[: request.count]
            for gpu in some:
                found.update(dict.fromkeys(_with_instances(gpu, gpus)))
        for name in request.ids:
            name = name.rpartition("=")[2]  # nvidia.com/gpu=0
            for gpu in gpus:
                if (
                    name == "all"
                    or name in (gpu.uuid, str(gpu.index))
                    or (len(name) > 8 and gpu.uuid.startswith(name))
                ):
                    found.update(dict.fromkeys(_with_instances(gpu, gpus)))
    return list(found)


def _with_instances(gpu: Gpu, gpus: list[Gpu]) -> list[str]:
    return [gpu.uuid, *(part.uuid for part in gpus if part.parent == gpu.uuid)]


def _use(gpu: Gpu, holders: list[Holder], alive: set[str]) -> GpuUse:
    inside = {holder.container for holder in holders if holder.container}
    state, strangers = "", []
    for process in gpu.processes:
        container = container_of(process.pid)
        if container in inside:
            continue
        comm = _comm(process.pid)
        if comm == MPS_SERVER:
            continue
        if not comm or (container and container not in alive):
            state = DRAINING
        else:
            strangers.append(_stranger(process.pid, comm, container))
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


def _stranger(pid: int, comm: str, container: str) -> Holder:
    where = f" in container {container[:12]}" if container else ""
    return Holder(
        user=_user_of(pid),
        session="",
        session_id="",
        container=container,
        what=f"process {pid} ({comm}){where}",
        since=0.0,
        share=1.0,
        ends_at=None,
        mine=False,
    )


def container_of(pid: int) -> str:
    """The id of the container that a process of this machine runs in; empty for none."""
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            found = _CONTAINER.findall(file.read(20_000))
    except OSError:
        return ""
    return str(found[-1]) if found else ""


def _comm(pid: int) -> str:
    """The name of a living process; empty for one that is gone, or that waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, rest = file.read().rpartition(b")")
    except OSError:
        return ""
    if rest.split()[:1] in ([b"Z"], [b"X"]):
        return ""
    name = head.partition(b"(")[2].decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in name)


def _user_of(pid: int) -> str:
    import pwd

    try:
        uid = os.stat(f"/proc/{pid}").st_uid
        return pwd.getpwuid(uid).pw_name
    except OSError:
        return ""
    except KeyError:
        return f"uid {uid}"


def lost(claims: Iterable[Claim], gpus: Collection[Gpu]) -> bool:
    """Whether a claimed device is not on this machine any more; False where nobody can tell."""
    if not gpus or not all(map(_known, gpus)):
        return False
    here = {gpu.uuid for gpu in gpus}
    return any(claim.gpu not in here for claim in claims)


def _known(gpu: Gpu) -> bool:
    """Whether its driver answers; of one that does not, the number may be all there is."""
    return bool(gpu.driver)
