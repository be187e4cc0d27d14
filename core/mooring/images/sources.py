"""Resolve the paths of a spec, and refuse those that must not be mounted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from mooring.errors import PolicyError, SpecError
from mooring.host import paths
from mooring.host.filesystems import is_below
from mooring.host.text import one_line

#: The key of the working directory's mount, which no key of a spec requests.
WORKING_DIRECTORY = "working directory"

# Never mounted, because they would expose the host
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
# Never a working directory, because the container has its own
_SYSTEM = ("/bin", "/etc", "/lib", "/lib32", "/lib64", "/sbin", "/usr")
_TOPS = ("/", "/home", "/mnt", "/opt", "/tmp", "/var", "/var/lib", "/var/tmp")
# Paths in the home that a spec file must not mount without the user's trust
_SENSITIVE = (".aws", ".azure", ".config", ".docker", ".gnupg", ".kube", ".netrc", ".ssh")
_SHOWN_CHARACTERS = 200


def absolute(path: Path, project: Path) -> Path:
    """Make a path of a spec absolute, expanding ``~``; relative paths start from the project.

    Raises:
        SpecError: ``~USER`` names a user that does not exist.
    """
    try:
        return project / path.expanduser()
    except RuntimeError:  # ~somebody
        raise SpecError(f"{path}: no such user", "write the full path") from None


def resolved(path: Path, key: str) -> Path:
    """Resolve a path's symbolic links.

    Args:
        path: the path.
        key: the spec's key, for the error.

    Raises:
        SpecError: the path cannot be resolved, or the result has unprintable characters.
    """
    try:
        real = path.resolve()
        if real.is_symlink():  # since Python 3.13, a loop is no error
            raise RuntimeError
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "its links form a loop"
        raise SpecError(f"{key}: {_shown(path)}: {why}", "correct the path") from None
    if not str(real).isprintable():
        # the container reads the mounts line by line
        raise SpecError(
            f"{key}: {_shown(real)} has unprintable characters in its name", "rename it"
        )
    return real


def resolved_source(path: Path, key: str, project: Path, *, may_be_missing: bool = False) -> Path:
    """Resolve the source of a mount, and check that it exists.

    Args:
        path: as in the spec, see ``absolute``.
        key: the spec's key, for the error; if it begins with ``outputs``, the source must be a
            folder.
        project: the folder that relative paths start from.
        may_be_missing: the source need not exist.

    Raises:
        SpecError: it does not exist, is inaccessible, or is an output but not a folder.
    """
    source = absolute(path, project)
    real = resolved(source, key)
    try:
        status = real.stat()
    except FileNotFoundError:
        if may_be_missing:
            return real
        raise SpecError(
            f"{key}: {_shown(source)} does not exist", "create it, or correct the path"
        ) from None
    except OSError as error:
        raise SpecError(
            f"{key}: {_shown(source)}: {error.strerror}", "use a path that you can access"
        ) from None
    if key.startswith("outputs") and not stat.S_ISDIR(status.st_mode):
        raise SpecError(f"{key}: {source} is not a folder", "an output must be a folder")
    return real


def is_mountable(path: Path) -> bool:
    """Whether a working directory may be mounted at the same path, hiding the image's files there.

    False for system folders, for ``/home`` and similar folders themselves, and for mooring's state.
    """
    if str(path) in _TOPS or is_below(path, Path(os.path.realpath(paths.state_dir()))):
        return False
    return not any(is_below(path, Path(top)) for top in (*_FORBIDDEN, *_SYSTEM))


def refuse_host(source: Path, key: str, sockets: Iterable[Path]) -> None:
    """Refuse a source that would expose the host.

    Args:
        source: a resolved path.
        key: the spec's key; a working directory is not checked here but by ``is_mountable``.
        sockets: the sockets of this machine's engines, resolved.

    Raises:
        PolicyError: the source is a system folder, a special file, mooring's state, or contains
            an engine's socket and is not the home.
    """
    if key == WORKING_DIRECTORY:
        return
    text = str(source)
    forbidden = text == "/" or any(text == top or text.startswith(f"{top}/") for top in _FORBIDDEN)
    forbidden = forbidden or (key != "home" and any(source in path.parents for path in sockets))
    if forbidden or text in ("/var", "/var/lib") or _is_special(source):
        raise PolicyError(
            f"{key}: {source} would expose the host",
            "mount the folder that holds your data, not the system's",
        )
    if is_below(source, Path(os.path.realpath(paths.state_dir()))):
        raise PolicyError(f"{key}: {source} belongs to mooring itself", "use another path")


def is_sensitive(source: Path, home: Path) -> bool:
    """Whether a source requires trust even in the project: the home, or its credentials."""
    tops = [home / name for name in _SENSITIVE]
    return source == home or any(is_below(source, top) for top in tops)


def _is_special(source: Path) -> bool:
    """Whether a source is a device, a socket or a FIFO."""
    try:
        mode = source.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISDIR(mode) or stat.S_ISREG(mode))


def _shown(path: Path) -> str:
    return one_line(path, _SHOWN_CHARACTERS)
