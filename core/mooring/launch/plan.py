"""From a spec to a launch plan: its mounts, checked against the policy and the user's trust."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.errors import (
    Mistakes,
    MooringError,
    NoCapacity,
    PolicyError,
    SpecError,
    together,
)
from mooring.gpus.claims import Request
from mooring.host import memory
from mooring.host.filesystems import is_below
from mooring.host.users import caller
from mooring.images import mounts
from mooring.images.mounts import EXCHANGED_HINT, Grant, MountPlan
from mooring.images.project import project_of
from mooring.images.sources import WORKING_DIRECTORY
from mooring.images.sources import resolved as resolved_path
from mooring.launch.groups import session_user
from mooring.policy import trust

if TYPE_CHECKING:
    from mooring.gpus.devices import Devices
    from mooring.images.images import ImageFacts
    from mooring.spec.model import SessionSpec
    from mooring.spec.resolve import ResolvedSpec


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
        mounted: the folder that is mounted as the session's own: the spec file's, or the project
            that the current folder belongs to.
        within: the folder that it is confined to, resolved; None for no such limit.
    """

    resolved: ResolvedSpec
    cwd: Path
    mounts: MountPlan
    needs_trust: tuple[Grant, ...]
    gpus: Request | None
    mounted: Path | None = None
    within: Path | None = None

    @property
    def spec(self) -> SessionSpec:
        """The spec as declared."""
        return self.resolved.spec

    @property
    def grants(self) -> tuple[Grant, ...]:
        """Everything that the spec uses outside its folder, trusted or not."""
        return _grants(self.resolved, self.mounts)

    @property
    def trust_digest(self) -> str:
        """A hash of what ``with_trust`` would record: of the file, its place and ``grants``."""
        return trust.digest(self.resolved, self.grants)

    def require_trust(self) -> None:
        """Check that nothing needed trust when the plan was made, or that it was given since.

        Raises:
            TrustRequired: names everything that the user has not trusted the file with.
        """
        if self.needs_trust:
            raise trust.refusal(self.resolved, self.needs_trust)

    def with_trust(self) -> LaunchPlan:
        """Record that the user trusts the spec file with all of ``grants``; return such a plan."""
        trust.record(self.resolved, self.grants)
        return replace(self, needs_trust=())


def plan_launch(
    resolved: ResolvedSpec,
    cwd: Path | None = None,
    *,
    check_policy: bool = True,
    within: Path | None = None,
) -> LaunchPlan:
    """Plan the launch of a spec, without side effects.

    Args:
        resolved: the spec and where each value came from.
        cwd: the working directory, if it is in a folder that is mounted; None for the project.
        check_policy: check the spec against the administrator's policy.
        within: a folder that the launch is confined to, see ``refuse_outside``; resolved.

    Raises:
        SpecError, PolicyError, NotSupported, NoCapacity: it cannot be created.
    """
    from mooring.policy import limits
    from mooring.spec.model import refuse_unsupported

    mistakes = Mistakes()
    with mistakes:
        refuse_unsupported(resolved.spec, resolved.origins)
    with mistakes:
        _refuse_more_memory(resolved)
    with mistakes:
        _check_kernel(resolved)
    with mistakes, _placed(resolved.origins):
        session_user(caller(), (), resolved.spec.groups)  # checks the groups
    here = cwd or resolved.project
    mounted = resolved.project
    if resolved.path is None:
        mounted = project_of(resolved_path(mounted, WORKING_DIRECTORY), caller(), resolved.root)
    mount_plan = MountPlan((), "", (), ())
    with mistakes, _placed(resolved.origins):
        mount_plan = mounts.plan(
            resolved.spec, project=resolved.project, cwd=here, user=caller(), mounted=mounted
        )
    with mistakes:
        refuse_outside(resolved, mount_plan, within)
    with mistakes:
        if check_policy:
            sources = (*mount_plan.sources, *mount_plan.chosen)
            limits.load().check(resolved.spec, sources, resolved.origins)
    mistakes.report()
    return LaunchPlan(
        resolved=resolved,
        cwd=here,
        mounts=mount_plan,
        needs_trust=tuple(trust.missing(resolved, _grants(resolved, mount_plan))),
        gpus=Request.of(*resolved.spec.gpu_request),
        mounted=mounted,
        within=within,
    )


@contextlib.contextmanager
def _placed(origins: Mapping[str, str]) -> Iterator[None]:
    """Put the file and line of a key before an error's message, which begins with the key."""

    def placed(error: MooringError) -> MooringError:
        kind, _, place = origins.get(error.message.partition(":")[0], "").partition(" ")
        return type(error)(f"{place}: {error.message}", error.hint) if kind == "file" else error

    try:
        yield
    except (SpecError, PolicyError) as error:
        if error.mistakes:
            raise together([placed(mistake) for mistake in error.mistakes]) from None
        raise placed(error) from None


def _refuse_more_memory(resolved: ResolvedSpec) -> None:
    """Refuse a limit of memory that the session could never reach."""
    from mooring.spec.units import format_size

    asked, machine = resolved.spec.memory or 0, memory.total_memory()
    if not memory.has(asked):
        origin = resolved.origins.get("memory", "default")
        raise NoCapacity(
            f"memory is {format_size(asked)} ({origin}), and this machine has "
            f"{format_size(machine)}",
            f"request at most {machine >> 30}GiB" if machine >> 30 else "leave it out",
        )


def _check_kernel(resolved: ResolvedSpec) -> None:
    """Refuse a kernel that this machine's software does not have, before a notebook asks for it."""
    spec = resolved.spec
    brings_kernels = any(name.startswith("JUPYTER") for name in spec.env)
    if not spec.uses_host_image or brings_kernels or spec.kernel in (None, "python3"):
        return
    from mooring.kernels.kernelspecs import on_this_machine

    names = on_this_machine()
    if spec.kernel.lower() not in names:
        close = difflib.get_close_matches(spec.kernel, names, n=1)
        origin = resolved.origins.get("kernel", "kernel")
        raise SpecError(
            f"{origin}: no kernel {spec.kernel!r} on this machine",
            f"did you mean {close[0]}?" if close else f"choose from: {', '.join(names)}",
        )


def refuse_outside(resolved: ResolvedSpec, planned: MountPlan, within: Path | None) -> None:
    """Refuse a launch that uses anything of the user's outside a folder.

    Args:
        resolved: the spec; the files that it was read from have to lie in the folder too.
        planned: its mounts.
        within: the folder, resolved; None for no limit.

    Raises:
        PolicyError: a mount, a file or a secret is not from within the folder.
    """
    from mooring.spec.model import EXTENDS

    if within is None:
        return
    hint = f"this server confines sessions to {within}"
    paths = [
        *((EXTENDS, path) for path in resolved.files),
        *planned.sources,
        *((f"secrets: {name}", path) for name, path in planned.secret_files.items()),
    ]
    for key, path in paths:
        if not is_below(path, within):
            raise PolicyError(f"{key}: {path} lies outside {within}", hint)
    for name, secret in resolved.spec.secrets.items():
        if secret.env:
            raise PolicyError(f"secrets: {name}: {secret.env} is a variable of the server's", hint)


def _grants(resolved: ResolvedSpec, mount_plan: MountPlan) -> tuple[Grant, ...]:
    from mooring.spec.model import EXTENDS

    return (*(Grant(EXTENDS, what) for what in resolved.reaches), *mount_plan.grants)


def planned_again(
    plan: LaunchPlan,
    folders: mounts.SessionFolders | None = None,
    facts: ImageFacts | None = None,
    devices: Devices | None = None,
) -> MountPlan:
    """Compute and check a plan's mounts where they are made: paths may have changed since.

    Args:
        plan: the launch plan.
        folders: the parts of the session's own folder that its container sees; None as in
            ``mounts.plan``.
        facts: the facts about its image; None before they are known.
        devices: what it gets for its claims; None before they are granted.

    Raises:
        SpecError, PolicyError, TrustRequired: the mounts are invalid, or not allowed now.
    """
    from mooring.policy import limits

    resolved = plan.resolved
    final = mounts.plan(
        plan.spec,
        project=resolved.project,
        cwd=plan.cwd,
        user=caller(),
        mounted=plan.mounted,
        folders=folders,
        image=(*(facts.binds if facts else ()), *(devices.binds if devices else ())),
        volumes=facts.volumes if facts else (),
        host=plan.mounts.host,
    )
    refuse_outside(resolved, final, plan.within)
    trust.require(resolved, _grants(resolved, final))
    sources = (*final.sources, *final.chosen, *(devices.sources if devices else ()))
    limits.load().check(plan.spec, sources, resolved.origins)
    for key, source in final.sources:
        if (key, source) not in plan.mounts.sources:
            raise PolicyError(
                f"{key}: a path has changed since it was checked, and is {source} now",
                EXCHANGED_HINT,
            )
    return replace(final, note=plan.mounts.note or final.note)
