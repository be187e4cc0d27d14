"""Which sessions exist, and which one a name stands for."""

from __future__ import annotations

import dataclasses

import pytest

from mooring import FakeEngine, LaunchOptions
from mooring.client import Mooring
from mooring.engines.labels import LABEL_ID, LABEL_INSTALLATION, LABEL_NAME, container_name
from mooring.errors import (
    SessionNotFound,
    SessionStateError,
)
from mooring.gpus.claims import Claim
from mooring.gpus.inventory import Gpu
from mooring.sessions import find
from mooring.sessions.reconcile import Repairs


def test_history_outlives_the_session(service: Mooring, declare) -> None:
    """A removed session is remembered, with who removed it, and the error for its name says so."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.remove(session, force=True)
    past = service.sessions.past("train")
    assert past is not None
    assert past.reason == "removed by tester"
    with pytest.raises(SessionNotFound, match="is gone"):
        service.sessions.get("train")


def test_names_ids_and_patterns(service: Mooring, declare) -> None:
    """A session is found by its name, four characters of its id, or a shell pattern; each once."""
    one, two = (
        service.sessions.create(declare(command="x"), LaunchOptions(name=f"run-{n}")).session
        for n in (1, 2)
    )
    assert service.sessions.get(one.id[:8]).id == one.id
    assert service.sessions.get(two.id).id == two.id
    assert [s.name for s in service.sessions.find(["run-2", "run-*"])] == ["run-2", "run-1"]
    for nobody in ("nobody", one.id[:3], "nobod*"):
        with pytest.raises(SessionNotFound, match="no session named") as caught:
            service.sessions.get(nobody)
        assert "run-1" in caught.value.hint


def test_running_asks_the_engine_once(service: Mooring, engine: FakeEngine, declare) -> None:
    """Finding a running session by its name is one request."""
    service.sessions.create(declare(command="x"), LaunchOptions(name="train"))
    engine.calls.clear()
    assert service.sessions.get_running("train").name == "train"
    assert engine.calls == ["list"]


def test_running_says_what_it_is_instead(service: Mooring, declare) -> None:
    """A session that does not run is an error with its state, its reason and the way on."""
    service.sessions.stop(
        service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    )
    with pytest.raises(SessionStateError, match=r"train is stopped \(by ") as caught:
        service.sessions.get_running("train")
    assert caught.value.hint == "start it again: mooring start train"


def test_a_list_is_one_request(service: Mooring, engine: FakeEngine, declare) -> None:
    """However many sessions there are, looking is one request to the engine."""
    for _ in range(5):
        service.sessions.create(declare(command="x"))
    engine.calls.clear()
    assert len(service.sessions.list()) == 5
    assert engine.calls == ["list"]


def test_a_driver_that_tells_only_numbers_costs_no_session_its_gpu(
    service: Mooring, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Degraded is one whose device the driver does not list; without it nobody can tell."""
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="s")).session
    session = dataclasses.replace(session, claims=(Claim("GPU-a"),))
    monkeypatch.setattr(find, "reconcile", lambda ctx: ([session], Repairs()))
    there = Gpu("GPU-b", 0, "nvidia", "A100", 2**35, "550")
    for gpu, degraded in ((there, "gpu lost"), (dataclasses.replace(there, driver=""), "")):
        monkeypatch.setattr("mooring.gpus.inventory.inventory", lambda gpu=gpu: (gpu,))
        (seen,) = service.sessions.list()
        assert seen.degraded == degraded


def test_a_foreign_session_is_found_by_its_name_or_id(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """A name or four characters of an id find a session of others, and a pattern does not."""
    mine = service.sessions.create(declare(command="x", name="mine")).session
    labels = engine.containers[mine.container].config.labels
    config = engine.containers[mine.container].config
    engine.create(
        dataclasses.replace(
            config,
            name=container_name("theirs", "fedcba987654"),
            labels={
                **labels,
                LABEL_INSTALLATION: "0" * 12,
                LABEL_NAME: "theirs",
                LABEL_ID: "fedcba987654",
            },
        )
    )
    for name in ("theirs", "fedc"):
        assert [session.id for session in service.sessions.find_foreign(name)] == ["fedcba987654"]
    for name in ("mine", "fed", "thei*", "*"):
        assert service.sessions.find_foreign(name) == []


def test_a_copy_of_anothers_labels_is_no_session_of_theirs(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """A container of an image that was committed from somebody's session, and so has all labels of
    theirs, is not listed as theirs: its name is not that of a session."""
    mine = service.sessions.create(declare(command="x", name="mine")).session
    config = engine.containers[mine.container].config
    foreign = {LABEL_INSTALLATION: "0" * 12, LABEL_NAME: "theirs", LABEL_ID: "fedcba987654"}
    for name in ("quirky_hopper", "mooring-theirs", "mooring-theirs-fedc1", "theirs-fedc"):
        engine.create(dataclasses.replace(config, name=name, labels={**config.labels, **foreign}))
    assert [one.name for one in service.sessions.list(all_users=True)] == ["mine"]


def test_a_mistyped_name(service: Mooring, declare) -> None:
    """The nearest name is offered, else all names."""
    for name in ("train", "eval"):
        service.sessions.create(declare(command="x"), LaunchOptions(name=name))
    with pytest.raises(SessionNotFound, match="no session named trail") as caught:
        service.sessions.get("trail")
    assert caught.value.hint == "did you mean train?"
    with pytest.raises(SessionNotFound) as caught:
        service.sessions.get("zzz")
    assert set(caught.value.hint.removeprefix("choose from: ").split(", ")) == {"train", "eval"}
