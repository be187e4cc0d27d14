"""The host key by which ssh knows this installation's sessions.

It is made once and never leaves its file. ssh finds it by the Host entries, see
``mooring.ssh.config_file``; one key serves all sessions, because all are reached by this
installation's own program.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.errors import MooringError, NotSupported
from mooring.host import atomic, locks
from mooring.host.paths import Installation
from mooring.host.text import quoted

if TYPE_CHECKING:
    import asyncssh

ALGORITHM = "ssh-ed25519"


def require_asyncssh() -> None:
    """Check that asyncssh is installed.

    Raises:
        NotSupported: it is not; the hint has the command that installs it.
    """
    try:
        import asyncssh  # noqa: F401
    except ImportError:
        raise NotSupported(
            "ssh into sessions needs the Python package asyncssh, which is not installed",
            f"install it: {quoted(sys.executable)} -m pip install 'mooring[ssh]'",
        ) from None


def alias(installation: Installation) -> str:
    """The name by which ssh looks the host key up, as in ``HostKeyAlias``."""
    return f"mooring-{installation.id}"


def folder(installation: Installation) -> Path:
    """The folder of what belongs to ssh in the state folder, mode 0700; created if missing."""
    path = installation.path / "ssh"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def host_key(installation: Installation) -> asyncssh.SSHKey:
    """Return the installation's host key; it is made on first use, mode 0600.

    Raises:
        NotSupported: asyncssh is not installed.
        MooringError: its file is damaged.
        OSError: its file cannot be read or written.
    """
    require_asyncssh()
    import asyncssh

    path = folder(installation) / "host_key"
    with locks.locked(folder(installation), timeout_s=10):
        with contextlib.suppress(FileNotFoundError):
            return _read(path)
        key = asyncssh.generate_private_key(ALGORITHM, comment=alias(installation))
        atomic.write_text(path, key.export_private_key().decode())
        return _read(path)


def known_hosts(installation: Installation) -> Path:
    """Return a file that tells ssh the installation's host key, as in ``UserKnownHostsFile``.

    It is written anew if it says something else.

    Raises:
        NotSupported, MooringError, OSError: as ``host_key``.
    """
    path = folder(installation) / "known_hosts"
    line = f"{alias(installation)} {public_key(installation)}\n"
    if not path.exists() or path.read_text(errors="replace") != line:
        atomic.write_text(path, line)
    return path


def public_key(installation: Installation) -> str:
    """Return the public host key: its algorithm and its base64 text. Raises like ``host_key``."""
    words = host_key(installation).export_public_key().decode().split()
    return " ".join(words[:2])


def _read(path: Path) -> asyncssh.SSHKey:
    import asyncssh

    try:
        key = asyncssh.import_private_key(path.read_bytes())
    except (ValueError, asyncssh.KeyImportError):
        raise MooringError(
            f"{path}, the host key of this installation, is damaged",
            f"remove it, and a new one is made: rm {quoted(path)}",
        ) from None
    if path.stat().st_mode & 0o077:
        os.chmod(path, 0o600)
    return key
