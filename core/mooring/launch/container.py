"""A session's container: its configuration and its files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring._version import __version__
from mooring.engines.base import Bind, ContainerConfig, Engine
from mooring.engines.capabilities import SupportsLateNetwork, require
from mooring.engines.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    LABEL_OWNER,
    LABEL_SPEC,
    LABEL_VERSION,
    container_name,
)
from mooring.errors import ImageError
from mooring.gpus.claims import Claim, to_label
from mooring.gpus.devices import Devices, devices_of
from mooring.guest import bundle
from mooring.guest.paths import GUEST_RUN
from mooring.host import trees
from mooring.host.filesystems import mount_point_of, mount_points
from mooring.host.memory import total_memory
from mooring.host.users import User, caller, has_user, with_group, with_user
from mooring.images import images, mounts
from mooring.images.environment import ENVIRONMENT, write_environment
from mooring.images.image_links import refuse_links
from mooring.images.mount_points import create_mount_points
from mooring.images.mounts import MountPlan
from mooring.images.overmounts import in_mount_order
from mooring.launch.groups import denied_modes, session_user
from mooring.launch.plan import LaunchPlan, planned_again
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.lifecycle import GRACE_S
from mooring.sessions.record import Layout, Plan
from mooring.spec.ports import pairs

if TYPE_CHECKING:
    from mooring.spec.model import SessionSpec

SAMPLE_S = 5.0
# For root: what package managers need on any image. Other users need none.
ROOT_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")


def prepare_container(
    ctx: Context,
    plan: LaunchPlan,
    facts: images.ImageFacts,
    folder: SessionFolder,
    *,
    tty: bool,
    size: tuple[int, int],
    claims: tuple[Claim, ...] = (),
) -> ContainerConfig:
    """Write the guest's files to a session's folder, and return its container's configuration.

    Args:
        ctx, plan: the client's context and the launch plan.
        facts: the facts about its image.
        folder: the session's folder.
        tty: give the main process a terminal.
        size: rows and columns of the terminal.
        claims: the GPUs that were granted.

    Raises:
        SpecError, PolicyError, TrustRequired: the mounts have changed, and are not allowed now.
        ImageError: a link of the image leads one of them into another.
    """
    spec = plan.spec
    if claims:
        _refuse_replaced(ctx, facts)
    name, devices = folder.record().identity.name, devices_of(claims)
    final = planned_again(plan, _folders_for(folder, spec, facts), facts, devices)
    binds = _prepare_binds(ctx, facts, final, devices)
    user = session_user(caller(), binds, spec.groups)
    _write_guest_files(folder, spec, facts, user)
    folder.write_plan(_record(facts, final))
    folder.clock.write_settings(**_settings(spec, name, len(claims)))
    if claims:
        folder.update_state(gpu_sharing=devices.sharing)
    command = spec.argv or (None if spec.kernel else [])
    return ContainerConfig(
        name=container_name(name, folder.id),
        image=facts.reference,
        argv=bundle.main_argv(folder.programs_target, command, size if tty else None),
        user=f"{user.uid}:{user.gid}",
        groups=tuple(sorted({*user.groups, *devices.groups})),
        env=_environment(spec, facts, user, devices, folder, name, tty),
        labels=_labels(ctx, folder, name, spec, user, claims),
        binds=binds,
        workdir=final.workdir,
        hostname=name[:63],
        **_limits(spec),
        tty=tty,
        open_stdin=command is not None,
        # A kernel starts while the container is being connected; a command waits for its network
        network=bool(command is not None or spec.ports),
        denied_modes=denied_modes(user, final.granted, installs=spec.image != images.HOST),
        capabilities=ROOT_CAPABILITIES if user.uid == 0 else (),
        ports=pairs(spec.ports),
        gpus=devices.requested,
        devices=devices.nodes,
        cdi_devices=devices.cdi,
    )


def _folders_for(
    folder: SessionFolder, spec: SessionSpec, facts: images.ImageFacts
) -> mounts.SessionFolders:
    """Return the parts of a session's folder that its container sees, for its image.

    Root's sessions have the image's own files of users, if these know root: many packages add
    users, by renaming a new file over the old one, which fails where that is a mount.
    """
    own, user = folders_of(folder), caller()
    if user.uid or spec.uses_host_image or not has_user(facts.passwd, facts.group, user):
        return own
    return replace(own, etc=None)


def _refuse_replaced(ctx: Context, facts: images.ImageFacts) -> None:
    """Refuse an image whose name means another one by now: the facts are not of that one."""
    if facts.image_id not in ("", ctx.engine.image_id(facts.reference)):
        raise ImageError(
            f"image {facts.reference} was replaced while the session waited for GPUs",
            "create the session again",
        )


def _prepare_binds(
    ctx: Context, facts: images.ImageFacts, final: MountPlan, devices: Devices
) -> tuple[Bind, ...]:
    """Return all binds of a container in mount order, and create their mount points."""
    binds = in_mount_order(facts.binds, final.binds, final.on_top, devices.binds)
    refuse_links(ctx.engine, ctx.installation, facts, binds, caller())
    create_mount_points(binds, final.workdir)  # also those in the folders that lead there
    return in_mount_order(binds, final.leading)


def _limits(spec: SessionSpec) -> dict[str, Any]:
    """Return the limits of a session's container, as arguments of ``ContainerConfig``."""
    return {
        "cpus": spec.cpus,
        "memory_bytes": spec.memory,
        "pids_limit": spec.pids_limit or None,
        "shm_bytes": spec.shm or _half_the_memory(spec),
    }


def _half_the_memory(spec: SessionSpec) -> int:
    """Half of the memory that a session may use, which is the size of a tmpfs by default.

    What is in it counts as the session's memory, tmpfs(5).
    """
    machine = total_memory()
    return min(spec.memory or machine, machine) // 2


def _labels(
    ctx: Context,
    folder: SessionFolder,
    name: str,
    spec: SessionSpec,
    user: User,
    claims: tuple[Claim, ...],
) -> dict[str, str]:
    return {
        LABEL_ID: folder.id,
        LABEL_INSTALLATION: ctx.installation.id,
        LABEL_NAME: name,
        LABEL_OWNER: user.name,
        LABEL_VERSION: __version__,
        LABEL_SPEC: json.dumps(spec.public_dict()),
        LABEL_GPUS: to_label(claims),
    }


def _settings(spec: SessionSpec, name: str, gpus: int) -> dict[str, str | float]:
    """Return the settings of the session's clock."""
    return {
        "name": name,
        "idle_timeout_s": spec.idle_timeout,
        "max_duration_s": spec.max_duration,
        "sample_s": SAMPLE_S,
        "grace_s": GRACE_S,
        "record_bytes": spec.record,
        "gpus": gpus,
    }


def folders_of(folder: SessionFolder) -> mounts.SessionFolders:
    """Return the parts of a session's folder that its container sees."""
    path = Path(os.path.realpath(folder.path))
    return mounts.SessionFolders(
        home=path / "home",
        run=path / "run",
        programs=Bind(str(path / "programs"), folder.programs_target),
        secrets=path / "secrets",
        etc=path / "etc",
        empty=path / "empty",
    )


def _write_guest_files(
    folder: SessionFolder, spec: SessionSpec, facts: images.ImageFacts, user: User
) -> None:
    if spec.kernel:
        folder.programs.write("kernelhost", f"{facts.python}\n")
    if spec.preload:
        folder.programs.write("preload", "".join(f"{name}\n" for name in spec.preload))
    (folder.path / "etc" / "passwd").write_text(with_user(facts.passwd, user))
    (folder.path / "etc" / "group").write_text(with_group(facts.group, user))
    if spec.uses_host_image:
        _make_environment(folder)
    bundle.write_programs(folder.path / "programs")


def _make_environment(folder: SessionFolder) -> None:
    """Write the session's Python environment, and put it where the container sees it.

    The container of an earlier attempt at this launch may still run: it sees nothing unfinished.
    """
    draft = folder.path / "venv"
    with contextlib.suppress(FileNotFoundError):
        trees.remove_path(draft)
    write_environment(draft)
    name = os.path.relpath(ENVIRONMENT, GUEST_RUN)
    folder.guest.remove_folder(name)
    draft.rename(folder.run / name)


def _record(facts: images.ImageFacts, final: MountPlan) -> Plan:
    targets = {bind.target for bind in final.binds}
    sources = [bind.source for bind in (*final.granted, *final.on_top)]
    points = mount_points()
    file_systems = {mount_point_of(source, points) for source in sources}
    return Plan(
        mounts=tuple((bind.source, bind.target) for bind in final.granted),
        layout=Layout(
            workdir=final.workdir,
            binds=tuple((bind.source, bind.target, bind.read_only) for bind in final.binds),
            image=tuple(bind.target for bind in facts.binds if bind.target not in targets),
        ),
        on_top=tuple(
            (bind.source, bind.target, bind.read_only) for bind in (*final.on_top, *final.leading)
        ),
        file_systems=tuple(sorted(file_systems - {"/"})),
        python=facts.python,
        note=final.note,
    )


def _environment(
    spec: SessionSpec,
    facts: images.ImageFacts,
    user: User,
    devices: Devices,
    folder: SessionFolder,
    name: str,
    tty: bool,
) -> dict[str, str]:
    term = os.environ.get("TERM") or "xterm-256color"
    if tty:
        folder.describe_terminal(term)
    # what pip installs for a user who cannot write to the image's own folders
    path = {"PATH": f"{facts.path}:{user.home}/.local/bin"} if facts.path else {}
    return {
        **dict(facts.env),
        **path,
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "MOORING_SESSION": name,
        "TERMINFO_DIRS": f":{folder.terminfo_target}",  # after the image's own
        **({"TERM": term} if tty else {}),
        **spec.env,
        **devices.env,
    }


@contextlib.contextmanager
def late_network(engine: Engine, config: ContainerConfig, container: str) -> Iterator[None]:
    """Context manager that connects a container to its network while the block runs.

    Args:
        engine: the engine that runs the container.
        config: the container's configuration; nothing happens if it was started with a network.
        container: the container's id.

    Raises:
        EngineError: the container cannot be connected; raised at the end of the block.
    """
    if config.network:
        yield
        return
    late = require(engine, SupportsLateNetwork)
    with ThreadPoolExecutor(1, thread_name_prefix="mooring-network") as pool:
        attached = pool.submit(late.attach_network, container)
        yield
        attached.result()
