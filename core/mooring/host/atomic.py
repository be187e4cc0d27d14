"""Atomic writes: a reader sees the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Atomically replace a file with UTF-8 text, mode 0600; see ``write_bytes``."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Atomically replace a file; on failure the old content remains.

    Only for folders that no other user can write to, because symbolic links in ``path`` are
    followed. For a folder that a session can write to, use ``mooring.guest.shared``.

    Args:
        path: the file.
        content: all of its new content.
        mode: its mode, whatever the umask.

    Raises:
        OSError: the file cannot be written, such as a missing folder or a full disk.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            if mode != 0o600:
                os.fchmod(descriptor, mode)
            file.write(content)
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
