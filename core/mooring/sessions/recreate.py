"""A stopped session whose own GPUs are taken goes on with others: the same files, a new container.

A container keeps the devices that it was made with, and what limits it to a share of them. So
another one is made over a picture of its files; whatever cuts that off, the reconciler finds one
session and removes the rest.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable

from mooring.engines.base import Container, Engine
from mooring.errors import EngineError, MooringError
from mooring.gpus.claims import Claim, to_label
from mooring.gpus.devices import GUEST_PIPES, MPS_VARIABLES, devices_of
from mooring.host.processes import alive, process_mark
from mooring.labels import LABEL_GPUS, LABEL_ID, container_name
from mooring.sessions.model import Session
from mooring.sessions.record import Folder


def picture(session_id: str) -> str:
    """The image that holds a moved session's files."""
    return f"mooring/moved:{session_id}"


def move(engine: Engine, session: Session, claims: Iterable[Claim]) -> str:
    """Make a stopped session's container anew, with other GPUs.

    Args:
        claims: granted; not those that it had, or what limits it to them has changed.

    Returns:
        The id of its container now; it has not been started.

    Raises:
        EngineError
    """
    folder, claims = Folder.open(session.id), tuple(claims)
    name = container_name(session.name, session.id)
    devices = devices_of(claims)
    with contextlib.suppress(EngineError):  # of one that was cut off; one in use stays
        forget(engine, folder)
    draft = f"{name}-{secrets.token_hex(3)}"  # one that was cut off late still has its own
    folder.update_record(moving=[draft, process_mark(os.getpid())], moved=True)
    own = session.spec.get("env", {})
    made = engine.remake(
        session.container,
        image=picture(session.id),
        name=draft,
        labels={LABEL_GPUS: to_label(claims)},
        env={key: own.get(key) for key in MPS_VARIABLES} | dict(devices.env),
        binds={GUEST_PIPES: None} | {bind.target: bind for bind in devices.binds},
        groups=devices.groups,
        gpus=devices.requested,
        devices=devices.nodes,
    )
    folder.update_record(
        container=made, moved_from=session.container, moving=None, gpu_sharing=devices.sharing
    )
    engine.remove(session.container)
    folder.update_record(moved_from=None)
    engine.rename(made, name)
    return made


def limits_changed(session: Session, claims: Iterable[Claim]) -> bool:
    """Whether something else holds a session to its share now: an MPS daemon came, or went."""
    claims = tuple(claims)
    if all(claim.share >= 1 for claim in claims):
        return False
    known = Folder.open(session.id).record().get("gpu_sharing") or {}
    now = devices_of(claims).sharing
    return any(known.get(gpu) != statement for gpu, statement in now.items())


def forget(engine: Engine, folder: Folder) -> None:
    """Remove the picture of a session's files, if there is one; its containers are gone."""
    if folder.record().get("moved"):
        engine.remove_image(picture(folder.id))


def clear(engine: Engine, strangers: Iterable[Container]) -> None:
    """Remove what a move that was cut off has left, on either side of its middle."""
    for row in strangers:
        record = Folder.open(row.labels.get(LABEL_ID, "")).record()
        name, mark = record.get("moving") or ("", "")
        unfinished = bool(name) and row.name == name and not alive(mark)
        if unfinished or (record and row.id == record.get("moved_from")):
            with contextlib.suppress(MooringError, OSError):
                engine.remove(row.id)
                if unfinished:
                    Folder.open(record["id"]).update_record(moving=None)
