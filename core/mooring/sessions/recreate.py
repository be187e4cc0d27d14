"""Starting a stopped session with different GPUs: a new container with the same files.

The devices of a container, and its limits to a share of them, are fixed at creation, so a new one
is created from a snapshot of its files. Wherever this is interrupted, the reconciler still finds
one session, and removes the other container.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable

from mooring.engines.base import Container
from mooring.engines.capabilities import SupportsRecreate, require
from mooring.engines.labels import LABEL_GPUS, LABEL_ID, container_name
from mooring.errors import EngineError
from mooring.gpus.claims import Claim, to_label
from mooring.gpus.devices import GUEST_PIPES, MPS_VARIABLES, devices_of
from mooring.host.processes import alive, process_mark
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder, is_session_id
from mooring.sessions.model import Session


def snapshot_image(session_id: str) -> str:
    """Return the name of the image that holds a recreated session's files."""
    return f"mooring/moved:{session_id}"


def recreate(ctx: Context, session: Session, claims: Iterable[Claim]) -> str:
    """Recreate a stopped session's container with different GPUs.

    Args:
        ctx: the client's context.
        session: the stopped session.
        claims: the granted claims, which differ from the session's or are limited differently.

    Returns:
        The id of the new container, which is not started.

    Raises:
        EngineError
        NotSupported: the engine cannot recreate containers.
    """
    engine = require(ctx.engine, SupportsRecreate)
    folder, claims = ctx.folder(session.id), tuple(claims)
    name = container_name(session.name, session.id)
    devices = devices_of(claims)
    with contextlib.suppress(EngineError):  # a previous snapshot; an image in use is kept
        forget(ctx, folder)
    draft = f"{name}-{secrets.token_hex(3)}"  # unique: an interrupted run may have left its draft
    folder.update_state(recreating=(draft, process_mark(os.getpid())), recreated=True)
    own = session.declared.get("env", {})
    container = engine.recreate(
        session.container,
        image=snapshot_image(session.id),
        name=draft,
        labels={LABEL_GPUS: to_label(claims)},
        env={key: own.get(key) for key in MPS_VARIABLES} | dict(devices.env),
        binds={GUEST_PIPES: None} | {bind.target: bind for bind in devices.binds},
        groups=devices.groups,
        gpus=devices.requested,
        devices=devices.nodes,
        cdi_devices=devices.cdi,
    )
    folder.update_state(
        container=container,
        recreated_from=session.container,
        recreating=None,
        gpu_sharing=devices.sharing,
    )
    ctx.engine.remove(session.container)
    folder.update_state(recreated_from="")
    engine.rename(container, name)
    return container


def limits_changed(ctx: Context, session: Session, claims: Iterable[Claim]) -> bool:
    """Return whether shares are limited differently now: an MPS daemon was started or stopped.

    Args:
        ctx: the client's context.
        session: the stopped session.
        claims: the granted claims.
    """
    claims = tuple(claims)
    if all(claim.share >= 1 for claim in claims):
        return False
    known = ctx.folder(session.id).record().state.gpu_sharing
    now = devices_of(claims).sharing
    return any(known.get(gpu) != statement for gpu, statement in now.items())


def forget(ctx: Context, folder: SessionFolder) -> None:
    """Remove the snapshot image of a session whose containers are gone, if there is one."""
    if folder.record().state.recreated and isinstance(ctx.engine, SupportsRecreate):
        ctx.engine.remove_image(snapshot_image(folder.id))


def clear(ctx: Context, stranger: Container) -> None:
    """Remove a container that an interrupted ``recreate`` left; leave any other alone.

    That is the draft, until the record names the new container, and the previous one after that.

    Args:
        ctx: the client's context.
        stranger: a container with this installation's label that is no session's current one.

    Raises:
        EngineError
        OSError: the record cannot be written.
    """
    session_id = stranger.labels.get(LABEL_ID, "")
    if not is_session_id(session_id):
        return
    folder = ctx.folder(session_id)
    state = folder.record().state
    name, mark = state.recreating or ("", "")
    unfinished = bool(name) and stranger.name == name and not alive(mark)
    if unfinished or stranger.id == state.recreated_from:
        ctx.engine.remove(stranger.id)
        if unfinished:
            folder.update_state(recreating=None)
