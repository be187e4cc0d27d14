"""The mounts of a session.

Each source is resolved to its real path before it is checked, and the engine is given the resolved
path. Before the container runs any program of the user, it compares device and inode with those
that were checked (``check_mounts`` in ``mooring/guest``), so that replacing a path by a symbolic
link in between gains nothing.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.engines import local_sockets
from mooring.engines.base import Bind
from mooring.errors import PolicyError, SpecError
from mooring.guest.paths import GUEST_RUN
from mooring.host import nofollow, paths
from mooring.host.users import User
from mooring.images.sources import (
    WORKING_DIRECTORY,
    absolute,
    is_below,
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
        secrets: mounted at ``SECRETS``.
        etc: contains ``passwd`` and ``group``, each mounted in ``/etc``.
        empty: an empty folder, mounted over folders that the session must not see.
    """

    home: Path
    run: Path
    secrets: Path
    etc: Path
    empty: Path


@dataclass(frozen=True)
class MountPlan:
    """The planned mounts of a session.

    Attributes:
        binds: in the order in which the engine must mount them.
        workdir: the working directory in the container.
        granted: the binds that the spec requests; the container checks their identity at start.
        grants: what requires the user's trust if a spec file requests it.
        sources: pairs of key and real path, one for each requested mount.
        note: a notice for the user that the project's folder is not mounted, or that it exposes
            their home; empty otherwise.
        secret_files: the real paths of the files that secrets are read from, by the secrets' names.
    """

    binds: tuple[Bind, ...]
    workdir: str
    granted: tuple[Bind, ...]
    grants: tuple[Grant, ...]
    sources: tuple[tuple[str, Path], ...] = ()
    note: str = ""
    secret_files: Mapping[str, Path] = field(default_factory=dict)


def plan(
    spec: SessionSpec,
    *,
    project: Path,
    cwd: Path,
    user: User,
    folders: SessionFolders | None = None,
) -> MountPlan:
    """Check the mounts that a spec requests and plan them, without creating or mounting anything.

    Args:
        spec: the session's spec.
        project: the folder that the spec may use freely: its file's, or the current folder.
        cwd: the user's current folder; it becomes the working directory if it is in the project.
        user: the session's owner.
        folders: the session's folders; None for a plan without ``binds`` and ``granted``.

    Raises:
        SpecError: a source does not exist, or has the wrong file type.
        PolicyError: a source would expose the host.
    """
    layout = _Layout(spec, resolved(project, WORKING_DIRECTORY), user)
    layout.add_home()
    workdir, note = layout.add_working_directory(resolved(cwd, WORKING_DIRECTORY))
    layout.add_inputs_and_outputs()
    layout.add_secrets()
    sockets = local_sockets(os.environ)
    for request in layout.requests:
        refuse_host(request.source, request.key, sockets)
    granted = tuple(request.bind for request in layout.requests) if folders else ()
    return MountPlan(
        binds=layout.binds(folders, sockets) if folders else (),
        workdir=workdir,
        granted=granted,
        grants=tuple(layout.grants),
        sources=tuple((request.key, request.source) for request in layout.requests),
        note=note,
        secret_files=layout.secret_files,
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

    def __init__(self, spec: SessionSpec, project: Path, user: User) -> None:
        self.spec, self.project, self.user, self.home = spec, project, user, Path(user.home)
        self.requests: list[_Request] = []
        self.grants: list[Grant] = []
        self.secret_files: dict[str, Path] = {}

    def add_home(self) -> None:
        if self.spec.home:
            source = resolved_source(self.home, "home", self.project)
            self.requests.append(_Request("home", source, self.user.home, False))
            self.grants.append(Grant("home", f"your home, {self.user.home}, writable"))

    def add_working_directory(self, cwd: Path) -> tuple[str, str]:
        """Request a mount of the project at the same path.

        Args:
            cwd: a resolved path.

        Returns:
            The working directory in the container, and a note as in ``MountPlan``.
        """
        project, home = self.project, self.user.home
        if not is_mountable(project):
            whose = "your home" if self.spec.home else "a private one"
            return home, f"{project} is not mounted; the working directory is {home}, {whose}"
        note = ""
        real_home = resolved(self.home, "home")
        if not self.spec.home and is_below(real_home, project):
            self.grants.append(Grant(WORKING_DIRECTORY, f"your home, {home}, writable"))
            inside = "" if project == real_home else f"lies in {project} and so "
            note = f"your home, {home}, {inside}is mounted writable, with its keys and tokens"
        if not (self.spec.home and str(project) == home):
            self.requests.append(_Request(WORKING_DIRECTORY, project, str(project), False))
        return str(cwd if is_below(cwd, project) else project), note

    def add_inputs_and_outputs(self) -> None:
        for kind, mounts, base, access in (
            ("inputs", self.spec.inputs, INPUTS, "read"),
            ("outputs", self.spec.outputs, OUTPUTS, "write"),
        ):
            is_output = kind == "outputs"
            for mount in mounts:
                path, key = Path(mount.source), f"{kind}: {mount.name}"
                source = resolved_source(path, key, self.project, may_be_missing=is_output)
                self.requests.append(
                    _Request(kind, source, f"{base}/{mount.name}", read_only=not is_output)
                )
                if not is_below(source, self.project) or is_sensitive(source, self.home):
                    self.grants.append(Grant(kind, f"{access} {source}"))

    def add_secrets(self) -> None:
        for name, secret in self.spec.secrets.items():
            origin = f"variable {secret.env}"
            if secret.file:  # the real path, because the file may be a link
                path = resolved(absolute(Path(secret.file), self.project), f"secrets: {name}")
                self.secret_files[name] = path
                origin = f"file {path}"
            self.grants.append(Grant(f"secrets.{name}", f"from your {origin}"))

    def binds(self, folders: SessionFolders, sockets: Iterable[Path]) -> tuple[Bind, ...]:
        """All mounts, in mount order."""
        home, binds = self.user.home, [request.bind for request in self.requests]
        if not any(bind.target == home for bind in binds):  # it may be the project
            binds.insert(0, Bind(str(folders.home), home, False))
        binds += self._masks(folders.empty, sockets)
        binds.append(Bind(str(folders.run), GUEST_RUN, False))
        if self.spec.secrets:
            binds.append(Bind(str(folders.secrets), SECRETS))
        binds += [Bind(str(folders.etc / name), f"/etc/{name}") for name in ("passwd", "group")]
        return tuple(binds)

    def _masks(self, empty: Path, sockets: Iterable[Path]) -> Iterator[Bind]:
        """Mounts that hide mooring's state folder and the engines' sockets in requested folders.

        The state folder contains the keys of other sessions' kernels.

        Args:
            empty: an empty folder.
            sockets: the sockets of this machine's engines, resolved.
        """
        state = Path(os.path.realpath(paths.state_dir()))
        masks = [(state, str(empty)), *((path, os.devnull) for path in sockets)]
        for request in self.requests:
            for hidden, mask in masks:
                if request.source in hidden.parents and hidden.exists():
                    target = Path(request.target) / hidden.relative_to(request.source)
                    yield Bind(mask, str(target))


def identities(run: Path, granted: Iterable[Bind]) -> str:
    """The expected identities of mounts, which the container checks before it runs a program.

    The first line is for the run folder, which only its owner can replace. A mismatch there means
    that the engine presents files through another device, as a virtual machine does.

    Args:
        run: the session's run folder.
        granted: as in ``MountPlan``.

    Returns:
        ``DEVICE:INODE TARGET`` lines; empty unless this system is Linux, because otherwise the
        engine runs in a virtual machine.

    Raises:
        PolicyError: a source was removed or replaced since it was resolved.
    """
    if sys.platform != "linux":
        return ""
    lines = [_identity(Path(os.path.realpath(run)), GUEST_RUN)]
    lines += [_identity(Path(bind.source), bind.target) for bind in granted]
    return "".join(lines)


def _identity(source: Path, target: str) -> str:
    """The line of one mount; the source is opened, so that all checks apply to the same file."""
    try:
        descriptor = os.open(source, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise PolicyError(
            f"{source}, mounted at {target}: {error.strerror}",
            "restore it, or remove the session and create it again",
        ) from error
    try:
        status = os.fstat(descriptor)
        real = os.readlink(f"/proc/self/fd/{descriptor}")
        if real != str(source) or stat.S_ISLNK(status.st_mode):
            raise PolicyError(
                f"{source}, to be mounted at {target}, has changed since it was checked",
                EXCHANGED_HINT,
            )
    finally:
        os.close(descriptor)
    return f"{status.st_dev}:{status.st_ino} {target}\n"


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


def prepare_home(home: Path, binds: Iterable[Bind], user: User) -> None:
    """Create the mount points in a private home, because the engine would create them as root.

    Args:
        home: the private home on this machine.
        binds: all mounts of the container.
        user: the session's owner.
    """
    for bind in binds:
        inside = os.path.relpath(bind.target, user.home)
        if inside == "." or inside.startswith(".."):
            continue
        point = home / inside
        if os.path.isdir(bind.source):
            point.mkdir(parents=True, exist_ok=True)
        else:
            point.parent.mkdir(parents=True, exist_ok=True)
            point.touch()
