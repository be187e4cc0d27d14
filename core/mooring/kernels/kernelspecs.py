"""Kernelspecs, which make sessions available as kernels in Jupyter clients."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring.errors import MooringError, SpecError
from mooring.host.paths import user_dir
from mooring.host.untrusted import parse_json

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpecManager

PROVISIONER = "mooring-provisioner"
# Installed with the wheel: runs the host's own environment in a container
PACKAGED = "mooring"


@dataclass(frozen=True)
class Installed:
    """An installed mooring kernelspec: its names, its folder, and the provisioner's traits."""

    name: str
    display_name: str
    path: str
    config: dict[str, Any]

    @property
    def is_users_own(self) -> bool:
        """Whether it is in the user's own folder of kernelspecs, and not in one for others too."""
        from jupyter_core.paths import jupyter_data_dir

        own = os.path.realpath(os.path.join(jupyter_data_dir(), "kernels"))
        return os.path.dirname(os.path.realpath(self.path)) == own


def document(
    *, display_name: str, kernel: str, config: dict[str, Any], language: str = ""
) -> dict[str, Any]:
    """Return the content of a session's ``kernel.json``.

    Args:
        display_name: the name that Jupyter clients show.
        kernel: ``python3``, or the name of a kernelspec in the image.
        config: values of the provisioner's traits: ``spec`` (a path), ``flags``, ``session``,
            ``session_id``, ``profile``.
        language: the kernel's programming language; empty for ``python`` or the kernel's name.
    """
    python = kernel == "python3"
    metadata: dict[str, Any] = {
        "kernel_provisioner": {"provisioner_name": PROVISIONER, "config": config},
    }
    if python:
        metadata |= {"debugger": True, "supported_encryption": ["curve"]}
    launcher = os.path.join(os.path.dirname(sys.executable), "mooring-kernel")
    return {
        # for clients that run argv themselves; VS Code substitutes both of Jupyter's placeholders
        "argv": [launcher, "{resource_dir}", "{connection_file}"],
        "display_name": display_name,
        "language": language or ("python" if python else kernel),
        # python3 is interrupted by a message on its control socket, other kernels by a signal
        "interrupt_mode": "message" if python else "signal",
        "metadata": metadata,
    }


def install(name: str, content: dict[str, Any], *, prefix: str | None, user: bool) -> Path:
    """Install a kernelspec in one of Jupyter's data folders.

    Args:
        name: letters, digits, ``-``, ``_`` and ``.``.
        content: the content of ``kernel.json``.
        prefix: root of an environment, such as ``sys.prefix``; None for the user's or the system's
            folder.
        user: install into the user's own folder.

    Returns:
        The kernelspec's folder.

    Raises:
        SpecError: Jupyter does not accept the name, or the packaged kernelspec has it.
        MooringError: another program's kernelspec has the name, or the folder is not writable.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise SpecError(
            f"{name!r} is not a valid name for a kernelspec",
            "use letters, digits, dashes, dots and underscores",
        )
    if name.lower() == PACKAGED:
        raise SpecError(
            f"the name {name} is reserved for the kernelspec that comes with mooring",
            "choose another --name",
        )
    manager = _manager()
    found = manager.find_kernel_specs().get(name.lower())
    if found and not _ours(Path(found)):
        raise MooringError(
            f"a kernelspec named {name} exists and is not mooring's", "choose another --name"
        )
    with tempfile.TemporaryDirectory() as draft:
        (Path(draft) / "kernel.json").write_text(json.dumps(content, indent=1) + "\n")
        os.chmod(draft, 0o755)
        try:
            return Path(
                manager.install_kernel_spec(draft, kernel_name=name, user=user, prefix=prefix)
            )
        except OSError as error:
            raise MooringError(
                f"cannot install the kernelspec: {error}",
                "use --prefix with a folder that you can write to",
            ) from error


def installed() -> list[Installed]:
    """Return all mooring kernelspecs that Jupyter finds, sorted by name."""
    found = []
    for name, path in sorted(_manager().find_kernel_specs().items()):
        content = _read(Path(path))
        if _is_ours(content):
            config = content["metadata"]["kernel_provisioner"].get("config", {})
            found.append(Installed(name, content.get("display_name", name), path, config))
    return found


def on_this_machine() -> list[str]:
    """Return the names of the kernels that ``image: host`` may have: all but mooring's, sorted."""
    from jupyter_client.kernelspec import KernelSpecManager

    ours = {spec.name for spec in installed()}
    return sorted({"python3", *KernelSpecManager().find_kernel_specs()} - ours)


def remove(name: str) -> Path:
    """Delete a mooring kernelspec.

    Args:
        name: the kernelspec's name, in any case.

    Returns:
        The deleted folder.

    Raises:
        MooringError: mooring has no kernelspec of that name, it was installed with the package, or
            it cannot be deleted.
    """
    import shutil

    for spec in installed():
        if spec.name == name.lower():
            if spec.name == PACKAGED:
                raise MooringError(
                    f"kernelspec {name} is part of mooring itself",
                    "to remove both: pip uninstall mooring",
                )
            try:
                shutil.rmtree(spec.path)
            except OSError as error:
                raise MooringError(
                    f"cannot delete the kernelspec: {error}",
                    "delete it as the user who installed it",
                ) from error
            return Path(spec.path)
    names = ", ".join(spec.name for spec in installed()) or "none"
    raise MooringError(f"mooring has no kernelspec named {name}", f"installed: {names}")


def _manager() -> KernelSpecManager:
    """Return Jupyter's manager.

    Raises:
        MooringError: the user's home, where Jupyter's folders are, is unknown.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    user_dir("config")
    return KernelSpecManager()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_json((path / "kernel.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_ours(content: dict[str, Any]) -> bool:
    metadata = content.get("metadata")
    provisioner = metadata.get("kernel_provisioner") if isinstance(metadata, dict) else None
    return isinstance(provisioner, dict) and provisioner.get("provisioner_name") == PROVISIONER


def _ours(path: Path) -> bool:
    return _is_ours(_read(path))
