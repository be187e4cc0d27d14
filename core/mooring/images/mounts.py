"""What of this machine a session may see, and where.

Every source is resolved to the real file behind it when it is checked. The engine is given the
resolved path; the container compares device and inode with what was checked before it runs
anything of the user's (``check_mounts`` in guest/clock.sh), so that a link swapped in between
grants nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.engines.base import Bind
from mooring.errors import PolicyError, SpecError
from mooring.host import paths
from mooring.host.users import User
from mooring.sessions.record import GUEST_RUN, Folder

if TYPE_CHECKING:
    from mooring.spec.model import SessionSpec

INPUTS = "/mnt/inputs"
OUTPUTS = "/mnt/outputs"
SECRETS = "/run/secrets"
SECRET_BYTES_MAX = 512 * 1024
EXCHANGED_HINT = "it was exchanged meanwhile: see who else writes to the folders above it"

# The host itself. Nobody may mount these, wherever the wish stands.
_FORBIDDEN = (
    "/boot",
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/var/run",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
)
# No place for a working directory: the container has its own
_SYSTEM = ("/bin", "/etc", "/lib", "/lib32", "/lib64", "/sbin", "/usr")
_TOPS = ("/", "/home", "/mnt", "/opt", "/tmp", "/var", "/var/lib", "/var/tmp")
# Below the home: what a stranger's file must not get unasked
_SENSITIVE = (".aws", ".azure", ".config", ".docker", ".gnupg", ".kube", ".netrc", ".ssh")


@dataclass(frozen=True)
class Grant:
    """One thing of this machine that a spec asks for beyond its own folder.

    Attributes:
        key: of the spec, dotted (``secrets.HF_TOKEN``): who wrote it decides who must be asked.
        what: in words, with the real path.
    """

    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}"


@dataclass(frozen=True)
class MountPlan:
    """Where everything goes.

    Attributes:
        binds: in the order in which the engine must see them.
        workdir: the working directory in the container.
        granted: those of the binds that were asked for, which the container checks from inside.
        grants: what needs the user's consent if a file asked for it.
        sources: the real path behind each bind that was asked for, with the key that asks.
        note: what the caller may not expect of the current folder, in words: it is not mounted,
            or it is their home. Empty for a folder like any other.
    """

    binds: tuple[Bind, ...]
    workdir: str
    granted: tuple[Bind, ...]
    grants: tuple[Grant, ...]
    sources: tuple[tuple[str, Path], ...] = ()
    note: str = ""


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
    project = _resolved(project, "working directory")
    wanted: list[tuple[str, Path, str, bool]] = []  # key, real source, target, read only
    grants: list[Grant] = []

    home = Path(user.home)
    if spec.home:
        wanted.append(("home", _real(home, "home", project), user.home, False))
        grants.append(Grant("home", f"your home, {user.home}, writable"))
    here = _resolved(cwd, "working directory")
    workdir = str(here if here == project or project in here.parents else project)
    note = ""
    if _mountable(project):
        real_home = _resolved(home, "home")
        if not spec.home and (project == real_home or project in real_home.parents):
            grants.append(Grant("working directory", f"your home, {user.home}, writable"))
            inside = "" if project == real_home else f"lies in {project} and so "
            note = f"your home, {user.home}, {inside}is mounted, writable: keys, tokens and all"
        if not (spec.home and str(project) == user.home):
            wanted.append(("working directory", project, str(project), False))
    else:
        workdir = user.home
        whose = "your home" if spec.home else "a home of its own"
        note = f"{project} is not mounted; the working directory is {user.home}, {whose}"
    for kind, mounts, base in (("inputs", spec.inputs, INPUTS), ("outputs", spec.outputs, OUTPUTS)):
        for mount in mounts:
            source = _real(Path(mount.source), f"{kind}: {mount.name}", project, kind == "outputs")
            wanted.append((kind, source, f"{base}/{mount.name}", kind == "inputs"))
            outside = source != project and project not in source.parents
            if outside or _is_sensitive(source, home):
                access = "read" if kind == "inputs" else "write"
                grants.append(Grant(kind, f"{access} {source}"))
    for name, secret in spec.secrets.items():
        origin = f"variable {secret.env}"
        if secret.file:  # the file itself, wherever a link by that name leads
            origin = f"file {os.path.realpath(_absolute(Path(secret.file), project))}"
        grants.append(Grant(f"secrets.{name}", f"from your {origin}"))

    sockets = _engine_sockets()
    for key, source, _, _ in wanted:
        _refuse_host(source, key, sockets)
    sources = tuple((key, source) for key, source, _, _ in wanted)
    if folder is None:
        return MountPlan((), workdir, (), tuple(grants), sources, note)

    granted = tuple(Bind(str(source), target, ro) for _, source, target, ro in wanted)
    has_home = any(target == user.home for _, _, target, _ in wanted)  # or it is the project
    binds = [] if has_home else [Bind(str(folder.home), user.home, False)]
    binds += granted
    state = Path(os.path.realpath(paths.state_dir()))
    for _, source, target, _ in wanted:
        # keys of other sessions' kernels lie in the one, and a home may hold the other
        masks = [(state, str(folder.path / "empty")), *((path, os.devnull) for path in sockets)]
        for hidden, mask in masks:
            if source in hidden.parents and hidden.exists():
                binds.append(Bind(mask, str(Path(target) / hidden.relative_to(source))))
    binds.append(Bind(str(folder.run), GUEST_RUN, False))
    if spec.secrets:
        binds.append(Bind(str(folder.secrets), SECRETS))
    binds += [Bind(str(folder.path / "etc" / name), f"/etc/{name}") for name in ("passwd", "group")]
    return MountPlan(tuple(binds), workdir, granted, tuple(grants), sources, note)


def identities(folder: Folder, granted: Iterable[Bind]) -> str:
    """What the container compares before it runs anything: ``DEVICE:INODE TARGET`` lines.

    The first line is the run directory's, which nobody but the caller can exchange: an engine
    that shows files through a device of its own (a virtual machine's) is told by it. Empty where
    the engine cannot run on the same kernel.

    Raises:
        PolicyError: a source is no longer what it was when it was resolved.
    """
    if sys.platform != "linux":
        return ""
    lines = [_identity(Path(os.path.realpath(folder.run)), GUEST_RUN)]
    lines += [_identity(Path(bind.source), bind.target) for bind in granted]
    return "".join(lines)


def _identity(source: Path, target: str) -> str:
    """One line; the file is opened, so that what is asked is what was found."""
    try:
        descriptor = os.open(source, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise PolicyError(
            f"{source}: {error.strerror}, and it is mounted at {target}",
            "put it back, or remove the session and create it anew",
        ) from error
    try:
        found = os.fstat(descriptor)
        real = os.readlink(f"/proc/self/fd/{descriptor}")
        if real != str(source) or stat.S_ISLNK(found.st_mode):
            raise PolicyError(
                f"{source}, to be mounted at {target}, is not what was checked", EXCHANGED_HINT
            )
    finally:
        os.close(descriptor)
    return f"{found.st_dev}:{found.st_ino} {target}\n"


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
            values[name] = _read_secret(path, f"secrets: {name}").rstrip("\n")
    return values


def write_secrets(folder: Folder, values: Mapping[str, str]) -> None:
    """One file each, readable by the caller alone."""
    for name, value in values.items():
        path = folder.secrets / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "w") as file:
            file.write(value)


def _read_secret(path: Path, key: str) -> str:
    """A small regular text file's content; a device or a FIFO is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SpecError(f"{key}: {path} is not a regular file", "secrets are small files")
            content = file.read(SECRET_BYTES_MAX + 1)
        if len(content) > SECRET_BYTES_MAX:
            raise SpecError(f"{key}: {path} is larger than 512 KiB", "secrets are small files")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SpecError(f"{key}: cannot read {path}: {why}", "correct the path") from None


def _absolute(path: Path, project: Path) -> Path:
    try:
        return project / path.expanduser()
    except RuntimeError:  # ~somebody
        raise SpecError(f"{path}: there is no such user", "write the whole path") from None


def _resolved(path: Path, key: str) -> Path:
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "its links go round in circles"
        raise SpecError(f"{key}: {_shown(path)}: {why}", "correct the path") from None
    if not str(real).isprintable():
        # mounts are told line by line
        raise SpecError(
            f"{key}: {_shown(real)} has unprintable characters in its name", "rename it"
        )
    return real


def _shown(path: Path) -> str:
    text = str(path)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= 200 else f"{text[:199]}…"


def _real(path: Path, key: str, project: Path, may_be_missing: bool = False) -> Path:
    absolute = _absolute(path, project)
    real = _resolved(absolute, key)
    try:
        found = real.stat()
    except FileNotFoundError:
        if may_be_missing:
            return real
        raise SpecError(
            f"{key}: {_shown(absolute)} does not exist", "create it, or correct the path"
        ) from None
    except OSError as error:
        raise SpecError(
            f"{key}: {_shown(absolute)}: {error.strerror}", "name a path that you can reach"
        ) from None
    if key.startswith("outputs") and not stat.S_ISDIR(found.st_mode):
        raise SpecError(f"{key}: {absolute} is not a folder", "outputs are folders")
    return real


def _mountable(path: Path) -> bool:
    """Whether a working directory may be mounted at its own path, over what the image has."""
    text = str(path)
    if text in _TOPS or _is_below(path, Path(os.path.realpath(paths.state_dir()))):
        return False
    return not any(_is_below(path, Path(top)) for top in (*_FORBIDDEN, *_SYSTEM))


def _is_below(path: Path, top: Path) -> bool:
    return path == top or top in path.parents


def _engine_sockets() -> list[Path]:
    """Where engines listen: who may write to one is root on this machine, or its user at least."""
    from mooring.engines.docker import DOCKER_SOCKET, local_address
    from mooring.errors import NotSupported

    addresses = [DOCKER_SOCKET]
    with contextlib.suppress(NotSupported):
        addresses.append(local_address(os.environ).removeprefix("unix://"))
    return sorted({Path(os.path.realpath(address)) for address in addresses})


def _refuse_host(source: Path, key: str, sockets: Iterable[Path]) -> None:
    if key == "working directory":
        return
    text = str(source)
    forbidden = text == "/" or any(_is_below(source, Path(top)) for top in _FORBIDDEN)
    forbidden = forbidden or (key != "home" and any(source in path.parents for path in sockets))
    if forbidden or text in ("/var", "/var/lib") or _is_special(source):
        raise PolicyError(
            f"{key}: {source} would give this machine away",
            "mount the folder that holds your data, not the system's",
        )
    if _is_below(source, Path(os.path.realpath(paths.state_dir()))):
        raise PolicyError(f"{key}: {source} is mooring's own", "mount something else")


def _is_special(source: Path) -> bool:
    try:
        mode = source.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISDIR(mode) or stat.S_ISREG(mode))


def _is_sensitive(source: Path, home: Path) -> bool:
    tops = [home / name for name in _SENSITIVE]
    return source == home or any(_is_below(source, top) for top in tops)
