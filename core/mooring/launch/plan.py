"""From a spec to a container's configuration: mounts, policy, trust, and the container."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mooring._version import __version__
from mooring.engines.base import ContainerConfig, PullProgress
from mooring.engines.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    LABEL_OWNER,
    LABEL_PROBE,
    LABEL_SPEC,
    LABEL_VERSION,
    container_name,
)
from mooring.gpus.claims import Claim, Request, to_label
from mooring.gpus.devices import Devices, devices_of
from mooring.guest import bundle
from mooring.guest.paths import GUEST_RUN
from mooring.host.processes import process_mark
from mooring.host.users import User, caller, with_group, with_user
from mooring.images import images, mounts
from mooring.images.mounts import Grant, MountPlan
from mooring.policy import trust
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.lifecycle import GRACE_S
from mooring.sessions.record import Layout, Plan
from mooring.spec.ports import pairs

if TYPE_CHECKING:
    from mooring.spec.model import SessionSpec
    from mooring.spec.resolve import ResolvedSpec

SAMPLE_S = 5.0
# For root: what package managers need on any image. Other users need none.
ROOT_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")


@dataclass(frozen=True)
class LaunchPlan:
    """A spec resolved on this machine: what ``create`` will do.

    ``create`` computes the mounts again when it makes them, because paths may have changed
    meanwhile.

    Attributes:
        resolved: the spec and where each value came from.
        cwd: the caller's current directory.
        mounts: the folders and files of this machine that the session sees.
        needs_trust: what the spec file uses outside its folder and is not trusted with yet.
        gpus: the GPUs that it requests; None for none.
    """

    resolved: ResolvedSpec
    cwd: Path
    mounts: MountPlan
    needs_trust: tuple[Grant, ...]
    gpus: Request | None

    @property
    def spec(self) -> SessionSpec:
        """The spec as declared."""
        return self.resolved.spec

    @property
    def grants(self) -> tuple[Grant, ...]:
        """Everything that the spec uses outside its folder, trusted or not."""
        return _grants(self.resolved, self.mounts)


def plan_launch(
    resolved: ResolvedSpec, cwd: Path | None = None, *, judged: bool = True
) -> LaunchPlan:
    """Plan the launch of a spec, without side effects.

    Args:
        resolved: the spec and where each value came from.
        cwd: the working directory, if it is inside the spec's project; None for the project.
        judged: check the spec against the administrator's policy.

    Raises:
        SpecError, PolicyError, NotSupported: it cannot be created.
    """
    from mooring.policy import limits
    from mooring.spec.model import refuse_unsupported

    refuse_unsupported(resolved.spec)
    here = cwd or resolved.project
    mount_plan = mounts.plan(resolved.spec, project=resolved.project, cwd=here, user=caller())
    if judged:
        limits.load().check(resolved.spec, mount_plan.sources, resolved.origins)
    return LaunchPlan(
        resolved=resolved,
        cwd=here,
        mounts=mount_plan,
        needs_trust=tuple(trust.missing(resolved, _grants(resolved, mount_plan))),
        gpus=Request.of(*resolved.spec.gpu_request),
    )


def _grants(resolved: ResolvedSpec, mount_plan: MountPlan) -> tuple[Grant, ...]:
    from mooring.spec.model import EXTENDS

    return (*(Grant(EXTENDS, what) for what in resolved.reaches), *mount_plan.grants)


def image_facts(
    ctx: Context, reference: str, policy: str, user: User, progress: Callable[[str], None]
) -> images.ImageFacts:
    """Pull an image if needed, and inspect it.

    Args:
        ctx: the client's context.
        reference: the image.
        policy: the pull policy: always, missing or never.
        user: the user that the session will run as.
        progress: called with a line during a pull, repeatedly even without news; what it raises
            aborts the pull.

    Raises:
        ImageError: it cannot be pulled, or has no shell.
    """
    from mooring.spec.units import format_size

    if reference == images.HOST:
        from mooring.images.host_image import host_image

        return host_image(ctx.engine)

    def show(step: PullProgress) -> None:
        text = step.status.lower()
        if step.total_bytes:
            percent = step.done_bytes * 100 // step.total_bytes
            text = f"{percent}% of {format_size(step.total_bytes)}"
        progress(f"pulling {reference}: {text}")

    image_id = images.ensure_image(ctx.engine, reference, policy, show)
    labels = {
        LABEL_INSTALLATION: ctx.installation.id,
        LABEL_PROBE: process_mark(os.getpid()),
    }
    name = f"mooring-probe-{secrets.token_hex(4)}"
    mark = ctx.installation.images / name
    mark.touch()
    facts = images.facts_of(ctx.engine, reference, image_id, user, name, labels)
    mark.unlink(missing_ok=True)
    return facts


def plan_container(
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
    """
    spec, user = plan.spec, caller()
    final = _checked_again(plan, user, folder)
    binds = facts.binds + final.binds
    mounts.prepare_home(folder.home, binds, user)
    name, devices = folder.record().identity.name, devices_of(claims)
    _write_guest_files(folder, facts, user, kernel=bool(spec.kernel))
    folder.guest.write("mounts", mounts.identities(folder.run, final.granted))
    folder.write_plan(_record(facts, final))
    folder.clock.write_settings(**_settings(spec, name, len(claims)))
    if claims:
        folder.update_state(gpu_sharing=devices.sharing)
    command = spec.argv or (None if spec.kernel else [])
    return ContainerConfig(
        name=container_name(name, folder.id),
        image=facts.reference,
        argv=bundle.main_argv(command, size if tty else None),
        user=f"{user.uid}:{user.gid}",
        groups=tuple(sorted({*user.groups, *devices.groups})),
        env=_environment(spec, facts, user, devices, name, tty),
        labels=_labels(name, spec, user, claims)
        | {LABEL_ID: folder.id, LABEL_INSTALLATION: ctx.installation.id},
        binds=binds + devices.binds,
        workdir=final.workdir,
        hostname=name[:63],
        cpus=spec.cpus,
        memory_bytes=spec.memory,
        shm_bytes=spec.shm,
        tty=tty,
        open_stdin=command is not None,
        # A command needs the network from the start; a kernel starts while it is attached
        network=command is not None or bool(spec.ports),
        capabilities=ROOT_CAPABILITIES if user.uid == 0 else (),
        ports=pairs(spec.ports),
        gpus=devices.requested,
        devices=devices.nodes,
        cdi_devices=devices.cdi,
    )


def _labels(name: str, spec: SessionSpec, user: User, claims: tuple[Claim, ...]) -> dict[str, str]:
    return {
        LABEL_NAME: name,
        LABEL_OWNER: user.name,
        LABEL_VERSION: __version__,
        LABEL_SPEC: json.dumps(spec.public_dict()),
        **({LABEL_GPUS: to_label(claims)} if claims else {}),
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


def _checked_again(plan: LaunchPlan, user: User, folder: SessionFolder) -> MountPlan:
    """Compute and check the mounts again, with the session's own: links may have changed."""
    from mooring.policy import limits

    resolved = plan.resolved
    final = mounts.plan(
        plan.spec, project=resolved.project, cwd=plan.cwd, user=user, folders=_seen_of(folder)
    )
    trust.require(resolved, final.grants)
    limits.load().check(plan.spec, final.sources, resolved.origins)
    return final


def _seen_of(folder: SessionFolder) -> mounts.SessionFolders:
    """Return the parts of a session's folder that its container sees."""
    return mounts.SessionFolders(
        home=folder.home,
        run=folder.run,
        secrets=folder.secrets,
        etc=folder.path / "etc",
        empty=folder.path / "empty",
    )


def _write_guest_files(
    folder: SessionFolder, facts: images.ImageFacts, user: User, *, kernel: bool
) -> None:
    if kernel:
        folder.guest.write("kernelhost", f"{facts.python}\n")
    (folder.path / "etc" / "passwd").write_text(with_user(facts.passwd, user))
    (folder.path / "etc" / "group").write_text(with_group(facts.group, user))
    packages = dict(facts.env).get("PYTHONPATH", "")
    if packages.startswith(GUEST_RUN):  # Python ignores path entries that are missing at its start
        (folder.run / os.path.relpath(packages, GUEST_RUN)).mkdir(parents=True, exist_ok=True)
    bundle.write_programs(folder.guest)


def _record(facts: images.ImageFacts, final: MountPlan) -> Plan:
    return Plan(
        mounts=tuple((bind.source, bind.target) for bind in final.granted),
        layout=Layout(
            workdir=final.workdir,
            binds=tuple((bind.source, bind.target, bind.read_only) for bind in final.binds),
            image=tuple(bind.target for bind in facts.binds),
        ),
        python=facts.python,
        note=final.note,
    )


def _environment(
    spec: SessionSpec,
    facts: images.ImageFacts,
    user: User,
    devices: Devices,
    name: str,
    tty: bool,
) -> dict[str, str]:
    return {
        **dict(facts.env),
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "MOORING_SESSION": name,
        **({"TERM": os.environ.get("TERM") or "xterm-256color"} if tty else {}),
        **spec.env,
        **devices.env,
    }
