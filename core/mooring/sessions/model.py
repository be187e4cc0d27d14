"""A session as a value: the state of its container, folder and clock at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mooring.engines.base import Container
from mooring.engines.labels import LABEL_GPUS, LABEL_ID, LABEL_SPEC, name_of, owner_of
from mooring.gpus.claims import Claim, from_label
from mooring.guest.clock import ClockStatus, StopReason
from mooring.host.untrusted import parse_json
from mooring.kernels.listing import KernelEntry, kernels_of
from mooring.sessions.folder import SessionFolder

if TYPE_CHECKING:
    from mooring.sessions.history import PastSession
    from mooring.spec.model import SessionSpec


class State(str, Enum):
    """What a session is doing.

    ``unknown`` means that the engine cannot be reached: the session is neither idle nor gone, and
    is left alone. A ``gone`` session has been removed and exists only in the history.
    """

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    LOST = "lost"
    UNKNOWN = "unknown"
    GONE = "gone"

    def __str__(self) -> str:
        return self.value


#: States of a session whose container does not run yet
LAUNCHING = (State.STARTING, State.PENDING)
# States in which a session's container holds its GPUs; a queued session may have had some before
_HOLDING = (State.STARTING, State.RUNNING, State.PAUSED, State.UNKNOWN)

#: The keys of ``ps --json`` and of REST responses
FIELDS = (
    "name",
    "id",
    "state",
    "reason",
    "image",
    "owner",
    "created_at",
    "exit_code",
    "kernels",
    "busy_kernels",
    "idle_stop_in_s",
    "max_stop_in_s",
    "held_for_s",
    "active_signals",
    "failed_probes",
    "cpu_percent",
    "cpus",
    "memory_bytes",
    "memory_limit_bytes",
    "gpus",
    "claims",
    "gpu_unused_s",
    "degraded",
    "priority",
    "changed_at",
    "foreign",
    "waiting",
    "notebook",
    "ports",
    "container",
)

REBOOTED = "the machine was restarted"

# By the engine's name of the container's state; "stopping" and "stopped" are Podman's
_STATES = {
    "running": State.RUNNING,
    "paused": State.PAUSED,
    "created": State.STARTING,
    "restarting": State.STARTING,
    "stopping": State.RUNNING,
    "stopped": State.STOPPED,
    "exited": State.STOPPED,
    "dead": State.STOPPED,
    "removing": State.STOPPED,
}


@dataclass(frozen=True)
class Session:
    """A snapshot of a session.

    Attributes:
        container: the engine's id; empty for a session without a container.
        created_at: seconds since the epoch.
        exit_code: of its main process; None until that has exited.
        declared: its spec as declared, without secrets; ``spec`` is the same, typed.
        clock: the last status that its clock wrote; None before the first sample.
        end: why its clock ended it; None if the clock did not.
        out_of_memory: its main process was killed for lack of memory.
        waiting: what the creation waits for, in one line.
        notebook: absolute path of the notebook whose kernel it was created for; empty for none.
        ports: pairs of a port on 127.0.0.1 and the port in the session that it publishes.
        claims: the GPUs, or shares of GPUs, of its container; see ``held_claims``.
        degraded: what a running session has lost (``gpu lost``); empty for nothing.
        foreign: it belongs to another installation, and is known by its container alone.
        changed_at: time of its last change of state, in seconds since the epoch; 0 if unknown.
    """

    id: str
    name: str
    owner: str
    state: State
    image: str
    container: str
    created_at: float
    exit_code: int | None
    declared: Mapping[str, Any]
    clock: ClockStatus | None
    end: StopReason | None
    kernels: tuple[KernelEntry, ...]
    lost_because: str = ""
    out_of_memory: bool = False
    waiting: str = ""
    notebook: str = ""
    ports: tuple[tuple[int, int], ...] = ()
    claims: tuple[Claim, ...] = ()
    degraded: str = ""
    foreign: bool = False
    priority: int = 0
    changed_at: float = 0.0

    @cached_property
    def spec(self) -> SessionSpec:
        """The spec as declared, without secrets; see ``SessionSpec.from_public_dict``.

        Raises:
            SpecError: the spec was written by another version of mooring and cannot be read.
        """
        from mooring.spec.model import SessionSpec

        return SessionSpec.from_public_dict(self.declared)

    @property
    def reason(self) -> str:
        """Why the session does not run, in a few words; empty while it runs."""
        if self.state in (State.LOST, State.GONE):
            return self.lost_because
        if self.state is not State.STOPPED:
            return ""
        if self.end is not None:
            return str(self.end)
        if self.out_of_memory:
            return describe_out_of_memory(self.declared)
        if not self.exit_code:
            return "ended by itself"
        return f"exit code {self.exit_code}"

    @property
    def only_kernels(self) -> bool:
        """Whether it has no main process: it was declared for kernels and without a command."""
        return bool(self.declared.get("kernel")) and not self.declared.get("command")

    @property
    def live_kernels(self) -> tuple[KernelEntry, ...]:
        """The kernels that run in the session."""
        if self.state is not State.RUNNING:
            return ()
        return tuple(kernel for kernel in self.kernels if kernel.exit is None)

    @property
    def held_claims(self) -> tuple[Claim, ...]:
        """The GPUs, or shares of GPUs, that it holds now; a session that has ended holds none."""
        return self.claims if self.state in _HOLDING else ()

    def to_dict(self) -> dict[str, Any]:
        """Return the session as a JSON-serializable dict whose keys are ``FIELDS``.

        Deadlines are in seconds from now, None for never.
        """
        clock = self.clock if self.state is State.RUNNING else None
        return {
            "name": self.name,
            "id": self.id,
            "state": str(self.state),
            "reason": self.reason,
            "image": self.image,
            "owner": self.owner,
            "created_at": round(self.created_at, 3),
            "exit_code": self.exit_code,
            "kernels": len(self.live_kernels),
            "busy_kernels": sum(kernel.busy for kernel in self.live_kernels),
            "idle_stop_in_s": _rounded(clock.idle_stop_in_s) if clock else None,
            "max_stop_in_s": _rounded(clock.max_stop_in_s) if clock else None,
            "held_for_s": _rounded(clock.held_for_s) if clock else 0,
            "active_signals": list(clock.active_signals) if clock else [],
            "failed_probes": list(clock.failed_probes) if clock else [],
            "cpu_percent": clock.cpu_percent if clock else None,
            "cpus": self.declared.get("cpus"),
            "memory_bytes": clock.memory_bytes if clock else None,
            "memory_limit_bytes": self.declared.get("memory"),
            "gpus": self.declared.get("gpus"),
            "claims": [{"gpu": claim.gpu, "share": claim.share} for claim in self.claims],
            "gpu_unused_s": _rounded(clock.gpu_unused_s) if clock else None,
            "degraded": self.degraded,
            "priority": self.priority,
            "changed_at": round(self.changed_at, 3),
            "foreign": self.foreign,
            "waiting": self.waiting,
            "notebook": self.notebook,
            "ports": [{"session": inside, "local": here} for here, inside in self.ports],
            "container": self.container,
        }


def describe_out_of_memory(declared: Mapping[str, Any]) -> str:
    """Describe a process killed for lack of memory, with the declared limit, if any."""
    from mooring.spec.units import format_size

    limit = declared.get("memory")
    return f"out of memory (limit {format_size(limit)})" if limit else "out of memory"


def from_container(row: Container, folder: SessionFolder, boot_id: str) -> Session:
    """Build a session from its container's row in a listing and its folder on this machine.

    Args:
        row: the container as listed.
        folder: the session's folder.
        boot_id: this machine's current boot id; if the record has a different one, the machine
            was restarted while the session ran.
    """
    labels = row.labels
    record = folder.record()
    identity = record.identity
    state = _STATES.get(row.state, State.UNKNOWN)
    if not folder.ready:
        # whatever the container's state: the creation is not complete
        state = State.PENDING if folder.queued else State.STARTING
    elif state is State.RUNNING and folder.unverified:
        state = State.STARTING
    elif row.state == "created":
        state = State.STOPPED  # recreated with different GPUs, and not started since
    end = folder.clock.end() if state is State.STOPPED else None
    rebooted = record.exists and (record.state.boot_id or boot_id) != boot_id
    lost = state is State.STOPPED and end is None and rebooted
    if state is State.STOPPED and folder.queued and folder.in_creation():
        state, lost = State.PENDING, False  # queued, to be started again
    declared = {**_declared(labels.get(LABEL_SPEC, "{}")), **record.state.limits}
    return Session(
        id=labels.get(LABEL_ID, ""),
        name=name_of(labels, row.name),
        owner=owner_of(labels),
        state=State.LOST if lost else state,
        image=str(declared.get("image", "host")),
        container=row.id,
        created_at=identity.created_at or row.created_at,
        exit_code=row.exit_code,
        declared=declared,
        clock=folder.clock.status() if state is State.RUNNING else None,
        end=end,
        kernels=tuple(kernels_of(folder.guest)),
        lost_because=REBOOTED if lost else "",
        waiting=folder.waiting() if state in LAUNCHING else "",
        notebook=identity.notebook,
        ports=row.ports,
        claims=_claims(labels, declared),
        priority=_priority(declared),
        changed_at=max(record.state.changed_at, row.created_at, end.time if end else 0.0),
    )


def from_foreign(row: Container) -> Session:
    """Build a session of another installation, of which only the container can be read."""
    labels = row.labels
    declared = _declared(labels.get(LABEL_SPEC, "{}"))
    return Session(
        id=labels.get(LABEL_ID, ""),
        name=name_of(labels, row.name),
        owner=owner_of(labels),
        state=_STATES.get(row.state, State.UNKNOWN),
        image=str(declared.get("image", "host")),
        container=row.id,
        created_at=row.created_at,
        exit_code=row.exit_code,
        declared=declared,
        clock=None,
        end=None,
        kernels=(),
        ports=row.ports,
        claims=_claims(labels, declared),
        foreign=True,
        priority=_priority(declared),
        changed_at=row.created_at,
    )


def from_record(folder: SessionFolder, state: State, because: str = "") -> Session:
    """Build a session from its folder alone: lost, unknown, or without a container yet.

    Args:
        folder: the session's folder.
        state: the state; ``starting`` becomes ``pending`` if the session is queued.
        because: why it is lost or unknown.
    """
    record = folder.record()
    identity = record.identity
    if state is State.STARTING and folder.queued:
        state = State.PENDING
    return Session(
        id=folder.id,
        name=identity.name or folder.id,
        owner=identity.owner,
        state=state,
        image=str(identity.spec.get("image", "host")),
        container="" if state is State.LOST else record.state.container,
        created_at=identity.created_at,
        exit_code=None,
        declared={**identity.spec, **record.state.limits},
        clock=folder.clock.status() if state is State.UNKNOWN else None,
        end=None,
        kernels=tuple(kernels_of(folder.guest)),
        lost_because=because,
        waiting=folder.waiting() if state in LAUNCHING else "",
        notebook=identity.notebook,
        priority=_priority(identity.spec),
        changed_at=record.state.changed_at or identity.created_at,
    )


def from_history(past: PastSession) -> Session:
    """Build a session that is gone from its row in the history."""
    return Session(
        id=past.id,
        name=past.name,
        owner=past.owner,
        state=State.GONE,
        image=past.image,
        container="",
        created_at=past.created_at,
        exit_code=past.exit_code,
        declared=past.spec,
        clock=None,
        end=StopReason(past.reason, past.ended_at or 0.0, "", ""),
        kernels=(),
        lost_because=past.reason or "removed",
        priority=_priority(past.spec),
        changed_at=past.ended_at or past.created_at,
    )


def _declared(label: str) -> dict[str, Any]:
    """Parse a spec label, which is untrusted; an empty dict if it is not valid."""
    try:
        return dict(parse_json(label))
    except (ValueError, TypeError):
        return {}


def _claims(labels: Mapping[str, str], declared: Mapping[str, Any]) -> tuple[Claim, ...]:
    """Return the claims in a session's label; none if its spec requests no GPUs.

    Earlier versions wrote no label then, and the image may have one.
    """
    return from_label(labels.get(LABEL_GPUS, "")) if declared.get("gpus") else ()


def _priority(declared: Mapping[str, Any]) -> int:
    priority = declared.get("priority", 0)
    return priority if isinstance(priority, int) else 0


def _rounded(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, int(seconds))
