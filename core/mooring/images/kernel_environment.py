"""The environment of another of this machine's kernels, for sessions of ``image: host``.

A kernelspec that ``python -m ipykernel install`` has written names the interpreter of a virtual
environment or of a conda environment. In a session, the kernelspec and that environment are mounted
read-only at their own paths.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mooring.host.filesystems import is_below

#: The name of the kernel of the environment that mooring runs from.
OWN = "python3"
_CONFIG = "pyvenv.cfg"
_LONGEST_CONFIG = 1 << 16


@dataclass(frozen=True)
class KernelEnvironment:
    """What a kernel of this machine needs.

    Attributes:
        sources: the real paths of what must be mounted, by its paths in the session: the
            kernelspec, the environment of its interpreter, and the Python that the environment is
            based on.
        jupyter_path: the folder to look for its kernelspec in, as in ``JUPYTER_PATH``; empty for
            none.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    jupyter_path: str = ""


def kernel_environment(kernel: str | None, home: str) -> KernelEnvironment:
    """Return what a kernel needs beside the environment that mooring runs from.

    A session may have written all that is read here. So a folder is first resolved, and then it has
    to look like what it is taken for; from an environment, nothing else leads to another one.

    Args:
        kernel: the kernel's name; None for none.
        home: the user's home, which is never an environment.

    Returns:
        Nothing for ``python3``, for a kernel that this machine does not have, and for mooring's own
        kernelspecs.
    """
    if kernel in (None, OWN):
        return KernelEnvironment()
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec(str(kernel))
    except (NoSuchKernel, OSError, ValueError):
        return KernelEnvironment()
    if "kernel_provisioner" in spec.metadata:
        return KernelEnvironment()
    real_home = os.path.realpath(home)
    sources = {}
    if (real := Path(os.path.realpath(spec.resource_dir)) / "kernel.json").is_file():
        sources[spec.resource_dir] = str(real.parent)
    if spec.argv and os.path.isabs(spec.argv[0]):
        for path, source in _environment_of(Path(spec.argv[0])):
            if not is_below(real_home, source):
                sources.setdefault(path, source)
    return KernelEnvironment(sources, os.path.dirname(os.path.dirname(spec.resource_dir)))


def _environment_of(interpreter: Path) -> Iterator[tuple[str, str]]:
    """Yield the folders of an interpreter's environment, and of what that is based on.

    Args:
        interpreter: an absolute path, as a kernelspec has it.

    Yields:
        The path of a folder, and its real path.
    """
    prefix = interpreter.parent.parent
    real = os.path.realpath(prefix)
    if not (_is_virtual(real) or _is_conda(real) or _is_python(real)):
        return
    yield str(prefix), real
    yield real, real
    bases = [os.path.dirname(os.path.dirname(os.path.realpath(interpreter)))]
    if home := _home(Path(real)):
        bases.append(os.path.dirname(home))
    for base in bases:
        real_base = os.path.realpath(base)
        if _is_python(real_base) and not _is_virtual(real_base):
            yield base, real_base
            yield real_base, real_base


def _is_virtual(prefix: str) -> bool:
    return os.path.isfile(os.path.join(prefix, _CONFIG))


def _is_conda(prefix: str) -> bool:
    return os.path.isdir(os.path.join(prefix, "conda-meta"))


def _is_python(prefix: str) -> bool:
    """Whether a folder is an installed Python, and no virtual environment of one."""
    return any(path.is_file() for path in Path(prefix).glob("lib/python3*/os.py"))


def _home(prefix: Path) -> str:
    """Return the folder of programs that a virtual environment is based on; empty for none."""
    try:
        descriptor = os.open(prefix / _CONFIG, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        text = file.read(_LONGEST_CONFIG).decode(errors="replace")
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "home" and os.path.isabs(value.strip()):
            return os.path.normpath(value.strip())
    return ""
