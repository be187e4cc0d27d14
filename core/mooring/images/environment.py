"""The Python environment of a session of ``image: host``, over the one that mooring runs from.

The machine's environment is read-only in a session. The session has a virtual environment of its
own in its run folder, first on PATH, with the same interpreter. A ``.pth`` file in it adds, behind
its own packages, the folders of the caller's PYTHONPATH and the machine's folders of packages, with
what their own ``.pth`` files add. So installers replace a package of the machine's by installing
another version before it.
"""

from __future__ import annotations

import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from mooring.guest.paths import GUEST_RUN
from mooring.images.protected import SYSTEM_PREFIXES, user_site

#: The folder of the session's environment in its container.
ENVIRONMENT = f"{GUEST_RUN}/venv"
#: The session's interpreter.
PYTHON = f"{ENVIRONMENT}/bin/python"
# Entry points are shorter; programs that bundle an archive are not rewritten
_SCRIPT_MAX_BYTES = 16 << 10
# Read after the .pth files of the session's packages, in alphabetical order
_PTH = "zz_host_environment.pth"


def variables() -> dict[str, str]:
    """Return the environment variables that make the session's environment the active one."""
    env = {"VIRTUAL_ENV": ENVIRONMENT}
    if site.ENABLE_USER_SITE:
        env["PYTHONUSERBASE"] = ENVIRONMENT  # the user's own is read-only as well
    if sys.prefix not in SYSTEM_PREFIXES:
        # what packages have installed outside of the folders of packages, for all of Jupyter
        env["JUPYTER_PATH"] = os.path.join(sys.prefix, "share", "jupyter")
        env["JUPYTER_CONFIG_PATH"] = os.path.join(sys.prefix, "etc", "jupyter")
    return env


def write_environment(folder: Path) -> None:
    """Write a new session's environment.

    Args:
        folder: where; it is created. The session must not see it yet: links in it are followed.

    Raises:
        OSError: the folder exists, or cannot be written to.
    """
    folder.mkdir()
    packages = Path(
        sysconfig.get_path("purelib", "posix_prefix", {"base": folder, "platbase": folder})
    )
    programs = folder / "bin"
    for path in (packages, programs):
        path.mkdir(parents=True)
    interpreter = getattr(sys, "_base_executable", None) or sys.executable
    major, minor, micro = sys.version_info[:3]
    (folder / "pyvenv.cfg").write_text(
        f"home = {os.path.dirname(interpreter)}\n"
        f"include-system-site-packages = {str(bool(site.ENABLE_USER_SITE)).lower()}\n"
        f"version = {major}.{minor}.{micro}\n"
    )
    links = {f"bin/{name}": interpreter for name in ("python", "python3", f"python3.{minor}")}
    for name, target in {**links, "lib64": "lib"}.items():
        (folder / name).symlink_to(target)
    folders = [path for path in (user_site(), *site.getsitepackages()) if os.path.isdir(path)]
    known = "locals().get('known_paths')"  # of the function that runs the line: none is added twice
    lines = [f"import site; site.addsitedir({path!r}, {known})\n" for path in folders]
    imported = filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    (packages / _PTH).write_text("".join([*(f"{path}\n" for path in imported), *lines]))
    for name, script in _scripts():
        (programs / name).write_bytes(script)
        (programs / name).chmod(0o755)


def _scripts() -> Iterator[tuple[str, bytes]]:
    """Yield the Python programs of the machine's environment, to be run by the session's Python.

    The system's own programs, except for pip, keep the system's packages.

    Yields:
        Pairs of file name and contents.
    """
    spellings = {sys.prefix, os.path.realpath(sys.prefix)}
    theirs = "|".join(re.escape(os.path.join(prefix, "bin", "python")) for prefix in spellings)
    interpreter = re.compile(rf"({theirs})[0-9.]*(?=[\s\"']|$)".encode())
    of_system = sys.prefix in SYSTEM_PREFIXES
    folder = os.path.join(sys.prefix, "bin")
    if not os.path.isdir(folder):
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if of_system and not re.fullmatch(r"pip[0-9.]*", entry.name):
                continue
            text = _script_of(entry)
            head, newline, rest = text.partition(b"\n")
            if head == b"#!/bin/sh":  # the interpreter's path is too long for the first line
                second, end, rest = rest.partition(b"\n")
                head, newline = head + newline + second, end
            if text and interpreter.search(head):
                yield entry.name, interpreter.sub(PYTHON.encode(), head) + newline + rest


def _script_of(entry: os.DirEntry[str]) -> bytes:
    """Return a program's contents; empty for what is not a script."""
    try:
        if not entry.is_file() or entry.stat().st_size > _SCRIPT_MAX_BYTES:
            return b""
        with open(entry.path, "rb") as file:
            start = file.read(2)
            return start + file.read() if start == b"#!" else b""
    except OSError:  # not readable, so not runnable
        return b""
