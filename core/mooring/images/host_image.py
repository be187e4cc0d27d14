"""``image: host``: this machine's programs and Python environment, as an image."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from mooring.engines.base import Bind, Engine
from mooring.engines.capabilities import SupportsImport, require
from mooring.errors import EngineError
from mooring.images import environment, host_settings
from mooring.images.host_environment import (
    TOPS,
    HostEnvironment,
    host_environment,
    system_folders,
)
from mooring.images.host_settings import Copied
from mooring.images.images import ImageFacts


def host_image(engine: Engine, host: HostEnvironment | None = None) -> ImageFacts:
    """This machine as an image: a small root filesystem, and read-only mounts of the rest.

    The root filesystem is imported on first use, and again when ``root_layout`` or what it contains
    of /etc has changed; then the one before is removed, unless a container uses it.

    Args:
        engine: the engine that is to run it.
        host: what the user's environment adds; None for the calling one's, without a kernel.

    Raises:
        NotSupported: the engine cannot import images.
        EngineError: the image could not be imported.
    """
    host = host or host_environment()
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
        env=tuple(_environment(host).items()),
        binds=tuple(host_binds(host, etc.mounted)),
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
    for name in TOPS:
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


def host_binds(host: HostEnvironment | None = None, etc: Iterable[str] = ()) -> list[Bind]:
    """The read-only mounts of this machine: its programs and the calling Python environment.

    Args:
        host: as for ``host_image``.
        etc: what of /etc is mounted, too.
    """
    system = [*filter(os.path.exists, system_folders()), *etc]
    chosen = (host or host_environment()).chosen
    return [
        *(Bind(os.path.realpath(path), path) for path in system),
        *(Bind(one.source, one.target) for one in chosen),
    ]


def _environment(host: HostEnvironment) -> dict[str, str]:
    """The environment variables that programs and the calling Python environment need."""
    folders = [f"{environment.ENVIRONMENT}/bin", os.path.join(sys.prefix, "bin")]
    folders += ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    env = {**environment.variables(), "PATH": ":".join(dict.fromkeys(folders))}
    if host.jupyter_path:
        env["JUPYTER_PATH"] = ":".join(filter(None, (env.get("JUPYTER_PATH"), host.jupyter_path)))
    return {"LANG": "C.UTF-8", **env, **host.variables}


def _text_of(path: str) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
