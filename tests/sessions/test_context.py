"""Which containers are this installation's: those that its records name."""

from __future__ import annotations

import pytest

from mooring import FakeEngine
from mooring.engines.base import Container
from mooring.engines.labels import LABEL_ID
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from tests.support.sessions import container_row
from tests.support.sessions import ready_folder as folder

__all__ = ["folder"]


def is_own(container: Container) -> bool:
    return Context(FakeEngine(), "tester").is_own(container)


def test_own_by_the_record(folder: SessionFolder) -> None:
    """A container is ours if our record names it: by its id, before that by its name."""
    assert is_own(container_row())
    assert not is_own(container_row(name="another"))
    folder.update_state(container="c" * 64)
    assert is_own(container_row(name="renamed"))
    assert not is_own(container_row(id="d" * 64))


@pytest.mark.parametrize("session_id", ["", "..", "0123456789ab/", "0123456789AB", "f" * 12])
def test_not_own_without_a_record(folder: SessionFolder, session_id: str) -> None:
    """An id that is none, or that has no record here, makes no container ours."""
    assert not is_own(container_row(labels={LABEL_ID: session_id}))
    assert not is_own(container_row(labels={}))
