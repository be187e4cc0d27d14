"""Which containers are this installation's: those that its records name."""

from __future__ import annotations

from typing import Any

import pytest

from mooring import FakeEngine
from mooring.engines.base import Container
from mooring.engines.labels import LABEL_ID, container_name
from mooring.host.boot import boot_id
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from tests.support.sessions import make_folder

ID = "0123456789ab"


def row(state: str = "running", **changes: Any) -> Container:
    values: dict[str, Any] = {
        "id": "c" * 64,
        "name": container_name("train", ID),
        "image": "i",
        "state": state,
        "labels": {LABEL_ID: ID},
        "created_at": 1.0,
    }
    return Container(**(values | changes))


def is_own(container: Container) -> bool:
    return Context(FakeEngine(), "tester").is_own(container)


@pytest.fixture
def folder() -> SessionFolder:
    made = make_folder(ID, "train", boot_id=boot_id())
    made.release()
    made.mark_ready()
    return made


def test_own_by_the_record(folder: SessionFolder) -> None:
    """A container is ours if our record names it: by its id, before that by its name."""
    assert is_own(row())
    assert not is_own(row(name="another"))
    folder.update_state(container="c" * 64)
    assert is_own(row(name="renamed"))
    assert not is_own(row(id="d" * 64))


@pytest.mark.parametrize("session_id", ["", "..", "0123456789ab/", "0123456789AB", "f" * 12])
def test_not_own_without_a_record(folder: SessionFolder, session_id: str) -> None:
    """An id that is none, or that has no record here, makes no container ours."""
    assert not is_own(row(labels={LABEL_ID: session_id}))
    assert not is_own(row(labels={}))
