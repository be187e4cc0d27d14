"""Which containers are sessions, and what a container has not from its image."""

from __future__ import annotations

import pytest

from mooring.engines.base import Container
from mooring.engines.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    LABELS,
    complete,
    is_session,
)

SESSION = {LABEL_INSTALLATION: "here", LABEL_ID: "0123456789ab", LABEL_NAME: "train"}


def container(name: str, labels: dict[str, str]) -> Container:
    return Container("c", name, "i", "running", labels, 0.0)


def test_every_label_is_written() -> None:
    """Where a container has no label, it has an empty one: there is none to take from an image."""
    assert complete({}) == dict.fromkeys(LABELS, "")
    assert complete({LABEL_GPUS: "GPU-0", "other": "x"}) == {
        **dict.fromkeys(LABELS, ""),
        LABEL_GPUS: "GPU-0",
        "other": "x",
    }


@pytest.mark.parametrize("name", ["mooring-train-0123", "mooring-train-0123-a1b2c3"])
def test_a_session_has_the_name_that_its_labels_say(name: str) -> None:
    """A container is a session by its labels and its name, also while it is recreated."""
    assert is_session(container(name, SESSION))


@pytest.mark.parametrize("name", ["quirky_hopper", "mooring-train-01234", "mooring-train", "train"])
def test_labels_alone_are_no_session(name: str) -> None:
    """A container with a session's labels, as an image of a commit passes them on, is none."""
    assert not is_session(container(name, SESSION))


@pytest.mark.parametrize("missing", [LABEL_INSTALLATION, LABEL_ID])
def test_a_name_alone_is_no_session(missing: str) -> None:
    """Neither is a container of such a name whose labels are empty or missing."""
    assert not is_session(container("mooring-train-0123", {**SESSION, missing: ""}))
    labels = {key: value for key, value in SESSION.items() if key != missing}
    assert not is_session(container("mooring-train-0123", labels))
