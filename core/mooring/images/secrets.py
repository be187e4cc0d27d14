"""Secrets of a session: read from environment variables and files, written to private files.

Values never appear in logs, labels, arguments or environments.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.errors import PolicyError, SpecError
from mooring.host import nofollow
from mooring.images.mounts import EXCHANGED_HINT

if TYPE_CHECKING:
    from mooring.spec.model import SessionSpec

SECRET_BYTES_MAX = 512 * 1024


def read_secrets(
    spec: SessionSpec, files: Mapping[str, Path], environ: Mapping[str, str]
) -> dict[str, str]:
    """Read the values of a spec's secrets.

    Args:
        spec: names an environment variable or a file for each secret.
        files: the resolved paths of the files, by the secrets' names, as in ``MountPlan``.
        environ: the environment variables.

    Returns:
        The values, by the secrets' names.

    Raises:
        SpecError: a variable does not exist, or a file cannot be read; the message names it but
            contains no value.
        PolicyError: a link has taken the place of a file since its path was resolved.
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
            values[name] = _read(files[name], f"secrets: {name}").rstrip("\n")
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
    """The content of a small regular text file; follows no link, does not block on a FIFO.

    The file is opened once, and is the one that ``path`` names: what is checked is what is read.

    Raises:
        SpecError: it is not a small regular text file, or cannot be read.
        PolicyError: a component of ``path`` is a link by now.
    """
    try:
        with open(nofollow.open_regular(path), "rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
        if len(content) > SECRET_BYTES_MAX:
            raise SpecError(f"{key}: {path} is larger than 512 KiB", "use a small text file")
        return content.decode()
    except OSError as error:
        if nofollow.was_replaced(error):
            raise PolicyError(
                f"{key}: {path} has changed since it was checked", EXCHANGED_HINT
            ) from None
        raise SpecError(
            f"{key}: cannot read {path}: {error.strerror}", "correct the path"
        ) from None
    except UnicodeDecodeError:
        raise SpecError(
            f"{key}: cannot read {path}: it is not text", "use a small text file"
        ) from None
