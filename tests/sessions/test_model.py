"""The value that all doors show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mooring.engines.base import Container
from mooring.engines.labels import LABEL_GPUS, LABEL_ID, LABEL_INSTALLATION, LABEL_SPEC
from mooring.gpus.claims import Claim
from mooring.guest.clock import ClockStatus, StopReason
from mooring.host.boot import boot_id, uptime
from mooring.kernels.listing import KernelEntry
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import (
    FIELDS,
    Session,
    State,
    from_container,
    from_foreign,
    from_record,
)
from tests.support.sessions import ID, container_row
from tests.support.sessions import ready_folder as folder

__all__ = ["folder"]


def session(state: State = State.RUNNING, **changes: Any) -> Session:
    values: dict[str, Any] = {
        "id": ID,
        "name": "train",
        "owner": "ann",
        "state": state,
        "image": "host",
        "container": "c" * 64,
        "created_at": 1.0,
        "exit_code": None,
        "declared": {},
        "clock": None,
        "end": None,
        "kernels": (),
    }
    return Session(**(values | changes))


def test_gpus_are_held_while_the_container_runs_or_starts() -> None:
    """A session that ended or is queued again has those of its last run, and holds none."""
    claims = (Claim("GPU-1"), Claim("GPU-2", 0.5))
    holding = {state for state in State if session(state, claims=claims).held_claims == claims}
    assert holding == {State.STARTING, State.RUNNING, State.PAUSED, State.UNKNOWN}
    others = set(State) - holding
    assert {session(state, claims=claims).held_claims for state in others} == {()}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exit_code": 0}, "ended by itself"),
        ({"exit_code": 3}, "exit code 3"),
        ({"exit_code": None}, "ended by itself"),
        ({"exit_code": 137, "out_of_memory": True}, "out of memory"),
        (
            {"exit_code": 137, "out_of_memory": True, "declared": {"memory": 2 << 30}},
            "out of memory (limit 2 GiB)",
        ),
        ({"end": StopReason("idle", 1.0, "", "")}, "idle timeout"),
        ({"end": StopReason("max_duration", 1.0, "", "")}, "maximum duration"),
        ({"end": StopReason("stopped", 1.0, "", ""), "exit_code": 143}, "on request"),
        ({"end": StopReason("stopped", 1.0, "by ann", ""), "exit_code": 143}, "by ann"),
    ],
)
def test_reasons(changes: dict[str, Any], reason: str) -> None:
    """Why a session does not run is said in a few words; the clock's word comes first."""
    assert session(State.STOPPED, **changes).reason == reason


@pytest.mark.parametrize("shown", [State.RUNNING, State.STARTING, State.PAUSED, State.UNKNOWN])
def test_no_reason_without_an_end(shown: State) -> None:
    """What has not ended has no reason, whatever its files say."""
    assert session(shown, end=StopReason("idle", 1.0, "", "")).reason == ""


def test_the_shape_of_its_json() -> None:
    """A session's dictionary has the promised keys in order, and is JSON as it stands."""
    clock = ClockStatus(1.0, 59.9, -3.0, ("kernel",), ("cpu",), 7200.4, 1.5, "kernel", 2.0)
    kernels = (KernelEntry("a", True, 1, None), KernelEntry("b", False, 1, '{"code": 0}'))
    shown = session(clock=clock, kernels=kernels, created_at=1.23456).to_dict()
    assert tuple(shown) == FIELDS
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["kernels"], shown["busy_kernels"]) == (1, 1)
    assert (shown["idle_stop_in_s"], shown["max_stop_in_s"], shown["held_for_s"]) == (59, 0, 7200)
    assert shown["created_at"] == 1.235


@pytest.mark.parametrize("known", [State.STOPPED, State.UNKNOWN, State.LOST])
def test_what_does_not_run_has_no_clock(known: State) -> None:
    """A session that is not known to run shows neither deadlines nor live kernels."""
    clock = ClockStatus(1.0, 60.0, 60.0, ("kernel",), (), 60.0, 1.5, "kernel", 2.0)
    shown = session(known, clock=clock, kernels=(KernelEntry("a", True, 1, None),)).to_dict()
    assert (shown["kernels"], shown["busy_kernels"], shown["idle_stop_in_s"]) == (0, 0, None)
    assert (shown["active_signals"], shown["held_for_s"]) == ([], 0)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("running", State.RUNNING),
        ("paused", State.PAUSED),
        ("created", State.STOPPED),
        ("restarting", State.STARTING),
        ("exited", State.STOPPED),
        ("dead", State.STOPPED),
        ("removing", State.STOPPED),
        ("configured", State.UNKNOWN),
        ("unknown", State.UNKNOWN),
        ("", State.UNKNOWN),
    ],
)
def test_states(folder: SessionFolder, said: str, meant: State) -> None:
    """Each of the engine's words is one state; a word that is not known is unknown, not an end."""
    assert from_container(container_row(said), folder, boot_id()).state is meant


def test_starting_until_it_is_complete(folder: SessionFolder) -> None:
    """A running container whose creation is not complete is starting."""
    (folder.path / "ready").unlink()
    assert from_container(container_row(), folder, boot_id()).state is State.STARTING


def test_rebooted_only_if_nothing_ended_it(folder: SessionFolder) -> None:
    """A session that had ended before the machine was restarted is stopped, not lost."""
    exited = container_row("exited", exit_code=0)
    assert from_container(exited, folder, "another").state is State.LOST
    assert from_container(container_row("running"), folder, "another").state is State.RUNNING
    (folder.run / "end").write_text("reason idle\ntime 5\n")
    assert from_container(exited, folder, "another").state is State.STOPPED


@pytest.mark.parametrize("spec", ["{", "", "\xff"])
def test_a_label_that_makes_no_sense(folder: SessionFolder, spec: str) -> None:
    """A spec that cannot be read back leaves the rest of the session as it is."""
    seen = from_container(container_row(labels={LABEL_ID: ID, LABEL_SPEC: spec}), folder, boot_id())
    assert (seen.state, seen.declared, seen.image) == (State.RUNNING, {}, "host")


@pytest.mark.parametrize("spec", ["{}", '{"gpus": 0}', '{"cpus": 2.0}', ""])
def test_a_label_of_an_image_claims_nothing(folder: SessionFolder, spec: str) -> None:
    """A session that requests no GPUs has none, though its container has a label that says so, as
    one of an earlier version has it from its image."""
    labels = {LABEL_ID: ID, LABEL_SPEC: spec, LABEL_GPUS: "GPU-0,GPU-1:0.5"}
    row = container_row(labels=labels)
    assert from_container(row, folder, boot_id()).claims == ()
    assert from_foreign(row).claims == ()
    row = container_row(labels=labels | {LABEL_SPEC: '{"gpus": 2}'})
    assert len(from_container(row, folder, boot_id()).claims) == 2


def test_a_folder_speaks_for_the_unknown(folder: SessionFolder) -> None:
    """What the engine does not tell is told by the folder, the deadlines too."""
    folder.update_state(container="c", owner="ann", spec={"image": "python:3.12"})
    (folder.run / "status").write_text(f"sampled {uptime()}\n")
    seen = from_record(folder, State.UNKNOWN, "the engine does not answer")
    assert (seen.name, seen.owner, seen.image) == ("train", "ann", "python:3.12")
    assert (seen.container, seen.clock is not None) == ("c", True)
    lost = from_record(folder, State.LOST, "gone")
    assert (lost.container, lost.clock, lost.reason) == ("", None, "gone")


@pytest.mark.parametrize("label", ["", "{", "[1]", "7", "[" * 99999])
def test_what_anybody_writes_on_a_container_is_shown_as_it_is(state: object, label: str) -> None:
    """Whoever may use the engine may label a container like a session: nobody's list breaks."""
    labels = {LABEL_ID: "f" * 12, LABEL_INSTALLATION: "other", LABEL_SPEC: label}
    row = Container("c", name="n", image="i", state="running", labels=labels, created_at=1.0)
    assert from_foreign(row).declared == {}
