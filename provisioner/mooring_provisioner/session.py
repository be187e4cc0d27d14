"""Open the session that a kernelspec configures, for the provisioner and the launcher."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring import LaunchOptions, Mooring, MooringError, Session, SpecError, Wait

if TYPE_CHECKING:
    from mooring import KernelHandle, Ownership, ResolvedSpec


@dataclass(frozen=True)
class KernelspecConfig:
    """The provisioner's configuration in a kernelspec.

    Attributes:
        spec: path of the session's spec file; empty for the defaults.
        flags: values of the spec, which override the file.
        session: name of a session to share; empty for a new session per kernel.
        profile: name of a user profile; empty for none.
    """

    spec: str = ""
    flags: Mapping[str, Any] = field(default_factory=dict)
    session: str = ""
    profile: str = ""

    def resolve(self, cwd: str, root: str = "", **values: Any) -> ResolvedSpec:
        """Resolve the spec.

        Its kernel defaults to ``python3``, its maximum duration as ``for_kernelspec`` says.

        Args:
            cwd: the kernel's working directory; the project of a session without a spec file.
            root: the Jupyter server's root, above which nothing is mounted by default; empty for
                no server.
            values: values of the spec, which override all others.

        Raises:
            SpecError: the spec is invalid, or ``session`` is not a valid name.
            PolicyError: the administrator's policy is not valid.
        """
        from mooring import for_kernelspec, resolve

        file = Path(self.spec) if self.spec else None
        flags = dict(self.flags) | values
        resolved = resolve(flags=flags, file=file, profile=self.profile)
        if not resolved.spec.kernel:
            flags["kernel"] = "python3"
            resolved = resolve(flags=flags, file=file, profile=self.profile)
        resolved = for_kernelspec(resolved)
        if self.session:
            _check_name(self.session)
        if file is None:
            resolved = dataclasses.replace(
                resolved, project=Path(cwd), root=Path(root) if root else None
            )
        return resolved

    def is_elsewhere(self, cwd: str) -> bool:
        """Return whether the spec's folder, in which kernels run, does not contain a folder."""
        folder = Path(self.spec).resolve().parent
        return bool(self.spec) and not Path(cwd).resolve().is_relative_to(folder)


@dataclass(frozen=True)
class OpenedSession:
    """A running session, and whether it was created for this kernel."""

    session: Session
    created: bool


def own_name(resolved: ResolvedSpec, short_id: str) -> str:
    """Return the name of a session that is created for one kernel."""
    return f"{resolved.spec.name or 'kernel'}-{short_id[:6]}"


def open_session(
    mooring: Mooring,
    config: KernelspecConfig,
    resolved: ResolvedSpec,
    *,
    cwd: str,
    short_id: str,
    cancelled: Callable[[], bool] = lambda: False,
    notebook: str = "",
    max_wait_s: float | None = None,
) -> OpenedSession:
    """Find or create the session that a kernelspec configures.

    Args:
        mooring: the sessions.
        config: the kernelspec's configuration.
        resolved: the result of ``config.resolve``.
        cwd: the kernel's working directory.
        short_id: mooring's id of the kernel.
        cancelled: called several times per second; True cancels.
        notebook: absolute path of the notebook that the kernel is for; empty if unknown.
        max_wait_s: timeout for GPUs, in seconds; None for no timeout.

    Raises:
        MooringError: as ``Sessions.create`` and ``Sessions.find_or_create``.
    """
    if config.session:
        session = mooring.sessions.find_or_create(
            resolved,
            LaunchOptions(name=config.session, notebook=notebook),
            cwd=Path(cwd),
            wait=Wait(cancelled=cancelled, max_wait_s=max_wait_s),
        )
        return OpenedSession(session, created=False)
    created = mooring.sessions.create(
        resolved,
        LaunchOptions(name=own_name(resolved, short_id), notebook=notebook, ends_with_kernels=True),
        cwd=Path(cwd),
        wait=Wait(cancelled=cancelled, max_wait_s=max_wait_s),
    )
    return OpenedSession(created.session, created=True)


def end_session(
    mooring: Mooring,
    session: Session,
    handle: KernelHandle | None,
    ownership: Ownership | None,
    *,
    short_id: str,
    keep: str = "",
    died: str = "",
) -> str:
    """End a kernel, and with the last kernel a session that was created for kernels.

    Args:
        mooring: the sessions.
        session: the kernel's session.
        handle: the kernel; None if its launch failed before it had a folder.
        ownership: the kernel's ownership, if there is one.
        short_id: mooring's id of the kernel.
        keep, died: as for ``Kernels.shut_down``.

    Returns:
        What the user must know of it, in a line; empty for nothing.
    """
    files = mooring.records.home_files(session)
    try:
        if handle is not None:
            mooring.kernels.shut_down(session, handle, ownership, keep=keep, died=died)
        else:
            mooring.kernels.end_session_with(session, short_id)
    except MooringError as error:
        return f"session {session.name} cannot be removed now: {error}"
    if files and not mooring.records.exists(session.id):
        return f"session {session.name} is removed; {files.deletion_note}"
    return ""


def _check_name(session: str) -> None:
    """Check the name of a session.

    Raises:
        SpecError: the name is invalid; the message states the rule.
    """
    from mooring import resolve

    try:
        resolve(flags={"name": session})
    except SpecError as error:
        rule = error.message.rpartition(": ")[2]
        raise SpecError(f"session {session!r} of the kernelspec: {rule}", error.hint) from error
