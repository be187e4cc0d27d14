"""Where the GPU queue of an engine is: one folder, which all users of the engine agree on.

Its path is a function of the engine's socket alone, the same in every version: two queues would
grant one GPU twice, because a grant is in the queue only, until its container runs. So there is no
second place to prefer. Any local user can create a file at that path first, and then no session
with GPUs starts: the folder is refused, because only a member of the socket's group can give it
that group. Against that, the administrator lets systemd-tmpfiles create the folder at boot, before
anybody logs in; ``tmpfiles.conf`` beside this module has the lines.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mooring.errors import EngineError
from mooring.host import paths
from mooring.host.text import quoted

#: Parents of the folder, of which the first that is world-writable and sticky is used.
SHARED_FOLDERS = ("/run/lock", "/var/lock", "/var/tmp")
#: For systemd-tmpfiles: creates the folder for the engine at /run/docker.sock.
TMPFILES = Path(__file__).with_name("tmpfiles.conf")
_MODE = 0o3770  # setgid: new files get the group; sticky: users can delete only their own files


@dataclass(frozen=True)
class Place:
    """The path of a queue that several users share, which need not exist.

    Attributes:
        group: the id of the group that may use the engine's socket.
    """

    folder: Path
    socket: str
    group: int

    def owner(self) -> str | None:
        """Return the name of the user who made the file at the path; None if there is none."""
        try:
            uid = self.folder.lstat().st_uid
        except FileNotFoundError:
            return None
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"

    def check(self) -> None:
        """Check that the file at the path is the queue's folder.

        Raises:
            EngineError: it is not, so somebody without the engine's group made it.
            OSError: it does not exist.
        """
        status = self.folder.lstat()
        right = status.st_gid == self.group and not status.st_mode & 0o007
        if not right or not stat.S_ISDIR(status.st_mode):
            raise EngineError(
                f"{self.folder} belongs to {self.owner()} and is not the GPU queue of the engine "
                f"at {self.socket}, so no session with GPUs starts",
                f"as root: {self.repair}",
            )

    @property
    def repair(self) -> str:
        """The shell command with which root makes the folder, whatever is at the path."""
        group = _group_name(self.group)
        # mkdir fails if somebody was faster again
        return (
            f"rm -rf -- {quoted(self.folder)} && mkdir {quoted(self.folder)} && "
            f"chgrp {quoted(group)} {quoted(self.folder)} && chmod {_MODE:o} {quoted(self.folder)}"
        )


def shared_place(address: str) -> Place | None:
    """Return where the queue of an engine is; None for one that is private to the installation.

    Args:
        address: the address of the engine's socket, ``unix:///path``. Without a socket that a
            group can use, the queue is private.
    """
    socket = address.removeprefix("unix://")
    group = _shared_group(socket)
    if group is None:
        return None
    name = hashlib.sha256(os.path.realpath(socket).encode()).hexdigest()[:12]
    parent = next((path for path in SHARED_FOLDERS if _is_shared(path)), "/tmp")
    return Place(Path(parent) / f"mooring-{name}", socket, group)


def open_folder(address: str) -> Path:
    """Return the folder of an engine's queue, and create it if it does not exist.

    Raises:
        EngineError: it cannot be created, or its path is taken by another user's file.
    """
    try:
        shared = shared_place(address)
        if shared is None:
            folder = paths.state_dir() / "queue"
            folder.mkdir(mode=0o700, exist_ok=True)
            return folder
        if not shared.folder.exists():
            _create(shared.folder, shared.group)
        shared.check()
    except OSError as error:
        raise EngineError(
            f"cannot create the GPU queue: {error}",
            "check that you are in the group of the engine's socket, and that the disk is not full",
        ) from error
    return shared.folder


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _shared_group(socket: str) -> int | None:
    """Return the group that may use an engine's socket; None if it is private, or missing."""
    try:
        status = os.stat(socket)
    except OSError:
        return None
    if not status.st_mode & stat.S_IWGRP or status.st_uid == os.getuid() != 0:
        return None
    return status.st_gid


def _create(folder: Path, group: int) -> None:
    """Create the folder with its group and mode atomically, unless another process was faster."""
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        os.chown(draft, -1, group)
        draft.chmod(_MODE)
        # rename(2) replaces an empty folder, and a lock on it would be lost: so make it non-empty
        (draft / "made").touch()
        with contextlib.suppress(OSError):  # another process was faster
            draft.rename(folder)
    finally:
        with contextlib.suppress(OSError):
            (draft / "made").unlink(missing_ok=True)
            draft.rmdir()


def _is_shared(path: str) -> bool:
    """Return whether a folder is world-writable and sticky."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and mode & 0o1777 == 0o1777
