"""The environment of another of this machine's kernels, for sessions of ``image: host``.

A kernelspec that ``python -m ipykernel install`` has written names the interpreter of a virtual
environment or of a conda environment. In a session, the kernelspec and that environment are mounted
read-only at their own paths.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mooring.host.filesystems import is_below

#: The name of the kernel of the environment that mooring runs from.
OWN = "python3"
_HOME = re.compile(r"^home\s*=\s*(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class KernelEnvironment:
    """What a kernel of this machine needs.

    Attributes:
        folders: what must be mounted: the kernelspec, the environment of its interpreter, and the
            Python that the environment is based on.
        jupyter_path: the folder to look for its kernelspec in, as in ``JUPYTER_PATH``; empty for
            none.
    """

    folders: tuple[str, ...] = ()
    jupyter_path: str = ""


def kernel_environment(
    kernel: str | None, home: str, environ: Mapping[str, str] = os.environ
) -> KernelEnvironment:
    """Return what a kernel needs beside the environment that mooring runs from.

    Args:
        kernel: the kernel's name; None for none.
        home: the user's home, which is never an environment.
        environ: the variables that say where Jupyter's kernels are.

    Returns:
        No folders for ``python3``, for a kernel that this machine does not have, and for
        mooring's own kernelspecs.
    """
    if kernel in (None, OWN):
        return KernelEnvironment()
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    manager = KernelSpecManager()
    named = [*environ.get("JUPYTER_PATH", "").split(os.pathsep), environ.get("JUPYTER_DATA_DIR")]
    folders = [os.path.join(path, "kernels") for path in named if path]
    manager.kernel_dirs = list(dict.fromkeys((*folders, *manager.kernel_dirs)))
    try:
        spec = manager.get_kernel_spec(str(kernel))
    except (NoSuchKernel, OSError, ValueError):
        return KernelEnvironment()
    if "kernel_provisioner" in spec.metadata:
        return KernelEnvironment()
    folders = [spec.resource_dir]
    if spec.argv and os.path.isabs(spec.argv[0]):
        real_home = os.path.realpath(home)
        environment = _environment_of(Path(spec.argv[0]))
        folders += [folder for folder in environment if not is_below(real_home, folder)]
    data = os.path.dirname(os.path.dirname(spec.resource_dir))
    return KernelEnvironment(tuple(dict.fromkeys(folders)), data)


def _environment_of(interpreter: Path) -> list[str]:
    """Return the folders of an interpreter's environment, and of what that is based on.

    Args:
        interpreter: an absolute path, as a kernelspec has it.
    """
    folders = []
    for program in (interpreter, Path(os.path.realpath(interpreter))):
        prefix = program.parent.parent
        if _is_environment(prefix):
            folders += [str(prefix), os.path.realpath(prefix)]
        try:
            home = _HOME.search((prefix / "pyvenv.cfg").read_text(errors="replace"))
        except OSError:
            continue
        if home and _is_environment(base := Path(home[1]).parent):
            folders += [str(base), os.path.realpath(base)]
    return folders


def _is_environment(prefix: Path) -> bool:
    """Whether a folder is a virtual environment, a conda environment or an installed Python."""
    if (prefix / "pyvenv.cfg").is_file() or (prefix / "conda-meta").is_dir():
        return True
    return any(prefix.glob("lib/python3*/os.py"))
