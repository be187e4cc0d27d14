"""Where mooring keeps its things on this machine, and who this installation is."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from mooring.errors import MooringError

# struct sockaddr_un, unix(7): 108 bytes with the closing NUL
SOCKET_PATH_MAX = 107


def state_dir() -> Path:
    """The private folder of this installation, made on first use with mode 0700.

    ``MOORING_STATE_DIR`` overrides the XDG state directory. Not the runtime directory: that
    one goes when the user logs out, and sessions do not.

    Raises:
        MooringError: it cannot be made, or somebody else can write to it.
    """
    configured = os.environ.get("MOORING_STATE_DIR")
    if configured:
        path = Path(configured).absolute()
    else:
        import platformdirs

        path = Path(platformdirs.user_state_dir("mooring"))
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise MooringError(
            f"cannot make {path}: {error.strerror}", "set MOORING_STATE_DIR to a folder of yours"
        ) from error
    if found.st_uid != os.getuid():
        raise MooringError(
            f"{path} belongs to somebody else", "set MOORING_STATE_DIR to a folder of yours"
        )
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path


def sessions_dir() -> Path:
    """One folder for each session that this installation knows."""
    return _subdir("sessions")


def images_dir() -> Path:
    """What was learned about images, by their ids."""
    return _subdir("images")


def consents_dir() -> Path:
    """The hashes of specs that the user has allowed to reach outside their folder."""
    return _subdir("consents")


def installation_id() -> str:
    """This installation's random name, made once. Nothing that lacks it is ever touched."""
    path = state_dir() / "installation"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    mine = path.with_name(f".installation.{os.getpid()}.{secrets.token_hex(4)}")
    mine.write_text(secrets.token_hex(8) + "\n")
    with contextlib.suppress(FileExistsError):
        os.link(mine, path)  # the first of several processes wins, whole
    mine.unlink()
    return path.read_text().strip()


def swept_dir() -> Path:
    """A mark for each session whose creation was cut off before it had a container."""
    return _subdir("swept")


def _subdir(name: str) -> Path:
    path = state_dir() / name
    path.mkdir(mode=0o700, exist_ok=True)
    return path
