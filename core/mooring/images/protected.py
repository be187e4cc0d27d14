"""What no session may change, whichever folders it mounts: what mooring itself runs from.

That is the Python that runs mooring (its environment, and the folders that it imports from),
mooring's state, and the engines' sockets. Where a session's writable mount contains one, another
mount lies on top of it, see ``overmounts``. A mount that is a part of it is refused, and so is one
with a symbolic link on the way to it, because no mount can lie on top of a link.

``sys.path`` also has folders that are the user's own work: an editable install, or ``PYTHONPATH``;
and the finder of an editable install has a project that is not on ``sys.path``. Those are read-only
inside a mounted folder as well. One that is the mounted folder itself cannot be read-only without
making the mount useless, so the user is told instead. The first entry of ``sys.path`` depends on
how Python was started (``python -m`` adds the current folder) and is ignored.
"""

from __future__ import annotations

import functools
import os
import site
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mooring.engines import local_socket_names
from mooring.errors import PolicyError
from mooring.host import paths
from mooring.host.filesystems import LINKS_MAX, aliases, is_below, mounts
from mooring.host.untrusted import parse_json

#: Prefixes that also hold what is not Python's.
SYSTEM_PREFIXES = ("/", "/usr", "/usr/local")
_MOORING = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True)
class Guarded:
    """A file or folder of this machine that no session may change.

    Attributes:
        path: its path, resolved.
        mask: what is mounted over it to hide it; empty to mount the path itself, read-only.
    """

    path: str
    mask: str = ""


def guarded_paths(empty: Path) -> tuple[Guarded, ...]:
    """Return everything that no session may change, outermost first.

    Args:
        empty: an empty folder, which hides mooring's state.
    """
    found = {str(path): "" for path in (*_real(_programs()), *_real(import_folders()))}
    # the state folder contains the keys of other sessions' kernels
    found |= {str(path): os.path.realpath(empty) for path in _real([_state()])}
    found |= {str(path): os.devnull for path in _real(local_socket_names(os.environ))}
    mounted = mounts()
    for path, mask in list(found.items()):
        for other in aliases(path, mounted):
            found[other] = mask and (mask if os.path.isdir(other) else os.devnull)
    guarded = (Guarded(path, mask) for path, mask in found.items() if os.path.exists(path))
    return tuple(sorted(guarded, key=lambda guard: (guard.path.count("/"), guard.path)))


def refuse_unprotected(source: Path, key: str, home: Path) -> None:
    """Refuse a writable mount in which mooring's own programs could not be protected.

    Args:
        source: the mount's source, resolved.
        key: the spec's key, for the error.
        home: the user's home, resolved. A mount of it is not refused for its links: who can write
            to a home has other ways to run programs as the user, such as ``~/.profile``.

    Raises:
        PolicyError: the source is a part of the Python that runs mooring, or contains a symbolic
            link that leads to it, to mooring's state or to an engine's socket.
    """
    traces = [_trace(name) for name in _programs()]
    spellings = (source, *map(Path, aliases(str(source), mounts())))
    for real, _ in traces:
        if any(is_below(spelling, real) for spelling in spellings):
            raise PolicyError(
                f"{key}: {source} belongs to the Python that mooring runs from, {real}",
                "use a folder outside of it, or install mooring in an environment elsewhere",
            )
    if is_below(home, source):
        return
    own = [real for real, _ in traces]
    traces += [_trace(name) for name in (_state(), *local_socket_names(os.environ))]
    for real, links in traces:
        for link in links:
            if is_below(link, source) and not any(is_below(link, top) for top in own):
                raise PolicyError(
                    f"{key}: the session could replace the link {link}, by which {real} is reached",
                    f"use {real} itself, or replace the link by a folder",
                )


def import_notes(writable: Sequence[Path]) -> Iterator[str]:
    """Describe what mounting folders means for modules that are the user's own work.

    Args:
        writable: the sources of the writable mounts, resolved.
    """
    traces = [(name, *_trace(name)) for name in import_folders()]
    concerned = [
        (name, folder, links)
        for name, folder, links in traces
        if any(is_below(folder, source) or _leads(links, source) for source in writable)
    ]
    programs = list(_real(_programs())) if concerned else []
    read_only, changeable = [], []
    for name, folder, links in concerned:
        if any(is_below(folder, program) for program in programs):
            continue
        for source in writable:
            if source in folder.parents and folder.exists() and not _leads(links, source):
                read_only.append(str(folder))
            elif is_below(folder, source) or _leads(links, source):
                changeable.append(name)
    if read_only:
        shown = ", ".join(dict.fromkeys(read_only))
        yield f"mounted read-only, because the Python that runs mooring imports from it: {shown}"
    if changeable:
        shown = ", ".join(dict.fromkeys(changeable))
        yield (
            f"the session can change {shown}, which the Python that runs mooring imports from; "
            "install mooring in an environment of its own to separate them"
        )


def prefixes() -> set[str]:
    """Return the folders of the running Python's environment, and of the one below it."""
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    found.add(os.path.dirname(os.path.dirname(os.path.realpath(sys.executable))))
    return found


def user_site() -> str:
    """Return the folder of the user's own packages; empty if Python does not use or have it."""
    folder = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    return folder if os.path.isdir(folder) else ""


def import_folders() -> list[str]:
    """Return the entries of ``sys.path``, without the one that depends on how Python was started,
    and the projects of ``editable_projects``.

    They need not exist.
    """
    first = 0 if getattr(sys.flags, "safe_path", False) else 1
    entries = [entry for entry in sys.path[first:] if os.path.isabs(entry)]
    return [*entries, *editable_projects()]


def editable_projects() -> list[str]:
    """Return the folders of the projects whose editable install has a finder.

    Those of other editable installs are entries of ``sys.path``. Only the finder knows which
    folders it imports from, so the whole project stands for them.
    """
    projects = list[str]()
    for folder in sys.path:
        if folder.endswith(("site-packages", "dist-packages")) and os.path.isdir(folder):
            projects += _editable_installs(folder, os.stat(folder).st_mtime_ns)
    entries = [entry for entry in sys.path if not is_below(entry, sys.prefix)]
    return [
        project
        for project in dict.fromkeys(projects)
        if not any(is_below(entry, project) for entry in entries)
    ]


@functools.lru_cache(maxsize=64)
def _editable_installs(packages: str, _changed_ns: int) -> tuple[str, ...]:
    """Return the projects that are installed editable in a folder of packages, see PEP 610.

    Args:
        packages: the folder.
        _changed_ns: when it was last changed, for the cache.
    """
    projects = []
    for name in sorted(os.listdir(packages)):
        if not name.endswith(".dist-info"):
            continue
        try:
            with open(f"{packages}/{name}/direct_url.json", "rb") as file:
                origin = parse_json(file.read())
            from urllib.parse import unquote, urlsplit  # slow, and seldom needed

            url, editable = urlsplit(origin["url"]), origin["dir_info"]["editable"]
        except (OSError, ValueError, KeyError, TypeError):  # not an editable one
            continue
        if editable and url.scheme == "file":
            projects.append(os.path.normpath(unquote(url.path)))
    return tuple(projects)


def _programs() -> list[str]:
    """Return the existing paths that the running Python and mooring consist of, unresolved."""
    names = {sys.executable, user_site(), _MOORING, _command()}
    for prefix in prefixes():
        parts = ("bin", "lib") if prefix in SYSTEM_PREFIXES else ("",)
        names |= {os.path.join(prefix, part).rstrip("/") for part in parts}
    return sorted(name for name in names if name and os.path.exists(name))


def _command() -> str:
    """Return the path of the command that was run, such as ``mooring``; empty for a script."""
    try:
        name = os.path.abspath(sys.argv[0]) if sys.argv[:1] else ""
    except FileNotFoundError:  # the current folder was deleted
        return ""
    is_command = os.path.isfile(name) and os.access(name, os.X_OK) and not name.endswith(".py")
    return name if is_command else ""


def _state() -> str:
    return str(paths.state_dir())


def _real(names: Iterable[str]) -> Iterator[Path]:
    return (_trace(name)[0] for name in names)


def _leads(links: Iterable[Path], source: Path) -> bool:
    return any(is_below(link, source) for link in links)


def _trace(name: str) -> tuple[Path, tuple[Path, ...]]:
    """Resolve a path.

    Returns:
        The real path, and the symbolic links on the way to it, each in a resolved folder.
    """
    here, links = "/", []
    pending = name.split("/")[::-1]
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        there = os.path.dirname(here) if part == ".." else os.path.join(here, part)
        try:
            target = os.readlink(there)
        except OSError:  # not a link, or missing
            here = there
            continue
        links.append(Path(there))
        if len(links) > LINKS_MAX:
            break
        here = "/" if target.startswith("/") else here
        pending += target.split("/")[::-1]
    return Path(here), tuple(links)
