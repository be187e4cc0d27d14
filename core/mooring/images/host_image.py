"""``image: host``: this machine's programs and Python environment, as an image."""

from __future__ import annotations

import hashlib
import io
import os
import site
import sys
import sysconfig
import tarfile
from pathlib import Path

from mooring.engines.base import Bind, Engine
from mooring.engines.capabilities import SupportsImport, require
from mooring.guest.paths import GUEST_RUN
from mooring.images.images import ImageFacts

#: The folder that pip installs into in a session, because the environment is read-only.
PACKAGES = f"{GUEST_RUN}/packages"

# The parts of /etc that programs need and that contain no secrets
_ETC = (
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "debian_version",
    "environment",
    "fonts",
    "inputrc",
    "java-11-openjdk",
    "java-17-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "matplotlibrc",
    "mime.types",
    "nsswitch.conf",
    "OpenCL",
    "os-release",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "python3",
    "R",
    "services",
    "shells",
    "skel",
    "ssl",
    "terminfo",
    "timezone",
    "vim",
    "vulkan",
)
_TOP = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")


def host_image(engine: Engine) -> ImageFacts:
    """This machine as an image: an almost empty root filesystem, and read-only mounts of the rest.

    The root filesystem is imported on first use, and again when ``root_layout`` has changed.

    Raises:
        NotSupported: the engine cannot import images.
        EngineError: the image could not be imported.
    """
    layout = root_layout()
    reference = f"mooring/host:{hashlib.sha256(repr(layout).encode()).hexdigest()[:12]}"
    if engine.image_id(reference) is None:
        require(engine, SupportsImport).import_image(root_tar(layout), reference)
    return ImageFacts(
        reference=reference,
        passwd=_text_of("/etc/passwd"),
        group=_text_of("/etc/group"),
        python=sys.executable,
        env=tuple(_environment().items()),
        binds=tuple(host_binds()),
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


def root_tar(layout: list[tuple[str, int, str]]) -> bytes:
    """The root filesystem as an uncompressed tar archive, for ``SupportsImport.import_image``.

    Args:
        layout: as ``root_layout`` returns it.
    """
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, mode, target in layout:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.SYMTYPE if target else tarfile.DIRTYPE
            entry.mode, entry.linkname = mode, target
            tar.addfile(entry)
    return data.getvalue()


def host_binds() -> list[Bind]:
    """The read-only mounts of this machine: its programs and the calling Python environment."""
    tops = [f"/{name}" for name in _TOP if name != "sbin" and os.path.isdir(f"/{name}")]
    sources = ["/usr", "/opt", *(top for top in tops if not os.path.islink(top))]
    sources += [f"/etc/{name}" for name in _ETC]
    binds = [Bind(os.path.realpath(path), path) for path in sources if os.path.exists(path)]
    covered = [bind.target for bind in binds]
    for path in _python_paths():
        if not any(path == top or path.startswith(top.rstrip("/") + "/") for top in covered):
            binds.append(Bind(os.path.realpath(path), path))
            covered.append(path)
    return binds


def _python_paths() -> list[str]:
    """The folders of the running interpreter and its packages, outermost first."""
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    folders |= {os.path.realpath(path) for path in folders}
    folders.add(os.path.dirname(os.path.dirname(os.path.realpath(sys.executable))))
    folders |= {path for path in sys.path if path and os.path.isdir(path)}
    if site.ENABLE_USER_SITE and os.path.isdir(site.getusersitepackages()):
        folders.add(site.getusersitepackages())
    # on sys.path only because of how Python was started
    script = os.path.dirname(os.path.abspath(sys.argv[0]))
    folders -= {"/", os.getcwd(), os.path.expanduser("~"), script}
    return sorted(filter(os.path.isdir, folders), key=lambda path: (path.count("/"), path))


def _environment() -> dict[str, str]:
    """The environment variables that programs and the calling Python environment need."""
    folders = [os.path.join(sys.prefix, "bin")]
    folders += ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    env = {}
    if sys.prefix != sys.base_prefix:
        # pip cannot write to a read-only virtual environment, which has no user site either, so
        # it installs into a folder of the session that comes first on PATH and PYTHONPATH
        scheme = sysconfig.get_preferred_scheme("prefix")
        own = {"base": PACKAGES, "platbase": PACKAGES}
        folders.insert(0, sysconfig.get_path("scripts", scheme, own))
        env["PYTHONPATH"] = sysconfig.get_path("purelib", scheme, own)
        env["PIP_PREFIX"] = PACKAGES
        env["VIRTUAL_ENV"] = sys.prefix
    env["PATH"] = ":".join(dict.fromkeys(folders))
    for name in ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "CONDA_PREFIX", "LD_LIBRARY_PATH"):
        if os.environ.get(name):
            env[name] = os.environ[name]
    env.setdefault("LANG", "C.UTF-8")
    return env


def _text_of(path: str) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
