"""A session's record: typed, replaced whole, and read whichever version wrote it."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from mooring.sessions.folder import SessionFolder
from mooring.sessions.record import Identity, Layout, Plan, RecordState, Removal, SessionRecord
from tests.support.sessions import ID


def stored(folder: SessionFolder) -> dict[str, Any]:
    """The record as it is on disk."""
    record: dict[str, Any] = json.loads((folder.path / "record.json").read_text())
    return record


def test_a_record_is_replaced_whole(folder: SessionFolder) -> None:
    """A change of the record keeps the rest, and leaves no draft behind."""
    folder.update_state(container="c", end_recorded=True)
    assert folder.record() == SessionRecord(
        identity=Identity(id=ID, name="train"),
        state=RecordState(container="c", end_recorded=True),
    )
    assert [path.name for path in folder.path.glob(".*")] == []


@pytest.mark.parametrize("content", ["", '{"id": "01', "\0\0\0", "[]", "7", "null"])
def test_a_torn_record_is_empty(folder: SessionFolder, content: str) -> None:
    """A record that cannot be read is an empty one."""
    (folder.path / "record.json").write_text(content)
    assert folder.record() == SessionRecord()
    assert not folder.record().exists


def test_a_record_keeps_what_others_write_at_the_same_time(folder: SessionFolder) -> None:
    """A Jupyter server's threads and other commands change records of one session at once."""

    def change(key: str) -> None:
        for number in range(100):
            changes: Any = {key: str(number)}
            folder.update_state(**changes)

    keys = ("container", "boot_id", "remove_with", "recreated_from")
    threads = [threading.Thread(target=change, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    state = folder.record().state
    assert [getattr(state, key) for key in keys] == ["99"] * 4


# What earlier versions wrote: each group of keys came with one of them

FIRST = {
    "id": ID,
    "name": "train",
    "owner": "ada",
    "created_at": 1_700_000_000.5,
    "boot_id": "b",
    "project": "/home/ada/p",
    "memory": "2 GiB",
    "tty": True,
    "remove": "",
    "spec": {"image": "python:3.12", "memory": 2 << 30},
    "mounts": [["/home/ada/p", "/home/ada/p"]],
    "container": "c",
}
WITH_ENDS = FIRST | {"end_recorded": True, "changed_at": 5.0, "out_of_memory": None}
WITH_KERNELS = FIRST | {
    "opened_by": "/home/ada/p/a.ipynb",
    "ends_with_kernels": True,
    "python": "/usr/bin/python3",
}
WITH_GPUS = FIRST | {
    "requested": True,
    "moving": None,
    "moved": True,
    "moved_from": None,
    "gpu_sharing": {"GPU-a": "by its memory"},
}
MOVING = FIRST | {"moving": ["mooring-train-next", "41:7"], "moved": True}
WITH_LAYOUT = WITH_KERNELS | {
    "layout": {
        "workdir": "/home/ada/p",
        "binds": [["/home/ada/p", "/home/ada/p", False], ["/etc/x", "/etc/x", True]],
        "image": ["/usr", "/lib"],
    },
}
WITH_NOTE = WITH_LAYOUT | {"note": "the current folder is not mounted"}

IDENTITY = Identity(
    id=ID,
    name="train",
    owner="ada",
    created_at=1_700_000_000.5,
    spec={"image": "python:3.12", "memory": 2 << 30},
    project="/home/ada/p",
)
OF_A_KERNEL = Identity(
    **IDENTITY._asdict() | {"notebook": "/home/ada/p/a.ipynb", "ends_with_kernels": True}
)
MOUNTS = (("/home/ada/p", "/home/ada/p"),)
LAYOUT = Layout(
    workdir="/home/ada/p",
    binds=(("/home/ada/p", "/home/ada/p", False), ("/etc/x", "/etc/x", True)),
    image=("/usr", "/lib"),
)
PYTHON = "/usr/bin/python3"
STATE = RecordState(container="c", boot_id="b")


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        pytest.param(FIRST, SessionRecord(IDENTITY, Plan(MOUNTS), STATE), id="first"),
        pytest.param(
            {key: value for key, value in FIRST.items() if key not in ("mounts", "container")},
            SessionRecord(IDENTITY, Plan(), RecordState(boot_id="b")),
            id="cut off before its container",
        ),
        pytest.param(
            WITH_ENDS,
            SessionRecord(
                IDENTITY,
                Plan(MOUNTS),
                RecordState(container="c", boot_id="b", end_recorded=True, changed_at=5.0),
            ),
            id="with ends",
        ),
        pytest.param(
            WITH_KERNELS,
            SessionRecord(OF_A_KERNEL, Plan(MOUNTS, python=PYTHON), STATE),
            id="with kernels",
        ),
        pytest.param(
            WITH_GPUS,
            SessionRecord(
                IDENTITY,
                Plan(MOUNTS),
                RecordState(
                    container="c",
                    boot_id="b",
                    requested=True,
                    recreated=True,
                    gpu_sharing={"GPU-a": "by its memory"},
                ),
            ),
            id="recreated once",
        ),
        pytest.param(
            MOVING,
            SessionRecord(
                IDENTITY,
                Plan(MOUNTS),
                RecordState(
                    container="c",
                    boot_id="b",
                    recreating=("mooring-train-next", "41:7"),
                    recreated=True,
                ),
            ),
            id="cut off while it was recreated",
        ),
        pytest.param(
            WITH_LAYOUT,
            SessionRecord(OF_A_KERNEL, Plan(MOUNTS, LAYOUT, PYTHON), STATE),
            id="with layout",
        ),
        pytest.param(
            WITH_NOTE,
            SessionRecord(
                OF_A_KERNEL,
                Plan(MOUNTS, LAYOUT, PYTHON, "the current folder is not mounted"),
                STATE,
            ),
            id="with note",
        ),
    ],
)
def test_a_record_of_an_earlier_version_is_read(
    folder: SessionFolder, earlier: dict[str, Any], expected: SessionRecord
) -> None:
    """Every layout that a version has written is a record; what it lacks is at its default."""
    (folder.path / "record.json").write_text(json.dumps(earlier))
    assert folder.record() == expected


def test_keys_of_other_versions_survive_an_update(folder: SessionFolder) -> None:
    """What this version does not know stays as it is: another may still read it."""
    unknown = {"memory": "2 GiB", "of_a_later_version": {"a": [1, None]}}
    (folder.path / "record.json").write_text(json.dumps(FIRST | unknown))
    folder.update_state(container="d")
    folder.write_plan(Plan(note="n"))
    record = stored(folder)
    assert {key: record[key] for key in unknown} == unknown
    assert (record["container"], record["note"]) == ("d", "n")
    assert record["spec"] == FIRST["spec"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (["41:7", "ada", "why"], Removal("41:7", "ada", "why")),
        ([41, None, "why"], Removal("41", "None", "why")),
        (["41:7"], None),
        (7, None),
    ],
)
def test_a_removal_that_cannot_be_read_is_none(
    folder: SessionFolder, text: object, expected: Removal | None
) -> None:
    """The rest of the record stays readable."""
    folder.update_state(container="c", removing=Removal("41:7", "ada", ""))
    assert folder.record().state.removing == Removal("41:7", "ada", "")
    (folder.path / "record.json").write_text(json.dumps(stored(folder) | {"removing": text}))
    assert folder.record().state == RecordState(container="c", removing=expected)


def test_an_earlier_version_reads_what_this_one_writes(folder: SessionFolder) -> None:
    """State folders are shared while one of two versions is being upgraded: names stay."""
    folder.write_plan(Plan(MOUNTS, LAYOUT, PYTHON, "n"))
    folder.update_state(
        remove_with="1:2",
        recreating=("draft", "41:7"),
        recreated=True,
        recreated_from="c",
    )
    record = stored(folder)
    assert record["layout"] == WITH_LAYOUT["layout"]
    assert record["mounts"] == FIRST["mounts"]
    assert (record["python"], record["note"], record["opened_by"]) == (PYTHON, "n", "")
    assert (record["remove"], record["moving"]) == ("1:2", ["draft", "41:7"])
    assert (record["moved"], record["moved_from"]) == (True, "c")
    folder.update_state(recreating=None, recreated_from="")
    assert not stored(folder)["moving"]
    assert folder.record().state.recreating is None
