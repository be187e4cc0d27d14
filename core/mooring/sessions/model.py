"""The value that all doors show: a session, as its container, its folder and its clock tell it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mooring.engines.base import Container
from mooring.gpus.claims import Claim, from_label
from mooring.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_NAME,
    LABEL_OWNER,
    LABEL_SPEC,
    container_name,
)
from mooring.sessions.history import PastSession
from mooring.sessions.record import ClockStatus, End, Folder, KernelEntry


class State(str, Enum):
    """What a session is doing.

    ``unknown`` means that the engine does not tell: it is neither idle nor gone, and nothing is
    done to it. ``gone`` ones are removed: only history remembers them.
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


_ID = re.compile("[0-9a-f]{12}")

# The shape of `ps --json` and of REST's answers
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
    "idle_in_s",
    "max_in_s",
    "held_for_s",
    "active",
    "unknown",
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
    "opened_by",
    "ports",
    "container",
)


REBOOTED = "the machine was restarted"


@dataclass(frozen=True)
class Session:
    """A session at one moment.

    Attributes:
        container: the engine's id; empty for one that has none (yet, or any more).
        created_at: seconds since the epoch.
        exit_code: of its main process, once it has ended.
        end: why its clock ended it, if it did.
        out_of_memory: its main process was killed for want of memory.
        waiting: what a starting one waits for, in a line.
        opened_by: absolute path of the notebook whose kernel it was made for.
        claims: the GPUs that it holds, or its shares of them.
        degraded: what it has lost while it goes on: ``gpu lost``; empty for nothing.
        foreign: of another installation; only its container tells of it.
        changed_at: seconds since the epoch, of its last change of state; 0 for unknown.
        ports: published on 127.0.0.1 while it runs: this machine's, and the session's.
    """

    id: str
    name: str
    owner: str
    state: State
    image: str
    container: str
    created_at: float
    exit_code: int | None
    spec: dict[str, Any]
    clock: ClockStatus | None
    end: End | None
    kernels: tuple[KernelEntry, ...]
    lost_because: str = ""
    out_of_memory: bool = False
    waiting: str = ""
    opened_by: str = ""
    ports: tuple[tuple[int, int], ...] = ()
    claims: tuple[Claim, ...] = ()
    degraded: str = ""
    foreign: bool = False
    priority: int = 0
    changed_at: float = 0.0

    @property
    def reason(self) -> str:
        """Why it is not running, in a few words; empty while it is."""
        if self.state in (State.LOST, State.GONE):
            return self.lost_because
        if self.state is not State.STOPPED:
            return ""
        if self.end is not None:
            words = {
                "idle": "idle timeout",
                "max_duration": "maximum duration",
                "stopped": self.end.detail or "on request",
                "missing": f"command {self.end.detail}",
                "unrunnable": f"command {self.end.detail}",
            }
            return words.get(self.end.reason, self.end.reason)
        if self.out_of_memory:
            return out_of_memory(self.spec)
        if not self.exit_code:
            return "ended by itself"
        return f"exit code {self.exit_code}"

    @property
    def live_kernels(self) -> tuple[KernelEntry, ...]:
        if self.state is not State.RUNNING:
            return ()
        return tuple(kernel for kernel in self.kernels if kernel.exit is None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the keys are ``FIELDS``. Times to come are in seconds, null for never."""
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
            "idle_in_s": _rounded(clock.idle_in_s) if clock else None,
            "max_in_s": _rounded(clock.max_in_s) if clock else None,
            "held_for_s": _rounded(clock.held_for_s) if clock else 0,
            "active": list(clock.active) if clock else [],
            "unknown": list(clock.unknown) if clock else [],
            "cpu_percent": clock.cpu_percent if clock else None,
            "cpus": self.spec.get("cpus"),
            "memory_bytes": clock.memory_bytes if clock else None,
            "memory_limit_bytes": self.spec.get("memory"),
            "gpus": self.spec.get("gpus"),
            "claims": [{"gpu": claim.gpu, "share": claim.share} for claim in self.claims],
            "gpu_unused_s": _rounded(clock.gpu_unused_s) if clock else None,
            "degraded": self.degraded,
            "priority": self.priority,
            "changed_at": round(self.changed_at, 3),
            "foreign": self.foreign,
            "waiting": self.waiting,
            "opened_by": self.opened_by,
            "ports": [{"session": inside, "local": here} for here, inside in self.ports],
            "container": self.container,
        }


def out_of_memory(spec: dict[str, Any]) -> str:
    """What is said of a process that was killed for want of memory: with the limit, if any."""
    from mooring.spec.units import format_size

    limit = spec.get("memory")
    return f"out of memory (limit {format_size(limit)})" if limit else "out of memory"


def is_own(row: Container) -> bool:
    """Whether this installation made that container.

    Whoever may use the engine may put any label on a container of theirs; what nobody else can
    write is the session's record, and that names its container.
    """
    session_id = row.labels.get(LABEL_ID, "")
    if not _ID.fullmatch(session_id):
        return False
    record = Folder.open(session_id).record()
    if record.get("id") != session_id:
        return False
    made = record.get("container")
    if made:
        return bool(made == row.id)
    return row.name == container_name(record.get("name", ""), session_id)


# On their way to a container that runs
COMING = (State.STARTING, State.PENDING)

_STATES = {
    "running": State.RUNNING,
    "paused": State.PAUSED,
    "created": State.STARTING,
    "restarting": State.STARTING,
    # Podman's own words
    "stopping": State.RUNNING,
    "stopped": State.STOPPED,
    "exited": State.STOPPED,
    "dead": State.STOPPED,
    "removing": State.STOPPED,
}


def from_container(row: Container, boot_id: str) -> Session:
    """A session from its container's row in a listing and its folder on this machine.

    Args:
        boot_id: this machine's now; another one in the record means that the machine was
            started anew while the session ran.
    """
    labels = row.labels
    folder = Folder.open(labels.get(LABEL_ID, ""))
    record = folder.record()
    state = _STATES.get(row.state, State.UNKNOWN)
    if not folder.ready:
        # whatever became of it: its creator tells
        state = State.PENDING if folder.queued else State.STARTING
    elif row.state == "created":
        state = State.STOPPED  # made anew with other GPUs, and not started since
    end = folder.end() if state is State.STOPPED else None
    rebooted = bool(record) and record.get("boot_id", boot_id) != boot_id
    lost = state is State.STOPPED and end is None and rebooted
    if state is State.STOPPED and folder.queued and folder.being_created():
        state, lost = State.PENDING, False  # it is about to be started again
    try:
        spec = json.loads(labels.get(LABEL_SPEC, "{}"))
    except ValueError:
        spec = {}
    return Session(
        id=labels.get(LABEL_ID, ""),
        name=labels.get(LABEL_NAME, row.name),
        owner=labels.get(LABEL_OWNER, ""),
        state=State.LOST if lost else state,
        image=spec.get("image", "host"),
        container=row.id,
        created_at=record.get("created_at", row.created_at),
        ports=row.ports,
        exit_code=row.exit_code,
        spec=spec,
        clock=folder.status() if state is State.RUNNING else None,
        end=end,
        kernels=tuple(folder.kernels()),
        lost_because=REBOOTED if lost else "",
        waiting=folder.waiting() if state in COMING else "",
        opened_by=record.get("opened_by", ""),
        claims=from_label(labels.get(LABEL_GPUS, "")),
        priority=_priority(spec),
        changed_at=max(record.get("changed_at", 0.0), row.created_at, end.time if end else 0.0),
    )


def from_foreign(row: Container) -> Session:
    """A session of another installation: its container is all that tells of it."""
    labels = row.labels
    try:
        spec = dict(json.loads(labels.get(LABEL_SPEC, "{}")))
    except (ValueError, TypeError, RecursionError):
        spec = {}
    return Session(
        id=labels.get(LABEL_ID, ""),
        name=labels.get(LABEL_NAME, row.name),
        owner=labels.get(LABEL_OWNER, ""),
        state=_STATES.get(row.state, State.UNKNOWN),
        image=str(spec.get("image", "host")),
        container=row.id,
        created_at=row.created_at,
        exit_code=row.exit_code,
        spec=spec,
        clock=None,
        end=None,
        kernels=(),
        ports=row.ports,
        claims=from_label(labels.get(LABEL_GPUS, "")),
        foreign=True,
        priority=_priority(spec),
        changed_at=row.created_at,
    )


def from_record(folder: Folder, state: State, because: str) -> Session:
    """A session of which only its folder speaks: lost, unknown, or not yet a container."""
    record = folder.record()
    if state is State.STARTING and folder.queued:
        state = State.PENDING
    return Session(
        id=folder.id,
        name=record.get("name", folder.id),
        owner=record.get("owner", ""),
        state=state,
        image=record.get("spec", {}).get("image", "host"),
        container="" if state is State.LOST else record.get("container", ""),
        created_at=record.get("created_at", 0.0),
        exit_code=None,
        spec=record.get("spec", {}),
        clock=folder.status() if state is State.UNKNOWN else None,
        end=None,
        kernels=tuple(folder.kernels()),
        lost_because=because,
        waiting=folder.waiting() if state in COMING else "",
        opened_by=record.get("opened_by", ""),
        priority=_priority(record.get("spec", {})),
        changed_at=record.get("changed_at", record.get("created_at", 0.0)),
    )


def from_history(past: PastSession) -> Session:
    """A session that is gone, as history remembers it."""
    return Session(
        id=past.id,
        name=past.name,
        owner=past.owner,
        state=State.GONE,
        image=past.image,
        container="",
        created_at=past.created_at,
        exit_code=past.exit_code,
        spec=past.spec,
        clock=None,
        end=End(past.reason, past.ended_at or 0.0, "", ""),
        kernels=(),
        lost_because=past.reason or "removed",
        priority=_priority(past.spec),
        changed_at=past.ended_at or past.created_at,
    )


def _priority(spec: dict[str, Any]) -> int:
    found = spec.get("priority", 0)
    return found if isinstance(found, int) else 0


def _rounded(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, int(seconds))
