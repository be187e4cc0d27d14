"""Access to a session's run folder, which is ``/run/mooring`` in its container."""

from __future__ import annotations

import contextlib
import socket
from typing import Protocol


class Guest(Protocol):
    """A session's run folder.

    Processes in the session can change any file in it at any time, so reads are limited, their
    content is never trusted, and links are not followed. Names are relative to the folder, with
    ``/`` as the separator.
    """

    def read(self, name: str, *, tail: bool = False) -> str:
        """Read at most 64 KiB of a file as text; bytes that are not UTF-8 are replaced.

        Args:
            name: the file.
            tail: read the last bytes of a longer file instead of the first.

        Raises:
            OSError: the file does not exist, or is not a regular file.
        """

    def read_bytes(self, name: str, limit: int) -> bytes:
        """Read the first ``limit`` bytes of a file. Raises OSError like ``read``."""

    def text(self, name: str) -> str:
        """Read a file like ``read``, and strip whitespace; empty instead of OSError."""

    def write(self, name: str, content: str | bytes) -> None:
        """Replace a file or folder by a file atomically, mode 0600. Raises OSError."""

    def create(self, name: str) -> None:
        """Create an empty file. Raises FileExistsError if the name exists, and OSError."""

    def make_folder(self, name: str) -> None:
        """Create a folder, mode 0700; does nothing if it exists. Raises OSError."""

    def remove(self, name: str) -> None:
        """Delete a file of any type, or a folder; does nothing if missing. Raises OSError."""

    def remove_folder(self, name: str) -> None:
        """Delete a folder recursively, ignoring errors."""

    def gone(self) -> bool:
        """Whether the run folder itself was deleted."""

    def exists(self, name: str) -> bool:
        """Whether the name exists, as a file of any type."""

    def modified_at(self, name: str) -> float:
        """The modification time of a file in seconds since the epoch; 0 if it is missing."""

    def names(self, folder: str) -> list[str]:
        """At most 1,000 names in a folder, sorted; empty if it is missing."""

    def uptime(self) -> float:
        """Seconds since boot of the session's machine, including time suspended."""

    def path(self, name: str) -> str:
        """A path on this machine of a file of the session, for messages."""

    def expose(self, names: list[str]) -> contextlib.AbstractContextManager[list[str]]:
        """Context manager that returns paths to sockets, valid even if their names are replaced.

        The paths are valid in this process.

        Raises:
            OSError: a name does not exist, or is not a socket.
        """

    def listen(self, name: str) -> socket.socket:
        """Listen on a Unix socket, to which the processes that can enter the folder can connect.

        Raises:
            OSError: the name exists, or cannot be created.
        """

    def pin(self, names: list[str]) -> None:
        """Make sockets available at their ``socket_path``, until ``unpin``.

        Raises:
            OSError: a name does not exist, or is not a socket.
        """

    def socket_path(self, name: str) -> str:
        """A path on this machine of a socket that was pinned, out of the session's reach.

        It is valid in any process, and stays the same socket whatever takes its name.
        """

    def unpin(self, folder: str) -> None:
        """Remove the paths of a folder's sockets, ignoring errors."""
