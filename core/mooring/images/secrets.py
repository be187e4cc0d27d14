"""Secrets of a session: read from environment variables and files, written to private files.

Values never appear in logs, labels, arguments or environments.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.errors import SpecError
from mooring.images.sources import absolute

if TYPE_CHECKING:
    from mooring.spec.model import SessionSpec

SECRET_BYTES_MAX = 512 * 1024


def read_secrets(spec: SessionSpec, project: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Read the values of a spec's secrets.

    Args:
        spec: names an environment variable or a file for each secret.
        project: the folder that relative paths start from.
        environ: the environment variables.

    Returns:
        The values, by the secrets' names.

    Raises:
        SpecError: a variable does not exist, or a file cannot be read; the message names it but
            contains no value.
    """
    values = {}
    for name, secret in spec.secrets.items():
        if secret.env:
            if secret.env not in environ:
                raise SpecError(
                    f"secrets: {name}: {secret.env} is not set in the environment",
                    f"set it first: export {secret.env}=…",
                )
            values[name] = environ[secret.env]
        elif secret.file:
            path = absolute(Path(secret.file), project)
            values[name] = _read(path, f"secrets: {name}").rstrip("\n")
    return values


def write_secrets(folder: Path, values: Mapping[str, str]) -> None:
    """Create one file for each secret, mode 0400.

    Args:
        folder: a folder that is private to the user.
        values: the values, by the secrets' names, which become the file names.

    Raises:
        OSError: a file exists already, or cannot be written.
    """
    for name, value in values.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "w") as file:
            file.write(value)


def _read(path: Path, key: str) -> str:
    """The content of a small regular text file; does not block on a device or a FIFO.

    Raises:
        SpecError: it is not a small regular text file, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SpecError(f"{key}: {path} is not a regular file", "use a small text file")
            content = file.read(SECRET_BYTES_MAX + 1)
        if len(content) > SECRET_BYTES_MAX:
            raise SpecError(f"{key}: {path} is larger than 512 KiB", "use a small text file")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SpecError(f"{key}: cannot read {path}: {why}", "correct the path") from None
