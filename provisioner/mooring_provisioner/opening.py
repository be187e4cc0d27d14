"""From what a kernelspec says to a session that runs: one way for all of Jupyter's doors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring.errors import SpecError
from mooring.service import Mooring
from mooring.sessions.model import Session

if TYPE_CHECKING:
    from mooring.spec.resolve import ResolvedSpec


@dataclass(frozen=True)
class Wanted:
    """What a kernelspec asks for: the provisioner's configuration in it.

    Attributes:
        spec: path of the session's spec file; empty for the defaults.
        flags: values of the spec that win over the file.
        session: name of a session to share; empty for one of the kernel's own.
        profile: name of a profile of the user's; empty for none.
    """

    spec: str = ""
    flags: Mapping[str, Any] = field(default_factory=dict)
    session: str = ""
    profile: str = ""

    def resolve(self, cwd: str, **values: Any) -> ResolvedSpec:
        """The spec, with ``python3`` for a kernel where it names none.

        Args:
            cwd: the kernel's working directory; the project of a session without a spec file.
            values: of the spec, that win over everything.

        Raises:
            SpecError: it is wrong, or ``session`` is no session's name.
        """
        from mooring.spec.resolve import resolve

        file = Path(self.spec) if self.spec else None
        flags = dict(self.flags) | values
        resolved = resolve(flags=flags, file=file, profile=self.profile)
        if not resolved.spec.kernel:
            flags["kernel"] = "python3"
            resolved = resolve(flags=flags, file=file, profile=self.profile)
        if self.session:
            _check_name(self.session)
        if file is None:
            resolved = dataclasses.replace(resolved, project=Path(cwd))
        return resolved


@dataclass(frozen=True)
class Opened:
    """A session that runs, and whether it was made for this kernel alone."""

    session: Session
    created: bool


def own_name(resolved: ResolvedSpec, short_id: str) -> str:
    """What a session is called that is made for one kernel."""
    return f"{resolved.spec.name or 'kernel'}-{short_id[:6]}"


def open_session(
    mooring: Mooring,
    wanted: Wanted,
    resolved: ResolvedSpec,
    *,
    cwd: str,
    short_id: str,
    cancelled: Callable[[], bool] = lambda: False,
    opened_by: str = "",
    max_wait_s: float | None = None,
) -> Opened:
    """Find or make the session that a kernelspec asks for.

    Args:
        resolved: as ``wanted.resolve`` returned it.
        short_id: mooring's id of the kernel.
        cancelled, opened_by, max_wait_s: as in ``Mooring.create``.

    Raises:
        as ``Mooring.create``.
    """
    here = Path(cwd)
    if wanted.session:
        session = mooring.find_or_create(
            resolved,
            wanted.session,
            cwd=here,
            cancelled=cancelled,
            opened_by=opened_by,
            max_wait_s=max_wait_s,
        )
        return Opened(session, created=False)
    name = own_name(resolved, short_id)
    made = mooring.create(
        resolved,
        name=name,
        cwd=here,
        cancelled=cancelled,
        opened_by=opened_by,
        ends_with_kernels=True,
        max_wait_s=max_wait_s,
    )
    return Opened(made.session, created=True)


def _check_name(session: str) -> None:
    """Refuse what is no session's name.

    Raises:
        SpecError: with what a name is made of.
    """
    from mooring.spec.resolve import resolve

    try:
        resolve(flags={"name": session})
    except SpecError as error:
        rule = error.message.rpartition(": ")[2]
        raise SpecError(f"session {session!r} of the kernelspec: {rule}", error.hint) from error
