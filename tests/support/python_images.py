"""An image with a Python prefix of its own that is no virtual environment, as conda's are."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.docker import imported

_PREFIX = "/opt/conda"
# What ipykernel does without, and what only takes room
_LEFT_OUT = {"debugpy", "jedi", "parso"}
_UNUSED = re.compile(
    r"/(test|idlelib|ensurepip|lib2to3|config-[^/]*|(dist|site)-packages)$"
    "|/EXTERNALLY-MANAGED$"
)


@contextlib.contextmanager
def conda_like_image() -> Iterator[str]:
    """An image with this machine's Python in /opt/conda, with pip, ipykernel, and busybox."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.fail("busybox is not installed: apt install busybox-static")
    version = f"python3.{sys.version_info.minor}"
    files = _python_files(version) | {busybox: "/bin/busybox"}
    shared = [file for file in files if file.endswith(".so") or os.path.basename(file) == version]
    told = subprocess.run(["ldd", *shared], capture_output=True, text=True, check=False).stdout
    links = {f"/bin/{name}": "busybox" for name in ("sh", "cat", "rm", "mkdir", "env", "tail")}
    links |= {f"{_PREFIX}/bin/python3": version, f"{_PREFIX}/bin/python": version}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, target in ({"/etc": "", "/tmp": ""} | links).items():
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.type, entry.linkname = (tarfile.SYMTYPE if target else tarfile.DIRTYPE), target
            entry.mode = 0o1777 if name == "/tmp" else 0o755
            tar.addfile(entry)
        for library in sorted(set(re.findall(r"(/\S+) \(0x", told))):
            tar.add(os.path.realpath(library), library)
        for source, target in files.items():
            tar.add(source, target, filter=_of_root)
    change = f"ENV PATH={_PREFIX}/bin:/usr/bin:/bin"
    with imported(data.getvalue(), "conda", change) as reference:
        yield reference


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    return entry


def _python_files(version: str) -> dict[str, str]:
    """The files of the interpreter, its library and the packages: their paths here and there."""
    library = f"{_PREFIX}/lib/{version}"
    interpreter = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]
    stdlib = sysconfig.get_path("stdlib")
    found = {interpreter: f"{_PREFIX}/bin/{version}"}
    for folder, subfolders, names in os.walk(stdlib):
        subfolders[:] = [name for name in subfolders if not _UNUSED.search(f"/{name}")]
        for path in (os.path.join(folder, name) for name in names):
            if not _UNUSED.search(path):
                found[path] = f"{library}{path.removeprefix(stdlib)}"
    debian = Path("/etc/debian_version").exists()
    packages = f"{library}/{'dist' if debian else 'site'}-packages"
    for name in _with_requirements("ipykernel", "pip"):
        for file in importlib.metadata.files(name) or []:
            if file.parts[0] != ".." and file.locate().exists():  # type: ignore[attr-defined]
                found[str(file.locate())] = f"{packages}/{file}"
    return found


def _with_requirements(*names: str) -> set[str]:
    found, pending = set(_LEFT_OUT), list(names)
    while pending:
        name = pending.pop().lower()
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                pending.append(needed.name)
    return found - _LEFT_OUT
