"""Serialization of an enqueued launch, which the dispatcher reads from the session's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mooring.errors import SpecError
from mooring.gpus.claims import Request
from mooring.images.host_environment import HostEnvironment
from mooring.images.mounts import MountPlan
from mooring.launch.options import LaunchOptions
from mooring.launch.plan import LaunchPlan
from mooring.sessions.folder import SessionFolder


def dump(plan: LaunchPlan, options: LaunchOptions, since: int, actor: str) -> dict[str, Any]:
    """Return a launch as a JSON-serializable dict for ``SessionFolder.mark_enqueued``.

    Args:
        plan: the launch plan.
        options: the launch options; only ``tty`` and ``size`` are kept.
        since: the launch's place in the queue, see ``Ticket.since``.
        actor: the actor recorded in the history.
    """
    resolved = plan.resolved
    return {
        "spec": resolved.spec.model_dump(mode="json", exclude_defaults=True),
        "resolved": {
            "origins": dict(resolved.origins),
            "path": resolved.path and str(resolved.path),
            "project": str(resolved.project),
            "sha256": resolved.sha256,
            "reaches": list(resolved.reaches),
            "extended": list(resolved.extended),
            "folder": resolved.folder,
            "files": [str(path) for path in resolved.files],
        },
        "sources": [[key, str(source)] for key, source in plan.mounts.sources],
        "manner": {
            "cwd": str(plan.cwd),
            "tty": options.tty,
            "size": list(options.size),
            "since": since,
            "mounted": plan.mounted and str(plan.mounted),
            "within": plan.within and str(plan.within),
            "host": plan.mounts.host and plan.mounts.host.to_dict(),
            "note": plan.mounts.note,
        },
        "actor": actor,
    }


def load(folder: SessionFolder) -> tuple[LaunchPlan, LaunchOptions, int, str]:
    """Read the launch that ``dump`` returned from a session's folder.

    Returns:
        The plan, of whose mounts only the sources and the note are known, the rest is computed at
        launch; the options; the place in the queue; the actor.

    Raises:
        SpecError: it cannot be read, for example because another version wrote it.
    """
    from mooring.spec.fields import RECORDED
    from mooring.spec.model import SessionSpec
    from mooring.spec.resolve import ResolvedSpec

    try:
        stored = folder.read_enqueued()
        known, manner = stored["resolved"], stored["manner"]
        resolved = ResolvedSpec(
            spec=SessionSpec.model_validate(stored["spec"], context=RECORDED),
            origins=known["origins"],
            path=Path(known["path"]) if known["path"] else None,
            project=Path(known["project"]),
            sha256=known["sha256"],
            reaches=tuple(known["reaches"]),
            extended=tuple(known["extended"]),
            # an earlier version has no folder: trust is needed again
            folder=known.get("folder", ""),
            files=tuple(map(Path, known.get("files", []))),
        )
        rows, columns = manner["size"]
        cwd = Path(manner["cwd"])
        host = HostEnvironment.from_dict(manner["host"]) if manner.get("host") else None
        sources = tuple((str(key), Path(source)) for key, source in stored["sources"])
        plan = LaunchPlan(
            resolved=resolved,
            cwd=cwd,
            mounts=MountPlan((), str(cwd), (), (), sources, manner.get("note", ""), host=host),
            needs_trust=(),
            gpus=Request.of(*resolved.spec.gpu_request),
            mounted=Path(manner["mounted"]) if manner.get("mounted") else None,
            within=Path(manner["within"]) if manner.get("within") else None,
        )
        options = LaunchOptions(tty=manner["tty"], size=(rows, columns), enqueue=True)
        return plan, options, manner["since"], stored["actor"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        name = folder.record().identity.name or folder.id
        raise SpecError(
            f"the enqueued launch of session {name} cannot be read: {error}",
            f"remove it, and create it again: mooring rm -f {name}",
        ) from None
