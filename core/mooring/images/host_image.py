"""``image: host``: this machine's programs and Python environment, as an image."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mooring.engines.base import Bind, Engine
from mooring.engines.capabilities import SupportsImport, require
from mooring.errors import EngineError
from mooring.host.filesystems import is_below
from mooring.host.users import caller
from mooring.images import environment, host_settings
from mooring.images.host_settings import Copied
from mooring.images.images import ImageFacts
from mooring.images.kernel_environment import KernelEnvironment, kernel_environment
from mooring.images.protected import editable_projects, prefixes, user_site

_TOP = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")


def host_image(
    engine: Engine, kernel: str | None = None, environ: Mapping[str, str] = os.environ
) -> ImageFacts:
    """This machine as an image: a small root filesystem, and read-only mounts of the rest.

    The root filesystem is imported on first use, and again when ``root_layout`` or what it contains
    of /etc has changed; then the one before is removed, unless a container uses it.

    Args:
        engine: the engine that is to run it.
        kernel: a kernel of this machine whose environment it has to contain; None for none but the
            calling one.
        environ: the variables that shape it, see ``host_settings.of_caller``.

    Raises:
        NotSupported: the engine cannot import images.
        EngineError: the image could not be imported.
    """
    layout, etc = root_layout(), host_settings.etc()
    digest = hashlib.sha256(repr((layout, etc.copied)).encode()).hexdigest()
    reference = f"mooring/host:{digest[:12]}"
    if engine.image_id(reference) is None:
        importing = require(engine, SupportsImport)
        importing.import_image(root_tar(layout, etc.copied), reference)
        with contextlib.suppress(EngineError):  # the session does not need that
            importing.remove_older_images(reference)
    return ImageFacts(
        reference=reference,
        passwd=_text_of("/etc/passwd"),
        group=_text_of("/etc/group"),
        python=environment.PYTHON,
        env=tuple(_environment(kernel, environ).items()),
        binds=tuple(host_binds(kernel, etc.mounted, environ)),
    )


def root_layout() -> list[tuple[str, int, str]]:
    """The entries of the root filesystem: folders, and the symbolic links of a merged ``/usr``.

    ``/sbin`` is always a folder, because an engine adds its init to it; with a merged ``/usr`` it
    contains links.

    Returns:
        Tuples of name, mode, and the link's target or "".
    """
    layout = [
        (name, 0o755, "")
        for name in ("dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "sys", "usr", "var")
    ]
    layout += [("tmp", 0o1777, ""), ("var/tmp", 0o1777, "")]
    for name in _TOP:
        if name == "sbin":
            layout.append((name, 0o755, ""))
            entries = sorted(os.listdir("/sbin")) if os.path.islink("/sbin") else []
            layout += [
                (f"sbin/{entry}", 0o777, f"../usr/sbin/{entry}")
                for entry in entries
                if entry not in ("docker-init", "init")
            ]
        elif os.path.islink(f"/{name}"):
            layout.append((name, 0o777, os.readlink(f"/{name}").lstrip("/")))
        elif os.path.isdir(f"/{name}"):
            layout.append((name, 0o755, ""))
    return layout


def root_tar(layout: list[tuple[str, int, str]], copied: Iterable[Copied] = ()) -> bytes:
    """The root filesystem as an uncompressed tar archive, for ``SupportsImport.import_image``.

    Args:
        layout: as ``root_layout`` returns it.
        copied: what it contains of /etc.
    """
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, mode, target in layout:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.SYMTYPE if target else tarfile.DIRTYPE
            entry.mode, entry.linkname = mode, target
            tar.addfile(entry)
        for one in copied:
            with contextlib.suppress(OSError):  # removed meanwhile
                _add(tar, one)
    return data.getvalue()


def _add(tar: tarfile.TarFile, copied: Copied) -> None:
    entry = tarfile.TarInfo(copied.target.lstrip("/"))
    mode = copied.stamp[0]
    entry.mode = stat.S_IMODE(mode) & 0o755
    if stat.S_ISLNK(mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(copied.source)
    elif stat.S_ISDIR(mode):
        entry.type = tarfile.DIRTYPE
    else:
        contents = Path(copied.source).read_bytes()
        if host_settings.has_credentials(contents):
            return
        entry.size = len(contents)
        tar.addfile(entry, io.BytesIO(contents))
        return
    tar.addfile(entry)


def host_binds(
    kernel: str | None = None,
    etc: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> list[Bind]:
    """The read-only mounts of this machine: its programs and the calling Python environment.

    Args:
        kernel, environ: as for ``host_image``.
        etc: what of /etc is mounted, too.
    """
    targets = [*filter(os.path.exists, _system_folders()), *etc, *_chosen_paths(kernel, environ)]
    return [Bind(os.path.realpath(path), path) for path in targets]


def chosen_sources(
    kernel: str | None = None, environ: Mapping[str, str] = os.environ
) -> list[tuple[str, Path]]:
    """The sources of ``host_binds`` that the user chose: all but the system's own software.

    Args:
        kernel, environ: as for ``host_image``.

    Returns:
        Pairs of a word for the user, as for the key of a spec, and the real path.
    """
    origin = _origins(kernel, environ)
    return [(origin(path), Path(os.path.realpath(path))) for path in _chosen_paths(kernel, environ)]


def is_system(target: str) -> bool:
    """Whether a mount of the host image is the system's own software, not the user's choice.

    Args:
        target: a target of ``host_binds``.
    """
    return target.startswith("/etc/") or any(is_below(target, top) for top in _system_folders())


def _origins(kernel: str | None, environ: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that tells what put a folder into the host image."""
    variable = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    chosen = {os.path.abspath(path) for path in variable if path}
    environment = {path for prefix in prefixes() for path in (prefix, os.path.realpath(prefix))}
    packages, projects = user_site(), editable_projects()
    certificates = {path: name for name, path in host_settings.certificates(environ).items()}
    others = _kernel_environment(kernel, environ).folders

    def origin(path: str) -> str:
        if path in others:
            return f"image host, kernel {kernel}"
        if path in certificates:
            return f"image host, {certificates[path]}"
        if path in chosen:
            return "image host, PYTHONPATH"
        if path == packages:
            return "image host, your own Python packages"
        if path in projects:
            return "image host, an editable install"
        known = path in environment
        return "image host, the Python environment" if known else "image host, sys.path"

    return origin


def _system_folders() -> list[str]:
    """The folders of the system's own software, which need not exist."""
    tops = [f"/{name}" for name in _TOP if name != "sbin" and os.path.isdir(f"/{name}")]
    return ["/usr", "/opt", *(top for top in tops if not os.path.islink(top))]


def _chosen_paths(kernel: str | None, environ: Mapping[str, str]) -> list[str]:
    """The folders of the Python environments outside the system's own software."""
    system, chosen = _system_folders(), list[str]()
    named = host_settings.certificates(environ).values()
    certificates = [path for path in named if not host_settings.has(path)]
    others = _kernel_environment(kernel, environ).folders
    for path in (*_python_paths(), *others, *certificates):
        if not any(is_below(path, top) for top in (*system, *chosen)):
            chosen.append(path)
    return chosen


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


def _kernel_environment(kernel: str | None, environ: Mapping[str, str]) -> KernelEnvironment:
    return kernel_environment(kernel, caller().home, environ)


def _environment(kernel: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that programs and the calling Python environment need."""
    folders = [f"{environment.ENVIRONMENT}/bin", os.path.join(sys.prefix, "bin")]
    folders += ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    env = {**environment.variables(), "PATH": ":".join(dict.fromkeys(folders))}
    if data := _kernel_environment(kernel, environ).jupyter_path:
        env["JUPYTER_PATH"] = ":".join(filter(None, (env.get("JUPYTER_PATH"), data)))
    return {"LANG": "C.UTF-8", **env, **host_settings.variables(environ)}


def _text_of(path: str) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
