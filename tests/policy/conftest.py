"""Unit tests run on the fake engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mooring.policy import limits as policy
from tests.policy.support import Plant
from tests.support.fake import clock, declare, engine, service

__all__ = ["clock", "declare", "engine", "service"]


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """A policy in force, in a folder of the test's."""
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    file = folder / "policy.yml"
    monkeypatch.setattr(policy, "POLICY_FILE", file)
    monkeypatch.setattr(policy, "OWNER", os.getuid())

    def write(text: str) -> Path:
        file.write_text(text)
        file.chmod(0o644)
        return file

    return write
