"""From a spec to a container: the image, the name, the folder, and all that the engine is told."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mooring
from mooring import ports
from mooring.engines.base import ContainerConfig, Engine
from mooring.errors import (
    CommandError,
    EngineError,
    ImageError,
    PolicyError,
    SessionExists,
    SessionTimeout,
)
from mooring.gpus.claims import Claim, to_label
from mooring.gpus.devices import devices_for
from mooring.guest import shared
from mooring.host import paths
from mooring.host.processes import process_mark
from mooring.host.users import User, caller, with_group, with_user
from mooring.images import images, mounts
from mooring.labels import (
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
from mooring.policy import trust
from mooring.sessions.record import GUEST_RUN, Folder, boot_id

if TYPE_CHECKING:
    from mooring.spec.resolve import ResolvedSpec

CLOCK = f"{GUEST_RUN}/clock.sh"
SAMPLE_S = 5.0
GRACE_S = 10.0
START_TIMEOUT_S = 60.0
# Root's session on any image: what package managers need. Nobody else has a use for any.
ROOT_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")

Progress = Callable[[str], None]


def image_facts(
    engine: Engine, reference: str, limits: str, user: User, progress: Progress
) -> images.ImageFacts:
    """Have the image here and look into it.

    Args:
        progress: called with a line while a pull goes on, the same one again if nothing came;
            what it raises ends the wait.

    Raises:
        ImageError: it cannot be had, or has no shell.
    """
    from mooring.spec.units import format_size

    if reference == images.HOST:
        return images.host_image(engine)

    def tell(step: object) -> None:
        status = getattr(step, "status", "")
        done, total = getattr(step, "done_bytes", 0), getattr(step, "total_bytes", 0)
        text = status.lower()
        if total:
            text = f"{done * 100 // total}% of {format_size(total)}"
        progress(f"pulling {reference}: {text}")

    image_id = images.ensure_image(engine, reference, limits, tell)
    labels = {
        LABEL_INSTALLATION: paths.installation_id(),
        LABEL_PROBE: process_mark(os.getpid()),
    }
    name = f"mooring-probe-{secrets.token_hex(4)}"
    record = paths.images_dir() / name
    record.touch()
    facts = images.facts_of(engine, reference, image_id, user, name, labels)
    record.unlink(missing_ok=True)
    return facts


def no_kernel(image: str, problem: str) -> ImageError:
    """The error for an image that has no Python kernel, with how to mend it."""
    return ImageError(
        f"image {image} cannot run a Jupyter kernel: {problem}",
        "add ipykernel to it (RUN pip install ipykernel), or leave kernel out for a shell session",
    )


def reserve(
    wanted: str | None, resolved: ResolvedSpec, *, tty: bool, remove: bool, **more: Any
) -> Folder:
    """Take a name and make the session's folder, as one step among all processes.

    Args:
        more: for its record.

    Returns:
        The folder, held by this process until its ``release``.

    Raises:
        SessionExists: the name is taken.
    """
    import filelock

    from mooring.spec.units import format_size

    with filelock.FileLock(paths.state_dir() / "names.lock"):
        taken = {folder.record().get("name"): folder for folder in Folder.all()}
        session_id = secrets.token_hex(6)
        name = wanted or f"session-{session_id[:5]}"
        if name in taken:
            raise SessionExists(
                f"a session named {name} exists already",
                f"use another --name, or remove it: mooring rm {name}",
            )
        spec = resolved.spec
        return Folder.create(
            session_id,
            {
                "id": session_id,
                "name": name,
                "owner": caller().name,
                "created_at": time.time(),
                "boot_id": boot_id(),
                "project": str(resolved.project),
                "memory": format_size(spec.memory) if spec.memory else "",
                "tty": tty,
                "remove": process_mark(os.getpid()) if remove else "",
                "spec": spec.public_dict(),
                **more,
            },
        )


def container_config(
    resolved: ResolvedSpec,
    facts: images.ImageFacts,
    user: User,
    folder: Folder,
    cwd: Path,
    *,
    tty: bool,
    size: tuple[int, int],
    claims: tuple[Claim, ...] = (),
) -> ContainerConfig:
    """Lay out a session's folder, and say what container stands over it.

    Args:
        facts: of its image.
        cwd: the working directory, if it lies in the spec's project.
        tty, size: whether the main process has a terminal; its rows and columns.
        claims: the GPUs that were granted.

    Raises:
        SpecError, PolicyError, ConsentRequired: the mounts are not what they were any more.
    """
    from mooring.policy import limits

    spec = resolved.spec
    name = folder.record()["name"]
    plan = mounts.plan(spec, project=resolved.project, cwd=cwd, user=user, folder=folder)
    binds = facts.binds + plan.binds
    mounts.prepare_home(folder, binds, user)
    (folder.path / "etc" / "passwd").write_text(with_user(facts.passwd, user))
    (folder.path / "etc" / "group").write_text(with_group(facts.group, user))
    packages = dict(facts.env).get("PYTHONPATH", "")
    if packages.startswith(GUEST_RUN):  # a folder that is not there at its start Python forgets
        (folder.run / os.path.relpath(packages, GUEST_RUN)).mkdir(parents=True, exist_ok=True)
    guest = resources.files("mooring") / "guest"
    for script in ("clock.sh", "kernelhost.py", "recorder.py"):
        (folder.run / script).write_text((guest / script).read_text())
    trust.require(resolved, plan.grants)  # a link may lead elsewhere by now
    limits.load().check(spec, plan.sources, resolved.origins)
    (folder.run / "mounts").write_text(mounts.identities(folder, plan.granted))
    folder.update_record(
        mounts=[[bind.source, bind.target] for bind in plan.granted],
        layout={  # for who copies files while it does not run
            "workdir": plan.workdir,
            "binds": [[bind.source, bind.target, bind.read_only] for bind in plan.binds],
            "image": [bind.target for bind in facts.binds],
        },
    )
    folder.update_record(python=facts.python, note=plan.note)
    if spec.kernel:
        (folder.run / "kernelhost").write_text(f"{facts.python}\n")
    folder.write_settings(
        name=name,
        idle_timeout_s=spec.idle_timeout,
        max_duration_s=spec.max_duration,
        sample_s=SAMPLE_S,
        grace_s=GRACE_S,
        record_bytes=spec.record,
        gpus=len(claims),
    )
    devices = devices_for(folder, claims)
    command = spec.argv or []
    if tty and (command or not spec.kernel):
        # right size from the first moment: a resize of the engine's comes after the start
        rows, columns = size
        command = ["/bin/sh", CLOCK, "shell", str(rows), str(columns), "--", *command]
    elif not command and not spec.kernel:
        command = ["/bin/sh"]
    env = {
        **dict(facts.env),
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "MOORING_SESSION": name,
        **({"TERM": os.environ.get("TERM") or "xterm-256color"} if tty else {}),
        **spec.env,
        **devices.env,
    }
    return ContainerConfig(
        name=container_name(name, folder.id),
        image=facts.reference,
        argv=("/bin/sh", CLOCK, "main", *(["--", *command] if command else [])),
        user=f"{user.uid}:{user.gid}",
        groups=tuple(sorted({*user.groups, *devices.groups})),
        env=env,
        labels={
            LABEL_ID: folder.id,
            LABEL_NAME: name,
            LABEL_OWNER: user.name,
            LABEL_INSTALLATION: paths.installation_id(),
            LABEL_VERSION: mooring.__version__,
            LABEL_SPEC: json.dumps(spec.public_dict()),
            **({LABEL_GPUS: to_label(claims)} if claims else {}),
        },
        binds=binds + devices.binds,
        workdir=plan.workdir,
        hostname=name[:63],
        cpus=spec.cpus,
        memory_bytes=spec.memory,
        shm_bytes=spec.shm,
        tty=tty,
        open_stdin=bool(command),
        # With a command the network must be there first; a kernel boots meanwhile
        network=bool(command or spec.ports),
        capabilities=ROOT_CAPABILITIES if user.uid == 0 else (),
        ports=ports.pairs(spec.ports),
        gpus=devices.requested,
        devices=devices.nodes,
    )


def await_check(engine: Engine, folder: Folder, container: str) -> None:
    """Wait until the container has found its mounts to be what was granted, and its command.

    Raises:
        PolicyError: one is not; nothing of the user's has run.
        CommandError: the session's command cannot be run.
        EngineError, SessionTimeout: it did not come so far.
    """
    began = time.monotonic()
    asked = began
    while not shared.exists(folder.run, "checked"):
        end = folder.end()
        if end is not None and end.reason == "refused":
            raise PolicyError(end.detail, mounts.EXCHANGED_HINT)
        if end is not None and end.reason in ("missing", "unrunnable"):
            raise CommandError(
                f"command {end.detail}",
                "what runs must be in the image, or in a folder that the session sees",
                found=end.reason == "unrunnable",
            )
        now = time.monotonic()
        if now - asked > 1.0:
            asked = now
            detail = engine.inspect(container)
            gone = detail is None or detail.state in ("exited", "dead")
            if gone and not shared.exists(folder.run, "checked") and folder.end() is None:
                code = detail.exit_code if detail else "unknown"
                raise EngineError(
                    f"the container ended while it started (exit code {code})",
                    "does the image have a POSIX /bin/sh and stat or ls?",
                )
        if now - began > START_TIMEOUT_S:
            raise SessionTimeout(
                f"the container did not begin within {START_TIMEOUT_S:g} s",
                "the machine may be overloaded; try again",
            )
        time.sleep(0.001)
