"""A session's record: ``record.json`` in its folder, typed.

On disk it is one flat JSON object, the same in every version, so that two versions can share a
state folder during an upgrade. Each key has one writer:

- ``Identity``: ``SessionFolder.create``, once;
- ``Plan``: the launch, before the container exists;
- ``RecordState``: the process that changes a session's state, key by key.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from mooring.host import atomic, locks
from mooring.host.untrusted import parse_json

if TYPE_CHECKING:
    from typing_extensions import Unpack

RECORD = "record.json"
_NONE: Mapping[str, Any] = MappingProxyType({})


class Identity(NamedTuple):
    """The part of a record that is fixed when the session is created.

    Attributes:
        created_at: seconds since the epoch.
        spec: as declared, without its secrets; see ``SessionSpec.public_dict``.
        project: absolute path of the folder that the spec's paths are relative to.
        tty: whether the main process has a terminal.
        notebook: absolute path of the notebook whose kernel it was created for; empty for none.
        ends_with_kernels: whether it was created for a kernel, and is removed with its last one.
    """

    id: str = ""
    name: str = ""
    owner: str = ""
    created_at: float = 0.0
    spec: Mapping[str, Any] = _NONE
    project: str = ""
    tty: bool = True
    notebook: str = ""
    ends_with_kernels: bool = False


class Layout(NamedTuple):
    """Where a session's files are, for copying while it does not run.

    Attributes:
        workdir: working directory of its main process.
        binds: source, target and read-only flag of each bind mount.
        image: targets that the image itself mounts from this machine.
    """

    workdir: str
    binds: tuple[tuple[str, str, bool], ...]
    image: tuple[str, ...]


class Plan(NamedTuple):
    """The part of a record that the launch computes.

    Attributes:
        mounts: source and target of each mount that the spec or the defaults grant.
        layout: None in records of versions that could not copy files from stopped sessions.
        python: the interpreter in the container that has ipykernel; empty for none.
        note: a sentence about the mounts, for the user.
        on_top: source, target and read-only flag of each bind mount on top of the layout's, see
            ``mooring.images.overmounts``; None in records of versions that had none.
        file_systems: the mount points, other than ``/``, that the sources of its mounts are on.
    """

    mounts: tuple[tuple[str, str], ...] = ()
    layout: Layout | None = None
    python: str = ""
    note: str = ""
    on_top: tuple[tuple[str, str, bool], ...] | None = None
    file_systems: tuple[str, ...] = ()


class Removal(NamedTuple):
    """A removal that has begun.

    Attributes:
        process: process mark of who removes the session; empty if that has failed.
        actor: the actor recorded in the history.
        because: the reason recorded in the history; empty if a user asked for the removal.
    """

    process: str
    actor: str
    because: str


class RecordState(NamedTuple):
    """The part of a record that changes while a session exists.

    Attributes:
        container: the engine's id; empty until there is a container.
        boot_id: this machine's boot id when the session was last started.
        started: this machine's uptime then, in seconds; 0 if unknown.
        changed_at: time of the last change of state, in seconds since the epoch; 0 if unknown.
        requested: whether its request is in the history.
        end_recorded: whether its end is in the history.
        out_of_memory: whether its main process was killed for lack of memory; None if unchecked.
        remove_with: a process mark; remove the session once it has ended and that process exited.
        removing: its removal, if one has begun: without a container, it is not lost then.
        recreating: name of the draft container and process mark of its creator, during
            ``recreate``.
        recreated: its container was created from a snapshot image.
        recreated_from: id of the previous container, until that is removed.
        gpu_sharing: how each shared GPU is limited, by UUID.
        limits: keys of the spec that were updated since, with their values.
        sources: device and inode of the source of each mount that the spec or the defaults grant,
            by its path, when the session was last started.
    """

    container: str = ""
    boot_id: str = ""
    started: float = 0.0
    changed_at: float = 0.0
    requested: bool = False
    end_recorded: bool = False
    out_of_memory: bool | None = None
    remove_with: str = ""
    removing: Removal | None = None
    recreating: tuple[str, str] | None = None
    recreated: bool = False
    recreated_from: str = ""
    gpu_sharing: Mapping[str, str] = _NONE
    limits: Mapping[str, float] = _NONE
    sources: Mapping[str, tuple[int, int]] = _NONE


class StateChanges(TypedDict, total=False):
    """The fields of ``RecordState``, as keyword arguments of ``update_state``."""

    container: str
    boot_id: str
    started: float
    changed_at: float
    requested: bool
    end_recorded: bool
    out_of_memory: bool | None
    remove_with: str
    removing: Removal | None
    recreating: tuple[str, str] | None
    recreated: bool
    recreated_from: str
    gpu_sharing: Mapping[str, str]
    limits: Mapping[str, float]
    sources: Mapping[str, tuple[int, int]]


class SessionRecord(NamedTuple):
    """A session's record; all fields have their defaults if it cannot be read."""

    identity: Identity = Identity()
    plan: Plan = Plan()
    state: RecordState = RecordState()

    @property
    def exists(self) -> bool:
        """Whether the record exists and can be read."""
        return bool(self.identity.id)


# Names on disk that differ from the fields': those of the first version
_ON_DISK = {
    "notebook": "opened_by",
    "remove_with": "remove",
    "recreating": "moving",
    "recreated": "moved",
    "recreated_from": "moved_from",
}


def read(folder: Path) -> SessionRecord:
    """Read a session's record, written by this version or another one."""
    try:
        flat = parse_json((folder / RECORD).read_text(encoding="utf-8"))
        return _parse(flat)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return SessionRecord()


def write(folder: Path, identity: Identity, state: RecordState) -> None:
    """Write a new session's record.

    Args:
        folder: the session's folder.
        identity: the part that is fixed.
        state: the initial state.

    Raises:
        OSError
    """
    atomic.write_text(folder / RECORD, json.dumps(_flat(identity) | _flat(state)))


def write_plan(folder: Path, plan: Plan) -> None:
    """Add the launch's plan to a session's record.

    Raises:
        OSError
    """
    layout = plan.layout
    _change(
        folder,
        {
            "mounts": [list(mount) for mount in plan.mounts],
            "layout": layout
            and {
                "workdir": layout.workdir,
                "binds": [list(bind) for bind in layout.binds],
                "image": list(layout.image),
            },
            "on_top": None if plan.on_top is None else [list(bind) for bind in plan.on_top],
            "file_systems": list(plan.file_systems),
            "python": plan.python,
            "note": plan.note,
        },
    )


def update_state(folder: Path, **changes: Unpack[StateChanges]) -> None:
    """Change some fields of the state; concurrent changes of other fields are kept.

    Raises:
        OSError: the folder is gone, or the disk is full.
    """
    _change(folder, {_ON_DISK.get(key, key): value for key, value in changes.items()})


def _change(folder: Path, changes: dict[str, Any]) -> None:
    with locks.locked(folder, create=False):
        try:
            flat = parse_json((folder / RECORD).read_text(encoding="utf-8"))
        except ValueError:
            flat = {}
        atomic.write_text(folder / RECORD, json.dumps(flat | changes))


def _flat(part: Identity | RecordState) -> dict[str, Any]:
    values = {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in part._asdict().items()
    }
    # an earlier version falls back to the time of creation if the key is missing
    values = {name: value for name, value in values.items() if (name, value) != ("changed_at", 0.0)}
    return {_ON_DISK.get(name, name): value for name, value in values.items()}


def _keys(kind: type[Any]) -> list[tuple[str, str]]:
    """Return the field names of a section, each with its name on disk."""
    return [(name, _ON_DISK.get(name, name)) for name in kind._fields]


_IDENTITY, _PLAN, _STATE = _keys(Identity), _keys(Plan), _keys(RecordState)


def _parse(flat: dict[str, Any]) -> SessionRecord:
    def section(keys: list[tuple[str, str]]) -> dict[str, Any]:
        return {name: flat[key] for name, key in keys if flat.get(key) is not None}

    state = section(_STATE)
    with contextlib.suppress(TypeError, ValueError):
        draft, mark = state.pop("recreating", None) or (None, None)
        if draft is not None:
            state["recreating"] = (draft, mark)
    with contextlib.suppress(TypeError, ValueError):
        removal = state.pop("removing", None)
        if removal is not None:
            state["removing"] = Removal(*map(str, removal))
    plan = Plan()
    with contextlib.suppress(TypeError, ValueError, KeyError):  # an invalid plan alone is dropped
        plan = _plan(section(_PLAN))
    return SessionRecord(Identity(**section(_IDENTITY)), plan, RecordState(**state))


def _plan(known: dict[str, Any]) -> Plan:
    mounts = tuple((source, target) for source, target in known.pop("mounts", ()))
    layout = known.pop("layout", None)
    if layout is not None:
        layout = Layout(
            workdir=layout["workdir"],
            binds=tuple((source, target, ro) for source, target, ro in layout["binds"]),
            image=tuple(layout["image"]),
        )
    on_top = known.pop("on_top", None)
    if on_top is not None:
        on_top = tuple((source, target, ro) for source, target, ro in on_top)
    file_systems = tuple(known.pop("file_systems", ()))
    return Plan(mounts=mounts, layout=layout, on_top=on_top, file_systems=file_systems, **known)
