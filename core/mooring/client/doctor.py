"""Checks of whether sessions can run on this machine, with hints."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mooring.engines import open_engine
from mooring.engines.base import Engine
from mooring.engines.capabilities import SupportsBinds, SupportsModeFilter
from mooring.errors import (
    EngineError,
    EngineUnavailable,
    MooringError,
    NotSupported,
    PolicyError,
)
from mooring.host import paths, trees
from mooring.host.text import quoted
from mooring.policy.defaults import resolve
from mooring.sessions.folder import GONE, undeletable
from mooring.spec.profiles import profile_files
from mooring.spec.resolve import profiles_dir, user_config_path

# Container escape vulnerabilities: the first version with a fix, and a text
_FIXED = {
    # CVE-2024-21626: file descriptors leaked by runc
    "docker": ((24, 0, 9), "CVE-2024-21626 (runc) is fixed in Docker 24.0.9 and 25.0.2"),
    "podman": ((4, 9, 2), "CVE-2024-21626 (runc) is fixed in Podman 4.9.2"),
}
# Length of the longest socket path, relative to the state folder
_SOCKET_TAIL = len("/sessions/123456789abc/k/123456789abc/s-5")


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        level: ok, info, warning or problem.
        subject: what was checked, in one word.
        text: the result.
        hint: what to do about it; empty if there is nothing to do.
    """

    level: str
    subject: str
    text: str
    hint: str = ""


def examine(engine: Engine | None = None) -> list[Finding]:
    """Run all checks; a failed check is a finding and raises nothing.

    Args:
        engine: the engine, which is closed afterwards; None for the one that the environment names.
    """
    return [
        *_machine(),
        *_engine(engine),
        *_paths(engine),
        *_policy(),
        *_config(),
        *_python(),
        *_panel(),
        *_gpus(),
        *_queue(engine),
    ]


def _machine() -> Iterator[Finding]:
    if sys.platform.startswith("linux"):
        yield Finding("ok", "system", f"Linux {os.uname().release}")
        if os.getuid() == 0:
            yield Finding(
                "info",
                "user",
                "root: sessions are root's too, and can change what is mounted as root can",
                "work as an ordinary user of the engine's group where you can",
            )
    else:
        yield Finding(
            "problem",
            "system",
            f"{sys.platform}: kernels need Linux, because sockets do not cross a virtual machine",
            "run mooring inside Linux (a virtual machine, WSL 2, or the GPU machine itself)",
        )


def _engine(engine: Engine | None) -> Iterator[Finding]:
    try:
        asked = engine or open_engine()
        with contextlib.closing(asked):
            info = asked.info()
            set_id = [*_set_id(asked)]
    except MooringError as error:
        yield Finding("problem", "engine", error.message, error.hint)
        return
    name = f"{info.kind} {info.version}"
    yield Finding("ok", "engine", f"{name}, API {info.api_version}")
    if info.kind in _FIXED:
        fixed, why = _FIXED[info.kind]
        version = tuple(int(part) for part in re.findall(r"\d+", info.version)[:3])
        if info.kind == "docker" and (25,) <= version < (25, 0, 2):
            fixed = (25, 0, 2)  # this branch was fixed later
        if version < fixed and "dfsg" not in info.version:
            yield Finding(
                "warning", "engine", f"{name} has a known vulnerability: {why}", "upgrade it"
            )
        elif version < fixed:
            yield Finding("info", "engine", f"{why}; distributions often backport the fix")
    yield from set_id
    if info.kind == "docker" and os.getuid() != 0:
        yield Finding(
            "info", "rights", "a user who may use Docker is root on this machine, mooring or not"
        )


def _set_id(engine: Engine) -> Iterator[Finding]:
    """Whether sessions can leave files that run with their owner's rights."""
    why = engine.why_no_mode_filter() if isinstance(engine, SupportsModeFilter) else ""
    if why:
        yield Finding(
            "warning",
            "seccomp",
            f"sessions can make files set-user-ID: {why}",
            "mount only folders that other users of this machine cannot reach",
        )


def _paths(engine: Engine | None) -> Iterator[Finding]:
    try:
        state = paths.state_dir()
        _check_source(engine, str(state))
    except EngineError as error:
        hint = "; or ".join(filter(None, (error.hint, "set MOORING_STATE_DIR to another folder")))
        yield Finding("problem", "state", error.message, hint)
        return
    except MooringError as error:
        yield Finding("problem", "state", error.message, error.hint)
        return
    length = len(os.fsencode(state)) + _SOCKET_TAIL
    if length > paths.SOCKET_PATH_MAX:
        yield Finding(
            "problem",
            "state",
            f"{state} is too long for kernels' sockets ({length} of {paths.SOCKET_PATH_MAX} bytes)",
            "set MOORING_STATE_DIR to a shorter path",
        )
    else:
        yield Finding("ok", "state", str(state))
    free = os.statvfs(state)
    if free.f_bavail * free.f_frsize < 1 << 30:
        yield Finding("warning", "disk", f"less than 1 GiB is free at {state}", "free some space")
    yield from _leftovers(paths.Installation(state))


def _check_source(engine: Engine | None, path: str) -> None:
    """Raise EngineError if the engine cannot mount a folder; ignore one that does not answer."""
    with contextlib.suppress(EngineUnavailable, NotSupported):
        asked = engine or open_engine()
        with contextlib.closing(asked):
            if isinstance(asked, SupportsBinds):
                asked.check_source(path)


def _leftovers(installation: paths.Installation) -> Iterator[Finding]:
    """Try once more to delete files of removed sessions."""
    for path in sorted(installation.sessions.glob(f".*{GONE}")):
        try:
            trees.remove_path(path)
        except OSError as error:
            problem = undeletable(path, error)
            yield Finding("warning", "files", problem.message, problem.hint)


def _policy() -> Iterator[Finding]:
    from mooring.policy import limits

    try:
        policy = limits.load()
    except MooringError as error:
        yield Finding("problem", "policy", error.message, error.hint)
        return
    text = "; ".join(f"{key} {value}" for key, value in policy.describe().items())
    if policy.defaults.data:
        text += f"{'; ' if text else ''}defaults for {', '.join(policy.defaults.data)}"
    yield Finding("info", "policy", f"{limits.POLICY_FILE}: {text}" if text else "no limits")
    try:
        resolved = resolve(flags={})
    except MooringError:  # reported as such
        return
    try:
        policy.check(resolved.spec, (), resolved.origins)
    except MooringError as error:
        text = f"a session for which you set nothing is refused: {error.message}"
        yield Finding("warning", "policy", text, error.hint)


def _config() -> Iterator[Finding]:
    """Check the user's configuration with the environment, and each profile."""
    path = user_config_path()
    broken: dict[str, str] = {}
    for name in (None, *profile_files(profiles_dir())):
        try:
            resolve(flags={}, profile=name)
        except PolicyError:  # reported as such
            return
        except MooringError as error:  # every profile is read with the configuration
            broken.setdefault(error.message, error.hint or "correct it there")
    for message, hint in broken.items():
        yield Finding("problem", "config", message, hint)
    if not broken and path.exists():
        yield Finding("ok", "config", str(path))


def _python() -> Iterator[Finding]:
    try:
        yield Finding("ok", "kernel", f"ipykernel {version('ipykernel')} in {sys.prefix}")
    except PackageNotFoundError:
        yield Finding(
            "warning",
            "kernel",
            f"no ipykernel in {sys.prefix}",
            "pip install ipykernel, for kernels of image: host",
        )


def _panel() -> Iterator[Finding]:
    """Check that JupyterLab, where it is installed, has the panel, which a clone has to build."""
    from jupyter_core.paths import jupyter_path

    try:
        lab = version("jupyterlab")
    except PackageNotFoundError:
        yield Finding("info", "panel", f"no JupyterLab in {sys.prefix}")
        return
    folders = [Path(folder, "mooring") for folder in jupyter_path("labextensions")]
    if any((folder / "package.json").is_file() for folder in folders):
        yield Finding("ok", "panel", f"in JupyterLab {lab}")
    else:
        yield Finding(
            "warning",
            "panel",
            f"JupyterLab {lab} has no Sessions panel: mooring was installed without it",
            "in the clone, with Node 18 or newer: make panel, then pip install . again",
        )


def _gpus() -> Iterator[Finding]:
    from mooring.gpus.inventory import inventory
    from mooring.spec.units import format_size

    gpus = inventory()
    whole = [gpu for gpu in gpus if not gpu.parent]
    devices = sorted(Path("/dev").glob("nvidia[0-9]*"))
    kinds = Counter((gpu.model, gpu.memory_bytes, gpu.driver) for gpu in whole)
    for (model, memory, driver), count in kinds.items():
        size = f", {format_size(memory)} each" if memory else ""
        version_text = f", driver {driver}" if driver else ""
        yield Finding("ok", "gpus", f"{count} x {model}{size}{version_text}")
    if len(gpus) > len(whole):
        yield Finding("ok", "gpus", f"{len(gpus) - len(whole)} MIG instance(s) of them")
    if len(devices) > len(whole):
        seen = f"the driver reports {len(whole)}" if whole else "no driver reports them"
        yield Finding(
            "warning",
            "gpus",
            f"{len(devices)} NVIDIA device(s) here, and {seen}",
            "this happens after a driver's upgrade, until it is loaded: restart the machine",
        )
    elif not whole:
        yield Finding("info", "gpus", "none on this machine")


def _queue(engine: Engine | None) -> Iterator[Finding]:
    """Check the folder of the GPU queue, whose path any local user may take first."""
    from mooring.gpus.inventory import inventory
    from mooring.gpus.place import TMPFILES, shared_place

    try:
        asked = engine or open_engine()
        with contextlib.closing(asked):
            shared = shared_place(asked.address if isinstance(asked, SupportsBinds) else "")
        if shared is None:
            return
        owner = shared.owner()
        if owner is not None:
            shared.check()
    except (MooringError, OSError) as error:
        if isinstance(error, EngineUnavailable):  # reported as such
            return
        hint = error.hint if isinstance(error, MooringError) else ""
        message = error.message if isinstance(error, MooringError) else str(error)
        yield Finding("problem", "queue", message, hint)
        return
    if owner == "root":
        yield Finding("ok", "queue", f"{shared.folder} belongs to root")
    elif inventory():
        yield Finding(
            "info",
            "queue",
            f"any user of this machine can create {shared.folder} first after a restart, and then "
            "no session with GPUs starts",
            "let root create it at boot, with these lines for tmpfiles.d, as root: "
            f"cp {quoted(TMPFILES)} /etc/tmpfiles.d/mooring.conf",
        )
