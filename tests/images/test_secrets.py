"""Secrets: reading and writing them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mooring.errors import SpecError
from mooring.images.mounts import SessionFolders
from mooring.images.secrets import read_secrets, write_secrets
from mooring.spec.model import SessionSpec


def test_secrets_are_read_and_written(folders: SessionFolders, project: Path) -> None:
    """A secret is a variable's value or a file's text, in a file that only the caller can read."""
    (project / "token").write_text("from a file\n")
    spec = SessionSpec.model_validate({"secrets": {"A": {"env": "MINE"}, "B": {"file": "token"}}})
    values = read_secrets(spec, {"B": project / "token"}, {"MINE": "from a variable"})
    assert values == {"A": "from a variable", "B": "from a file"}
    write_secrets(folders.secrets, values)
    for name, value in values.items():
        assert (folders.secrets / name).read_text() == value
        assert stat.S_IMODE((folders.secrets / name).stat().st_mode) == 0o400


@pytest.mark.parametrize("kind", ["variable", "file", "folder", "binary", "huge", "fifo"])
def test_a_secret_that_is_not_there(project: Path, kind: str) -> None:
    """A secret that cannot be read is an error that names it and holds nothing of a value."""
    sentinel = b"s3ntinel\xff"
    path = project / "token"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(sentinel)
    elif kind == "huge":
        path.write_bytes(b"s3ntinel" * 100_000)
    elif kind == "fifo":
        os.mkfifo(path)
    source = {"env": "MINE"} if kind == "variable" else {"file": "token"}
    spec = SessionSpec.model_validate({"secrets": {"TOKEN": source}})
    with pytest.raises(SpecError, match="secrets: TOKEN") as caught:
        read_secrets(spec, {"TOKEN": project / "token"}, {"OTHER": "s3ntinel"})
    assert "s3ntinel" not in str(caught.value)
    assert caught.value.__cause__ is None
