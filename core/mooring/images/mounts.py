"""The mounts of a session: those that it requests, and its own.

Each source is resolved to its real path before it is checked, and the engine is given the resolved
path. Before anything of the image runs, each mount is compared with its source (``images/pinned``),
so that replacing a path by a symbolic link in between gains nothing.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.engines import local_sockets
from mooring.engines.base import Bind
from mooring.errors import Mistakes, PolicyError, SpecError
from mooring.guest.paths import GUEST_RUN
from mooring.host import nofollow
from mooring.host.filesystems import is_below, mount_points
from mooring.host.users import User
from mooring.images import protected
from mooring.images.host_environment import HostEnvironment, host_environment
from mooring.images.overmounts import overmounts
from mooring.images.project import marker_of
from mooring.images.sources import (
    WORKING_DIRECTORY,
    absolute,
    is_mountable,
    is_sensitive,
    refuse_host,
    resolved,
    resolved_source,
)

if TYPE_CHECKING:
    from mooring.spec.model import SessionSpec

INPUTS = "/mnt/inputs"
OUTPUTS = "/mnt/outputs"
SECRETS = "/run/secrets"
Sources = tuple[tuple[str, Path], ...]
EXCHANGED_HINT = "it was replaced; check who can write to its parent folders"


@dataclass(frozen=True)
class Grant:
    """Access to this machine that a spec requests beyond its own folder.

    Attributes:
        key: the spec's key, dotted (``secrets.HF_TOKEN``); the user's trust is required if a
            spec file set it.
        what: a description of the access, with the real path.
    """

    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}"


@dataclass(frozen=True)
class SessionFolders:
    """A session's own folders on this machine, which must exist.

    Attributes:
        home: the private home, mounted unless the spec has the user's home.
        run: mounted at ``GUEST_RUN``.
        programs: mooring's programs, and where they are mounted.
        secrets: mounted at ``SECRETS``.
        etc: contains ``passwd`` and ``group``, each mounted in ``/etc``; None to leave the image's
            own files there.
        empty: an empty folder, mounted over folders that the session must not see.
    """

    home: Path
    run: Path
    programs: Bind
    secrets: Path
    etc: Path | None
    empty: Path


@dataclass(frozen=True)
class MountPlan:
    """The planned mounts of a session.

    Attributes:
        binds: the session's own mounts, and those that it requests.
        workdir: the working directory in the container.
        granted: the binds that the spec requests.
        grants: what requires the user's trust if a spec file requests it.
        sources: pairs of key and real path, one for each requested mount.
        chosen: likewise, for what the user's environment adds to the host image.
        host: what that is; None for another image.
        note: a notice for the user about what may not be what they expect: of their project,
            their home, folders that Python imports from, or variables that the session does not
            have; empty otherwise.
        secret_files: the real paths of the files that secrets are read from, by the secrets' names.
        on_top: mounts on top of ``binds`` and those of the image, see ``overmounts``.
        leading: folders of the private home that only lead to a mount, read-only, so that what is
            written beside the mount fails instead of being removed with the session.
    """

    binds: tuple[Bind, ...]
    workdir: str
    granted: tuple[Bind, ...]
    grants: tuple[Grant, ...]
    sources: Sources = ()
    note: str = ""
    chosen: Sources = ()
    host: HostEnvironment | None = None
    secret_files: Mapping[str, Path] = field(default_factory=dict)
    on_top: tuple[Bind, ...] = ()
    leading: tuple[Bind, ...] = ()


def plan(
    spec: SessionSpec,
    *,
    project: Path,
    cwd: Path,
    user: User,
    mounted: Path | None = None,
    folders: SessionFolders | None = None,
    image: Sequence[Bind] = (),
    volumes: Sequence[str] = (),
    host: HostEnvironment | None = None,
) -> MountPlan:
    """Check the mounts that a spec requests and plan them, without creating or mounting anything.

    Args:
        spec: the session's spec.
        project: the folder that the spec may use freely: its file's, or the current folder.
        cwd: the user's current folder; it becomes the working directory if it is mounted.
        user: the session's owner.
        mounted: the folder that is mounted at the same path; None for ``project``.
        folders: the session's folders; None for a plan without ``binds``, ``on_top`` and
            ``leading``.
        image: the binds that the image and the devices need.
        volumes: the paths at which the image declares volumes.
        host: what the user's environment adds to ``image: host``; None for the calling one's.

    Raises:
        SpecError: a source does not exist, or has the wrong file type.
        PolicyError: a source would expose the host, or what mooring itself runs from.
    """
    layout = _Layout(spec, resolved(project, WORKING_DIRECTORY), user, host)
    workdir, note = layout.add_working_directory(
        resolved(mounted or project, WORKING_DIRECTORY), resolved(cwd, WORKING_DIRECTORY)
    )
    layout.add_declared()
    sources, chosen = layout.checked_sources()
    binds, on_top = layout.binds(folders) if folders else (), tuple[Bind, ...]()
    leading = on_top
    if folders:
        guarded = protected.guarded_paths(folders.empty)
        on_top = overmounts((*image, *binds), guarded, volumes=volumes, mount_points=mount_points())
        leading = layout.leading(folders, {bind.target for bind in (*image, *binds, *on_top)})
    return MountPlan(
        binds=binds,
        workdir=workdir,
        granted=tuple(request.bind for request in layout.requests),
        grants=tuple(layout.grants),
        sources=sources,
        chosen=chosen,
        host=layout.host,
        note="; ".join(filter(None, (note, *layout.notes()))),
        secret_files=layout.secret_files,
        on_top=on_top,
        leading=leading,
    )


@dataclass(frozen=True)
class _Request:
    """A mount that a spec requests: its key, resolved source and target."""

    key: str
    source: Path
    target: str
    read_only: bool

    @property
    def bind(self) -> Bind:
        return Bind(str(self.source), self.target, self.read_only)


class _Layout:
    """Collects the requested mounts and the grants of a spec.

    Args:
        project: a resolved path.
    """

    def __init__(
        self, spec: SessionSpec, project: Path, user: User, host: HostEnvironment | None
    ) -> None:
        self.host: HostEnvironment | None = None
        if spec.uses_host_image:
            self.host = host or host_environment(spec.kernel)
        self.spec, self.project, self.user, self.home = spec, project, user, Path(user.home)
        self.real_home = resolved(self.home, "home")
        self.requests: list[_Request] = []
        self.grants: list[Grant] = []
        self.secret_files: dict[str, Path] = {}

    def add_home(self) -> None:
        if self.spec.home:
            source = resolved_source(self.home, "home", self.project)
            self.requests.append(_Request("home", source, self.user.home, False))
            self.grants.append(Grant("home", f"your home, {self.user.home}, writable"))

    def add_working_directory(self, project: Path, cwd: Path) -> tuple[str, str]:
        """Request mounts of the home, if the spec has it, and of a folder at the same path.

        Args:
            project: the folder, a resolved path.
            cwd: a resolved path.

        Returns:
            The working directory in the container, and a note as in ``MountPlan``.
        """
        self.add_home()
        home = self.user.home
        if not is_mountable(project):
            whose = "your home" if self.spec.home else "a private one"
            return home, f"{project} is not mounted; the working directory is {home}, {whose}"
        note = ""
        if not self.spec.home and is_below(self.real_home, project):
            self.grants.append(Grant(WORKING_DIRECTORY, f"your home, {home}, writable"))
            inside = "" if project == self.real_home else f"lies in {project} and so "
            note = f"your home, {home}, {inside}is mounted writable, with its keys and tokens"
        elif not is_below(cwd, project):
            note = f"{cwd} is not mounted; the working directory is {project}"
        elif project != self.project:
            why = marker_of(project)
            note = f"your project, {project}, is mounted" + (f": it contains {why}" if why else "")
        if not (self.spec.home and str(project) == home):
            self.requests.append(_Request(WORKING_DIRECTORY, project, str(project), False))
        return str(cwd if is_below(cwd, project) else project), note

    def add_declared(self) -> None:
        """Add all else that the spec has."""
        mistakes = Mistakes()
        with mistakes:
            self.add_inputs_and_outputs()
        with mistakes:
            self.add_secrets()
        mistakes.report()
        self.add_groups()
        for source in self.host.of_kernel if self.host else ():
            if not is_below(source, self.project):
                self.grants.append(Grant("kernel", f"read {source}"))

    def add_inputs_and_outputs(self) -> None:
        from mooring.spec.fields import scheme_of

        mistakes = Mistakes()
        for kind, mounts, base, access in (
            ("inputs", self.spec.inputs, INPUTS, "read"),
            ("outputs", self.spec.outputs, OUTPUTS, "write"),
        ):
            is_output = kind == "outputs"
            for mount in mounts:
                if scheme_of(mount.source):
                    continue  # refused by `refuse_unsupported`
                path, key = Path(mount.source), f"{kind}: {mount.name}"
                with mistakes:
                    source = resolved_source(path, key, self.project, may_be_missing=is_output)
                    self.requests.append(
                        _Request(kind, source, f"{base}/{mount.name}", read_only=not is_output)
                    )
                    if not is_below(source, self.project) or is_sensitive(source, self.home):
                        self.grants.append(Grant(kind, f"{access} {source}"))
        mistakes.report()

    def add_secrets(self) -> None:
        for name, secret in self.spec.secrets.items():
            origin = f"variable {secret.env}"
            if secret.file:  # the real path, because the file may be a link
                path = resolved(absolute(Path(secret.file), self.project), f"secrets: {name}")
                self.secret_files[name] = path
                origin = f"file {path}"
            self.grants.append(Grant(f"secrets.{name}", f"from your {origin}"))

    def add_groups(self) -> None:
        self.grants += [Grant("groups", f"your group {name}") for name in self.spec.groups]

    @property
    def writable(self) -> list[Path]:
        """The sources of the writable mounts."""
        return [request.source for request in self.requests if not request.read_only]

    def notes(self) -> Iterator[str]:
        """Notes about the writable mounts and the image, as in ``MountPlan``."""
        yield from protected.import_notes(self.writable)
        if self.host is not None:
            yield self.host.note

    def checked_sources(self) -> tuple[Sources, Sources]:
        """Refuse mounts that must not be; return ``sources`` and ``chosen`` of ``MountPlan``.

        Raises:
            PolicyError: a source would expose the host, or what mooring itself runs from.
        """
        sources = tuple((request.key, request.source) for request in self.requests)
        chosen = self.host.sources if self.host else ()
        sockets = local_sockets(os.environ)
        mistakes = Mistakes()
        for key, source in (*sources, *chosen):
            with mistakes:
                refuse_host(source, key, sockets)
        for request in self.requests:
            with mistakes:
                if not request.read_only:
                    protected.refuse_unprotected(request.source, request.key, self.real_home)
        mistakes.report()
        return sources, chosen

    def leading(self, folders: SessionFolders, known: Container[str]) -> tuple[Bind, ...]:
        """Return ``leading`` of ``MountPlan``.

        A hidden folder stays writable: programs keep their settings there.

        Args:
            folders: the session's folders.
            known: the targets of all other mounts.
        """
        home, source = self.user.home, os.path.realpath(folders.home)
        tops = set()
        for request in self.requests:
            if is_below(request.target, home) and request.target != home:
                tops.add(request.target[len(home) :].lstrip("/").split("/")[0])
        binds = [Bind(f"{source}/{top}", f"{home}/{top}") for top in sorted(tops)]
        shown = [bind for bind in binds if not os.path.basename(bind.target).startswith(".")]
        mounted_home = any(request.target == home for request in self.requests)
        return tuple(bind for bind in shown if not mounted_home and bind.target not in known)

    def binds(self, folders: SessionFolders) -> tuple[Bind, ...]:
        """The requested mounts and the session's own; the sources are resolved."""
        own = [Bind(os.path.realpath(folders.run), GUEST_RUN, False), folders.programs]
        if self.spec.secrets:
            own.append(Bind(os.path.realpath(folders.secrets), SECRETS))
        if folders.etc:
            etc = os.path.realpath(folders.etc)
            own += [Bind(f"{etc}/{name}", f"/etc/{name}") for name in ("passwd", "group")]
        requested = [request.bind for request in self.requests]
        if not any(bind.target == self.user.home for bind in requested):  # it may be the project
            own.append(Bind(os.path.realpath(folders.home), self.user.home, False))
        return (*requested, *own)


def create_outputs(planned: MountPlan) -> None:
    """Create the folders of outputs, owned by the user, because an engine never creates them.

    They are created where the plan has them: through a link that was put on the way since, none is.

    Raises:
        SpecError: a folder cannot be created.
        PolicyError: a link has taken the place of a folder on the way to one.
    """
    for key, path in planned.sources:
        if key != "outputs":
            continue
        try:
            os.close(nofollow.open_folder(path, create=True))
        except OSError as error:
            if nofollow.was_replaced(error):
                raise PolicyError(
                    f"outputs: {path} has changed since it was checked", EXCHANGED_HINT
                ) from None
            raise SpecError(
                f"outputs: cannot create {path}: {error.strerror}",
                "use a folder that you can write to",
            ) from error
