"""What of this machine a session may see, and where.

Every source is resolved to the real file behind it when it is checked. The engine is given the
resolved path; the container compares device and inode with what was checked before it runs
anything of the user's, so that a link swapped in between grants nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mooring import paths
from mooring.engines.base import Bind
from mooring.errors import PolicyError, SpecError
from mooring.folder import GUEST_RUN, Folder
from mooring.users import User

if TYPE_CHECKING:
    from mooring.spec import SessionSpec

INPUTS = "/mnt/inputs"
OUTPUTS = "/mnt/outputs"
SECRETS = "/run/secrets"

# The host itself. Nobody may mount these, wherever the wish stands.
_FORBIDDEN = ("/boot", "/dev", "/proc", "/sys", "/run", "/var/run", "/var/lib/docker")
# No place for a working directory: the container has its own
_SYSTEM = ("/bin", "/etc", "/lib", "/lib32", "/lib64", "/sbin", "/usr")
_TOPS = ("/", "/home", "/mnt", "/opt", "/tmp", "/var", "/var/lib", "/var/tmp")
# Below the home: what a stranger's file must not get unasked
_SENSITIVE = (".aws", ".azure", ".config", ".docker", ".gnupg", ".kube", ".netrc", ".ssh")


@dataclass(frozen=True)
class Grant:
    """One thing of this machine that a spec asks for beyond its own folder."""

    key: str
    what: str


@dataclass(frozen=True)
class MountPlan:
    """Where everything goes.

    Attributes:
        binds: in the order in which the engine must see them.
        workdir: the working directory in the container.
        identities: ``device:inode target`` of each user mount, for the check from inside.
        grants: what needs the user's consent if a file asked for it.
    """

    binds: tuple[Bind, ...]
    workdir: str
    identities: tuple[str, ...]
    grants: tuple[Grant, ...]


def plan(
    spec: SessionSpec, *, project: Path, cwd: Path, user: User, folder: Folder | None = None
) -> MountPlan:
    """Check what a spec asks for and lay it out. Nothing is created and nothing is mounted.

    Args:
        project: the folder that the spec may use freely: its file's, or the current one.
        cwd: the caller's current directory; the working directory if it lies in the project.
        folder: the session's; None for a look at the grants before there is one.

    Raises:
        SpecError: a source is missing or is of the wrong kind.
        PolicyError: a source would give the host away.
    """
    project = project.resolve()
    wanted: list[tuple[str, Path, str, bool]] = []  # key, real source, target, read only
    grants: list[Grant] = []

    home = Path(user.home)
    if spec.home:
        wanted.append(("home", _real(home, "home", project), user.home, False))
        grants.append(Grant("home", f"your home, {user.home}, writable"))
    inside = cwd.resolve() == project or project in cwd.resolve().parents
    workdir = str(cwd.resolve() if inside else project)
    if _mountable(project):
        if project == home.resolve() and not spec.home:
            grants.append(Grant("working directory", f"your home, {user.home}, writable"))
        wanted.append(("working directory", project, str(project), False))
    else:
        workdir = user.home
    for kind, mounts, base in (("inputs", spec.inputs, INPUTS), ("outputs", spec.outputs, OUTPUTS)):
        for mount in mounts:
            source = _real(Path(mount.source), f"{kind}: {mount.name}", project, kind == "outputs")
            wanted.append((kind, source, f"{base}/{mount.name}", kind == "inputs"))
            outside = source != project and project not in source.parents
            if outside or _is_sensitive(source, home):
                access = "read" if kind == "inputs" else "write"
                grants.append(Grant(kind, f"{access} {source}"))
    for name, secret in spec.secrets.items():
        origin = f"variable {secret.env}" if secret.env else f"file {secret.file}"
        grants.append(Grant("secrets", f"{name}, from your {origin}"))

    for key, source, _, _ in wanted:
        _refuse_host(source, key)
    if folder is None:
        return MountPlan((), workdir, (), tuple(grants))

    binds = [] if spec.home else [Bind(str(folder.home), user.home, False)]
    binds += [Bind(str(source), target, read_only) for _, source, target, read_only in wanted]
    state = paths.state_dir()
    if any(source == state or source in state.parents for _, source, _, _ in wanted):
        # keys of other sessions' kernels lie there
        binds.append(Bind(str(folder.path / "empty"), str(state)))
    binds.append(Bind(str(folder.run), GUEST_RUN, False))
    if spec.secrets:
        binds.append(Bind(str(folder.secrets), SECRETS))
    binds += [Bind(str(folder.path / "etc" / name), f"/etc/{name}") for name in ("passwd", "group")]
    identities = tuple(
        f"{found.st_dev}:{found.st_ino} {target}"
        for _, source, target, _ in wanted
        if (found := _stat(source))
    )
    return MountPlan(tuple(binds), workdir, identities, tuple(grants))


def create_outputs(spec: SessionSpec, project: Path) -> None:
    """Make the outputs' folders, the caller's own, before any engine could make them root's.

    Raises:
        SpecError: one cannot be made.
    """
    for mount in spec.outputs:
        path = _absolute(Path(mount.source), project)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(
                f"outputs: {mount.name}: cannot make {path}: {error.strerror}",
                "name a folder that you can write to",
            ) from error


def prepare_home(folder: Folder, binds: tuple[Bind, ...], user: User) -> None:
    """Make the mount points inside the private home, which the engine would make as root."""
    for bind in binds:
        inside = os.path.relpath(bind.target, user.home)
        if inside == "." or inside.startswith(".."):
            continue
        point = folder.home / inside
        if os.path.isdir(bind.source):
            point.mkdir(parents=True, exist_ok=True)
        else:
            point.parent.mkdir(parents=True, exist_ok=True)
            point.touch()


def read_secrets(spec: SessionSpec, project: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The secrets' values. Keep them out of logs, labels, arguments and environments.

    Raises:
        SpecError: a variable or a file is not there; the message names it, never a value.
    """
    values = {}
    for name, secret in spec.secrets.items():
        if secret.env:
            if secret.env not in environ:
                raise SpecError(
                    f"secrets: {name}: the environment has no {secret.env}",
                    f"export {secret.env}=… first",
                )
            values[name] = environ[secret.env]
        elif secret.file:
            path = _absolute(Path(secret.file), project)
            try:
                values[name] = path.read_text().rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "it is not text"
                raise SpecError(f"secrets: {name}: cannot read {path}: {why}") from error
    return values


def write_secrets(folder: Folder, values: Mapping[str, str]) -> None:
    """One file each, readable by the caller alone."""
    for name, value in values.items():
        path = folder.secrets / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "w") as file:
            file.write(value)


def _absolute(path: Path, project: Path) -> Path:
    return project / path.expanduser()


def _real(path: Path, key: str, project: Path, may_be_missing: bool = False) -> Path:
    absolute = _absolute(path, project)
    real = absolute.resolve()
    if real.exists():
        if key.startswith("outputs") and not real.is_dir():
            raise SpecError(f"{key}: {absolute} is not a folder", "outputs are folders")
        return real
    if may_be_missing:
        return real
    raise SpecError(f"{key}: {absolute} does not exist", "create it, or correct the path")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _mountable(path: Path) -> bool:
    text = str(path)
    if text in _TOPS:
        return False
    return not any(text == top or text.startswith(f"{top}/") for top in (*_FORBIDDEN, *_SYSTEM))


def _refuse_host(source: Path, key: str) -> None:
    text = str(source)
    if key == "working directory":
        return
    forbidden = text == "/" or any(text == top or text.startswith(f"{top}/") for top in _FORBIDDEN)
    if forbidden or text in ("/var", "/var/lib") or source.is_socket() or source.is_block_device():
        raise PolicyError(
            f"{key}: {source} would give this machine away",
            "mount the folder that holds your data, not the system's",
        )
    state = paths.state_dir()
    if source == state or state in source.parents:
        raise PolicyError(f"{key}: {source} is mooring's own", "mount something else")


def _is_sensitive(source: Path, home: Path) -> bool:
    tops = [home / name for name in _SENSITIVE]
    return source == home or any(source == top or top in source.parents for top in tops)
