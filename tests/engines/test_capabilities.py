"""Capabilities are asked for by type, and an engine that lacks one is refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mooring import FakeEngine, Mooring
from mooring.engines import capabilities
from mooring.engines.base import Bind, ContainerConfig, Engine
from mooring.engines.capabilities import (
    SupportsBinds,
    SupportsGpus,
    SupportsPublishedPorts,
    fitted,
    require,
)
from mooring.engines.docker import DockerEngine
from mooring.engines.fake import MemoryEngine, MinimumEngine
from mooring.errors import NotSupported
from mooring.spec.resolve import resolve

CAPABILITIES = [kind for name, kind in vars(capabilities).items() if name.startswith("Supports")]
CONFIG = ContainerConfig(name="n", image="i", argv=("true",), user="0:0", network=False)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_an_engine_with_the_minimum_is_refused_by_name(capability: type) -> None:
    """What an engine lacks is refused with what it cannot do and what to do about it."""
    engine = MinimumEngine()
    assert isinstance(engine, Engine)
    assert not isinstance(engine, capability)
    with pytest.raises(NotSupported, match=r"the engine \(fake\) cannot ") as caught:
        require(engine, capability)
    assert caught.value.hint or capability is capabilities.SupportsOomEvents


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("engine", [MemoryEngine(), DockerEngine("unix:///nowhere")])
def test_an_engine_that_has_it_is_given(engine: Engine, capability: type) -> None:
    """Nothing is asked of an engine to know what it can do."""
    assert require(engine, capability) is engine


@pytest.mark.parametrize(
    ("wish", "capability"),
    [
        ({"binds": (Bind("/usr", "/usr"),)}, SupportsBinds),
        ({"ports": ((0, 80),)}, SupportsPublishedPorts),
        ({"gpus": ("GPU-1",)}, SupportsGpus),
        ({"devices": ("/dev/kfd",)}, SupportsGpus),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_container_is_refused_for_what_it_needs(wish: dict, capability: type) -> None:
    """Binds, ports and GPUs are refused before the engine is asked; the rest needs the minimum."""
    config = ContainerConfig(name="n", image="i", argv=("true",), user="0:0", **wish)
    with pytest.raises(NotSupported):
        fitted(MinimumEngine(), config)
    assert fitted(MemoryEngine(), config) == config


def test_a_network_comes_first_where_none_can_come_later() -> None:
    """An engine that gives a running container no network gives it one from the start."""
    assert fitted(MinimumEngine(), CONFIG).network
    assert not fitted(MemoryEngine(), CONFIG).network


@pytest.mark.parametrize(
    ("flags", "what"),
    [({"ports": ["80"]}, "publish ports"), ({"gpus": 1}, "provide GPUs"), ({}, "image")],
    ids=["ports", "gpus", "image"],
)
def test_a_session_is_refused_by_name(state: Path, project: Path, flags: dict, what: str) -> None:
    """A session that the engine cannot run is refused, and nothing of it is left."""
    service = Mooring(MinimumEngine(), actor="tester")
    with pytest.raises(NotSupported, match=what):
        service.sessions.create(resolve(flags={"command": "x", **flags}, environ={}))
    assert service.sessions.list() == []


def test_each_capability_has_its_contract() -> None:
    """Each capability has a class of contract tests, and each of these asks for its own."""
    folder = Path(__file__).parents[1] / "contract"
    text = "".join(file.read_text() for file in folder.glob("test_*.py"))
    classes = re.findall(r"class Test(\w+):\n    \"\"\".*\"\"\"\n\n    capability = (\w+)", text)
    assert dict(classes) == {
        kind.__name__.removeprefix("Supports"): kind.__name__ for kind in CAPABILITIES
    }
    assert len(CAPABILITIES) >= 8


def test_the_public_fake_has_every_capability() -> None:
    """What tests of other projects run on is no less than Docker."""
    assert all(isinstance(FakeEngine(), capability) for capability in CAPABILITIES)
