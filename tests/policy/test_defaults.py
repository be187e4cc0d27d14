"""The administrator's defaults: where they rank, what they may be, and where they are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.client.doctor import examine
from mooring.policy.defaults import resolve
from mooring.policy.limits import load
from mooring.spec.resolve import user_config_path
from mooring_cli.config import policy as config_policy
from mooring_provisioner.session import KernelspecConfig
from tests.policy.support import Plant, refusal

DEFAULTS = """\
max_duration: 24h
require_max_duration: true
defaults:
  max_duration: 8h
  memory: 4GiB
  env:
    HTTPS_PROXY: http://proxy:3128
    LANG: C
"""


def test_defaults_rank_below_everything(plant: Plant, project: Path) -> None:
    """A default of the administrator's is used where the user says nothing, and each value tells
    where it came from; a key without a value has that default again."""
    path = plant(DEFAULTS)
    plain = resolve(flags={})
    assert (plain.spec.max_duration, plain.spec.memory) == (8 * 3600, 4 << 30)
    assert plain.origins["max_duration"] == f"policy {path}:4"
    assert plain.origins["env.LANG"] == f"policy {path}:8"
    assert plain.origins["cpus"] == "default"
    own = user_config_path()
    own.parent.mkdir(parents=True)
    own.write_text("memory: 1GiB\nenv: {LANG: de}\n")
    mixed = resolve(flags={})
    assert mixed.spec.memory == 1 << 30
    assert dict(mixed.spec.env) == {"HTTPS_PROXY": "http://proxy:3128", "LANG": "de"}
    assert mixed.origins["memory"].startswith("user config ")
    spec = project / "session.yml"
    spec.write_text("memory:\nenv:\n")
    again = resolve(flags={}, file=spec)
    assert again.spec.memory == 4 << 30
    assert dict(again.spec.env) == {"HTTPS_PROXY": "http://proxy:3128", "LANG": "C"}
    assert again.origins["memory"] == f"policy {path}:5"
    assert resolve(flags={"memory": "2GiB"}, file=spec).origins["memory"] == "flag --memory"
    assert resolve(flags={}, file=spec, defaults=False).spec.memory is None


def test_what_is_required_can_be_a_default(
    service: Mooring, engine: FakeEngine, plant: Plant, project: Path
) -> None:
    """Where every session must have a maximum duration, one that says nothing, and the kernel that
    is always there, have the administrator's."""
    plant(DEFAULTS)
    session = service.sessions.create(resolve(flags={})).session
    assert service.sessions.deadlines(session)["max_duration"] == 8 * 3600
    kernel = KernelspecConfig().resolve(str(project))
    assert service.sessions.plan(kernel, project).spec.max_duration == 8 * 3600


@pytest.mark.parametrize(
    ("text", "longest"), [("require_max_duration: true", "8h"), ("max_duration: 2h", "2h")]
)
def test_without_a_default_it_says_what_to_write(
    service: Mooring, plant: Plant, project: Path, text: str, longest: str
) -> None:
    """Where there is no default, the error and `doctor` say what to write, and where: a form has no
    flags. What they say works. Kernels have a default of their own."""
    plant(text)
    service.sessions.plan(KernelspecConfig().resolve(str(project)), project)
    error = refusal(lambda: service.sessions.plan(resolve(flags={}), project))
    own = user_config_path()
    assert error.hint.startswith(f"write max_duration: {longest} into {own}, or use")
    found = [finding for finding in examine(FakeEngine()) if finding.subject == "policy"]
    assert [finding.level for finding in found] == ["info", "warning"]
    assert found[1].hint == error.hint
    own.parent.mkdir(parents=True)
    own.write_text(f"max_duration: {longest}\n")
    service.sessions.plan(resolve(flags={}), project)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("max_duration: 2h\ndefaults:\n  max_duration: 3h", 3, "and the maximum is 2h"),
        ("max_duration: 2h\ndefaults: {max_duration: off}", 2, "max_duration is never"),
        ("max_gpus: 1\ndefaults: {gpus: 2}", 2, "the maximum for a session is 1"),
        ("max_gpus_per_user: 1\ndefaults: {gpus: 2}", 2, "above max_gpus_per_user, 1"),
        ("images: [host]\ndefaults: {image: python}", 2, "image python is not allowed"),
        ("max_priority: 0\ndefaults: {priority: 1}", 2, "the maximum is 0"),
        ("defaults: {home: true}", 1, "home is each user's own"),
        ("defaults: {name: x}", 1, "name is each user's own"),
        ("defaults: {memory: }", 1, "memory has no value"),
        ("defaults: {memroy: 1GiB}", 1, "memroy is not a key of a policy"),
        ("defaults: {memory: lots}", 1, "memory must be a size"),
        ("defaults: [memory]", 1, "must be a mapping"),
    ],
)
def test_defaults_stay_within_the_limits(plant: Plant, text: str, place: int, problem: str) -> None:
    """A default that no session may have, or that is not the administrator's to choose, makes the
    policy invalid, with its line: nothing starts, and no user meets it one by one."""
    path = plant(text)
    error = refusal(load)
    assert error.message.startswith(f"{path}:{place}")
    assert problem in error.message
    assert error.hint.endswith("no session starts without a valid policy: ask the administrator")


def test_they_are_told(plant: Plant, capsys: pytest.CaptureFixture[str], engine: Any) -> None:
    """`config policy` prints each default with its line, and `doctor` names them."""
    path = plant("max_gpus: 1\ndefaults:\n  memory: 4GiB\n")
    config_policy(json_=False)
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in row if cell] for row in rows]
    assert ["defaults.memory", "4 GiB", f"{path}:3"] in cells
    config_policy(json_=True)
    assert json.loads(capsys.readouterr().out) == {"max_gpus": 1, "defaults": {"memory": 4 << 30}}
    texts = [finding.text for finding in examine(engine) if finding.subject == "policy"]
    assert texts == [f"{path}: max_gpus 1; defaults for memory"]
