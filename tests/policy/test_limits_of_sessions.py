"""Where the administrator's policy is asked: when a session is made, updated and started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.images.host_environment import host_environment
from mooring.launch import create as launch
from tests.policy.support import Plant, refusal


def test_create_asks_it(service: Mooring, engine: FakeEngine, declare: Any, plant: Plant) -> None:
    """A session that is not allowed is not made, and the error tells where the value came from."""
    plant("images: [host]\nmax_duration: 2h")
    error = refusal(
        lambda: service.sessions.create(declare("image: python:3.12\nmax_duration: 1h"))
    )
    assert "image python:3.12 (file " in error.message
    error = refusal(
        lambda: service.sessions.create(declare("image: python:3.12\nmax_duration: 3h"))
    )
    assert "max_duration is 3h (file " in error.message
    assert not engine.containers
    service.sessions.create(declare("command: sleep 9\nmax_duration: 1h"))


@pytest.mark.parametrize("key", ["inputs", "outputs", "home", "working directory"])
def test_every_mount_is_held_against_it(
    service: Mooring, declare: Any, plant: Plant, tmp_path: Path, key: str
) -> None:
    """Inputs, outputs, the home and the project count, by flags too."""
    (tmp_path / "other").mkdir()
    project = "" if key == "working directory" else f"{tmp_path / 'project'}"
    plant(f"host_paths: [{project or '/nonexistent'}]")
    flags: dict[str, Any] = {"home": True} if key == "home" else {}
    if key in ("inputs", "outputs"):
        flags[key] = [str(tmp_path / "other")]
    error = refusal(lambda: service.sessions.create(declare(**flags)))
    assert error.message.startswith(key)


def test_what_changes_after_the_check_is_checked_again(
    service: Mooring,
    engine: FakeEngine,
    declare: Any,
    plant: Plant,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A link that is swapped in, and a policy that is written, while a session is made, count."""
    (tmp_path / "other").mkdir()
    (project / "data").mkdir()
    own = [str(path) for _, path in host_environment().sources]
    plant(f"host_paths: [{', '.join([str(project), *own])}]")
    reserve = launch.reserve
    turns: list[Callable[[], object]] = [
        lambda: ((project / "data").rmdir(), (project / "data").symlink_to(tmp_path / "other")),
        lambda: plant("images: [python]"),
    ]

    def after_the_turn(*arguments: Any, **options: Any) -> Any:
        turns.pop(0)()
        return reserve(*arguments, **options)

    monkeypatch.setattr(launch, "reserve", after_the_turn)
    error = refusal(lambda: service.sessions.create(declare(inputs=["data"])))
    assert f"{tmp_path / 'other'} is outside" in error.message
    assert "image host" in refusal(lambda: service.sessions.create(declare())).message
    assert not engine.containers


def test_a_file_can_be_allowed_before_its_flags_are_said(
    service: Mooring, declare: Any, plant: Plant
) -> None:
    """`trust` is about what a file reaches; the policy judges the whole, with the flags."""
    plant("require_max_duration: true")
    resolved = declare("home: true")
    plan = service.sessions.plan(resolved, resolved.project, check_policy=False)
    assert [grant.key for grant in plan.with_trust().grants] == ["home"]
    refusal(lambda: list(service.sessions.plan(resolved, resolved.project).needs_trust))


def test_update_and_start_ask_it(
    service: Mooring, engine: FakeEngine, declare: Any, plant: Plant
) -> None:
    """A running session's clock stays within the policy, and a stopped one is judged anew."""
    plant("max_duration: 2h")
    session = service.sessions.create(declare(max_duration="1h")).session
    for seconds in (0.0, 3 * 3600.0):
        assert (
            "maximum is 2h"
            in refusal(
                lambda: service.sessions.update(session, max_duration_s=seconds)  # noqa: B023
            ).message
        )
    service.sessions.update(session, idle_timeout_s=0)
    service.sessions.update(session, max_duration_s=7200)
    service.sessions.stop(session)
    plant("max_duration: 1h")
    assert "max_duration is 2h" in refusal(lambda: service.sessions.start(session)).message
    plant("images: [python]")
    assert "image host" in refusal(lambda: service.sessions.start(session)).message
    plant("host_paths: [/nonexistent]")
    assert refusal(lambda: service.sessions.start(session)).message.startswith("mount at ")
    plant("")
    assert service.sessions.start(session).state == "running"


def test_a_broken_policy_stops_new_sessions_alone(
    service: Mooring, declare: Any, plant: Plant
) -> None:
    """What runs can be listed, stopped and removed under a policy that nobody can read."""
    session = service.sessions.create(declare()).session
    plant("max_gpu: 1")
    refusal(lambda: service.sessions.create(declare()))
    assert [one.id for one in service.sessions.list()] == [session.id]
    service.sessions.stop(session)
    refusal(lambda: service.sessions.start(session))
    service.sessions.remove(session, force=True)
