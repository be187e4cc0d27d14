"""What the user's environment adds to ``image: host``: Python, another kernel, certificates.

It is found once for each launch, with the real path of everything: what is checked is what is
mounted, whatever a session that can write to one of these folders does meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mooring.host.filesystems import is_below
from mooring.host.text import one_line
from mooring.host.users import caller
from mooring.images import host_settings
from mooring.images.kernel_environment import KernelEnvironment, kernel_environment
from mooring.images.protected import editable_projects, prefixes, user_site

_OF_KERNEL = "image host, kernel "
#: The root's folders of programs and libraries, where they exist.
TOPS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")


@dataclass(frozen=True)
class Chosen:
    """A folder or file that is mounted read-only because of the user's environment.

    Attributes:
        key: what put it there, as a word for the user.
        target: its path in the session, which is the one that programs of this machine use.
        source: its real path.
    """

    key: str
    target: str
    source: str


@dataclass(frozen=True)
class HostEnvironment:
    """What the user's environment adds to ``image: host``.

    Attributes:
        chosen: what is mounted, beside the system's own software.
        variables: those that the session has from its creator.
        jupyter_path: the folder to look for the session's kernel in; empty for none.
        note: what is not mounted although a variable names it, and why; or empty.
    """

    chosen: tuple[Chosen, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    jupyter_path: str = ""
    note: str = ""

    @property
    def sources(self) -> tuple[tuple[str, Path], ...]:
        """Pairs of key and real path, for the checks of mounts."""
        return tuple((one.key, Path(one.source)) for one in self.chosen)

    @property
    def of_kernel(self) -> tuple[str, ...]:
        """The real paths of what is mounted for the session's kernel."""
        return tuple(one.source for one in self.chosen if one.key.startswith(_OF_KERNEL))

    def to_dict(self) -> dict[str, Any]:
        """Return it as what JSON can contain, for ``from_dict``."""
        return {
            "chosen": [[one.key, one.target, one.source] for one in self.chosen],
            "variables": dict(self.variables),
            "jupyter_path": self.jupyter_path,
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> HostEnvironment:
        """Return what ``to_dict`` was given; raise KeyError, TypeError or ValueError."""
        chosen = (Chosen(*map(str, parts)) for parts in stored["chosen"])
        path, note = str(stored["jupyter_path"]), str(stored["note"])
        return cls(tuple(chosen), dict(stored["variables"]), path, note)


def host_environment(kernel: str | None = None) -> HostEnvironment:
    """Find what the caller's environment adds to ``image: host``.

    Args:
        kernel: a kernel of this machine whose environment the session has to contain; None for
            none but the calling one.
    """
    others = kernel_environment(kernel, caller().home)
    chosen, notes = list[Chosen](), list[str]()
    system = system_folders()
    for one, why in _found(kernel, others):
        if any(is_below(one.target, top) for top in (*system, *(known.target for known in chosen))):
            continue
        if why:
            notes.append(f"the session does not have {one_line(one.target)} of {one.key}, {why}")
        else:
            chosen.append(one)
    notes += host_settings.notes(os.environ)
    variables = host_settings.variables(os.environ)
    return HostEnvironment(tuple(chosen), variables, others.jupyter_path, "; ".join(notes))


def system_folders() -> list[str]:
    """The folders of the system's own software, which need not exist."""
    tops = [f"/{name}" for name in TOPS if name != "sbin" and os.path.isdir(f"/{name}")]
    return ["/usr", "/opt", *(top for top in tops if not os.path.islink(top))]


def is_system(target: str) -> bool:
    """Whether a mount of the host image is the system's own software, not the user's choice.

    Args:
        target: a target of ``host_image``'s binds.
    """
    return target.startswith("/etc/") or any(is_below(target, top) for top in system_folders())


def _found(kernel: str | None, others: KernelEnvironment) -> Iterator[tuple[Chosen, str]]:
    """Yield all that is there, and why it is not mounted, outermost folders first."""
    variable = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = {os.path.abspath(path) for path in variable if path}
    running = {path for prefix in prefixes() for path in (prefix, os.path.realpath(prefix))}
    packages, projects = user_site(), editable_projects()
    for path in _python_paths():
        if path in named and path not in running:
            source, why = host_settings.source_of(path)
            yield Chosen("image host, PYTHONPATH", path, source), why
            continue
        what = "the Python environment" if path in running else "sys.path"
        if path == packages:
            what = "your own Python packages"
        elif path in projects:
            what = "an editable install"
        yield Chosen(f"image host, {what}", path, os.path.realpath(path)), ""
    for path, source in others.sources.items():
        yield Chosen(f"{_OF_KERNEL}{kernel}", path, source), ""
    for name, path in host_settings.certificates(os.environ).items():
        if not host_settings.has(path):
            source, why = host_settings.source_of(path)
            yield Chosen(f"image host, {name}", path, source), why


def _python_paths() -> list[str]:
    """The folders of the running interpreter and its packages, outermost first."""
    folders = prefixes()
    folders |= {os.path.realpath(path) for path in folders}
    imported = (*sys.path, user_site(), *editable_projects())
    folders |= {path for path in imported if os.path.isabs(path)}
    # on sys.path only because of how Python was started
    folders -= {"/", os.path.expanduser("~")}
    with contextlib.suppress(FileNotFoundError):  # the current folder was deleted
        folders -= {os.getcwd(), os.path.dirname(os.path.abspath(sys.argv[0]))}
    return sorted(filter(os.path.isdir, folders), key=lambda path: (path.count("/"), path))
