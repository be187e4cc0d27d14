"""The paths of mooring's files on this machine, and the id of the installation."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mooring._version import __version__
from mooring.errors import MooringError, SpecError
from mooring.host.text import one_line

#: The format of the files in a state folder; raise it when earlier versions would misread them.
STATE_FORMAT = 1
# In another folder than its own, `version` may be the user's
_FORMAT = ".mooring-format"
#: The files in a state folder, as patterns by the name of their folder, "" for itself. The folder
#: is the user's choice, and may have others.
STATE_FILES = {
    "": (
        *("installation", ".installation.*", f"{_FORMAT}*", "history.db*", "names.lock"),
        *("shared-*.lock", "dispatcher.log", "seccomp-*.json", ".seccomp-*.json.*"),
    ),
    "sessions": (12 * "[0-9a-f]", f".{12 * '[0-9a-f]'}*"),
    "images": (f"{64 * '[0-9a-f]'}*.json*", "mooring-probe-*"),
    "consents": (64 * "[0-9a-f]", f".{64 * '[0-9a-f]'}.*"),
    "swept": (12 * "[0-9a-f]",),
    "queue": ("[td]-*", "lock"),
    "ssh": ("host_key", "known_hosts", "config", ".host_key.*", ".known_hosts.*", ".config.*"),
}
# struct sockaddr_un, unix(7): 108 bytes including the terminating NUL
SOCKET_PATH_MAX = 107


def _read_id(path: Path) -> str:
    text = path.read_bytes().strip()
    if not re.fullmatch(rb"[!-~]{1,64}", text):
        raise MooringError(
            f"{path}, the id of this installation, is damaged",
            "write into it what your containers have as the label mooring.installation, or remove "
            "it if you have none",
        )
    return text.decode("ascii")


@dataclass(frozen=True)
class Installation:
    """One user's installation of mooring on this machine: its state folder and its id.

    Attributes:
        path: the state folder, mode 0700.
    """

    path: Path

    @classmethod
    def here(cls) -> Installation:
        """The caller's installation; its state folder is created on first use.

        The folder is the XDG state directory, or ``MOORING_STATE_DIR`` if set. It is not in the
        XDG runtime directory, which is deleted at logout while sessions keep running.

        Raises:
            MooringError: the folder cannot be created, belongs to another user, or was used by a
                newer version of mooring that keeps other files in it.
        """
        path = state_dir()
        _check_format(path)
        return cls(path)

    @cached_property
    def id(self) -> str:
        """A random id, generated once; containers without it are never modified.

        Raises:
            MooringError: its file is damaged.
        """
        path = self.path / "installation"
        with contextlib.suppress(FileNotFoundError):
            return _read_id(path)
        mine = path.with_name(f".installation.{os.getpid()}.{secrets.token_hex(4)}")
        mine.write_text(secrets.token_hex(8) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(mine, path)  # atomic: the first of several processes wins
        mine.unlink()
        return _read_id(path)

    @property
    def sessions(self) -> Path:
        """The folder with a subfolder for each session of this installation."""
        return self._folder("sessions")

    @property
    def images(self) -> Path:
        """The folder of cached facts about images, named by image id."""
        return self._folder("images")

    @property
    def trusted(self) -> Path:
        """The folder of records of trust in spec files, see ``mooring.policy.trust``."""
        return self._folder("consents")

    @property
    def swept(self) -> Path:
        """The folder of marks for sessions whose creation was interrupted without a container."""
        return self._folder("swept")

    @property
    def history(self) -> Path:
        """The history's SQLite file."""
        return self.path / "history.db"

    def _folder(self, name: str) -> Path:
        path = self.path / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)  # parents may have been deleted
        return path


def _check_format(folder: Path) -> None:
    """Refuse a state folder of a newer format, and mark one without a mark.

    Raises:
        MooringError
    """
    path = folder / _FORMAT
    try:
        number, _, version = path.read_text().partition(" ")
        found = int(number)
    except (OSError, ValueError):  # a new folder, or one of a version before 0.2
        draft = path.with_name(f"{_FORMAT}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            draft.write_text(f"{STATE_FORMAT} {__version__}\n")
            draft.replace(path)
        except OSError:  # disk full; others may be able to write it later
            with contextlib.suppress(OSError):
                draft.unlink()
        return
    if found > STATE_FORMAT:
        raise MooringError(
            f"{folder} was used by a newer mooring, {one_line(version.strip(), 40)}, and this is "
            f"{__version__}",
            "upgrade this one (pip install --upgrade mooring), or set MOORING_STATE_DIR to another "
            "folder",
        )


def current_dir() -> Path:
    """The current folder.

    Raises:
        SpecError: it was deleted.
    """
    try:
        return Path.cwd()
    except OSError:
        raise SpecError("the current folder no longer exists", "change to another folder") from None


def user_dir(kind: str) -> Path:
    """The user's folder for mooring's ``config`` or ``state``, by the XDG specification.

    Raises:
        MooringError: neither the environment nor the user database says where it is.
    """
    import platformdirs

    try:
        path = Path(getattr(platformdirs, f"user_{kind}_dir")("mooring"))
    except RuntimeError:
        path = Path()
    if not path.is_absolute():
        raise MooringError(
            "your home folder is unknown: HOME is not an absolute path", "set HOME to its path"
        )
    return path


def _refuse_others_home(path: Path) -> None:
    """Refuse to create root's folders in another user's home, who could not use them.

    So it would be with `sudo`, where it keeps HOME.

    Raises:
        MooringError: the folder does not exist, and would be created in another user's.
    """
    if os.getuid() == 0 and not path.exists():
        owner = next(above for above in path.parents if above.exists()).stat().st_uid
        if owner:
            raise MooringError(
                f"{path} would be root's, in the home of user {owner}, who could not use it",
                "set HOME to root's own home, as sudo -H does, or set MOORING_STATE_DIR",
            )


def state_dir() -> Path:
    """The state folder of this installation, see ``Installation.here``."""
    configured = os.environ.get("MOORING_STATE_DIR")
    path = Path(configured) if configured else user_dir("state")
    if not path.is_absolute():
        path = current_dir() / path
    try:
        if not configured:
            _refuse_others_home(path)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise MooringError(
            f"cannot create {path}: {error.strerror}",
            "set MOORING_STATE_DIR to a folder of your own",
        ) from error
    if found.st_uid != os.getuid():
        raise MooringError(
            f"{path} belongs to another user", "set MOORING_STATE_DIR to a folder of your own"
        )
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path
