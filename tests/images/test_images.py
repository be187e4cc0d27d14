"""Images: having one here, and what must be known of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from mooring import FakeEngine
from mooring.engines.base import PullProgress
from mooring.engines.fake import FakeProcess
from mooring.errors import EngineError, EngineUnavailable, ImageError, SessionTimeout
from mooring.host.paths import Installation
from mooring.host.users import User
from mooring.images import images

IMAGE = "python:3.12"
ANN = User(1000, 1000, (), "ann", "/home/ann")


def silent(step: PullProgress) -> None:
    pass


def facts(engine: FakeEngine, reference: str = IMAGE) -> images.ImageFacts:
    return images.facts_of(engine, Installation.here(), reference, engine.images[reference], ANN)


def saying(text: bytes) -> Callable[[FakeProcess], int]:
    def probe(process: FakeProcess) -> int:
        process.write(text)
        return 0

    return probe


# Pull policies


@pytest.mark.parametrize(
    ("policy", "here", "there", "pulls"),
    [
        ("missing", True, True, 0),
        ("missing", False, True, 1),
        ("always", True, True, 1),
        ("always", False, True, 1),
        ("never", True, False, 0),
    ],
)
def test_pull_policies(
    engine: FakeEngine, policy: str, here: bool, there: bool, pulls: int
) -> None:
    """An image is fetched when its policy says so, and is here afterwards."""
    engine.images = {IMAGE: "sha256:1"} if here else {}
    engine.registry = {IMAGE} if there else set()
    assert images.ensure_image(engine, IMAGE, policy, silent)
    assert engine.calls.count("pull") == pulls


@pytest.mark.parametrize("policy", ["missing", "always", "never"])
def test_a_missing_image(engine: FakeEngine, policy: str) -> None:
    """An image that is nowhere is an ImageError with its name and a hint; never asks nobody."""
    with pytest.raises(ImageError, match=IMAGE) as caught:
        images.ensure_image(engine, IMAGE, policy, silent)
    assert caught.value.hint
    assert ("pull" in engine.calls) == (policy != "never")


# Looking into one


OUTPUT = (
    b"root:x:0:0:root:/root:/bin/sh\n--- group\nroot:x:0:\n"
    b"--- path\n/opt/bin:/bin\n--- python\n/opt/bin/python3\n"
)


@pytest.fixture
def with_python() -> FakeEngine:
    return FakeEngine(images=[IMAGE], main=saying(OUTPUT))


def test_an_image_is_looked_into_once(with_python: FakeEngine) -> None:
    """An image's facts are remembered by its id: the second time the engine is not asked."""
    first = facts(with_python)
    assert [first.passwd, first.group] == ["root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"]
    assert (first.python, first.kernel_problem) == ("/opt/bin/python3", "")
    assert first.path == "/opt/bin:/bin"
    assert with_python.containers == {}
    with_python.calls.clear()
    assert facts(with_python) == first
    assert with_python.calls == []


def test_another_content_is_looked_into_anew(with_python: FakeEngine) -> None:
    """An image that was pulled anew under its old name is another image."""
    facts(with_python)
    with_python.images[IMAGE] = "sha256:2"
    with_python.calls.clear()
    facts(with_python)
    assert "create" in with_python.calls


def test_the_name_is_the_one_that_was_asked_for(with_python: FakeEngine) -> None:
    """One image under two names is looked into once and started by either name."""
    with_python.images["another:1"] = with_python.images[IMAGE]
    assert facts(with_python).reference == IMAGE
    assert facts(with_python, "another:1").reference == "another:1"


def test_the_volumes_of_an_image_are_remembered(
    with_python: FakeEngine,
) -> None:
    """The paths of an image's volumes are normalized, and part of what is remembered."""
    declared = ("/data/", "//x/./y", "/a/../b", "/data")
    with_python.volumes = {with_python.images[IMAGE]: declared}
    first = facts(with_python)
    assert first.volumes == ("/b", "/data", "/x/y")
    with_python.calls.clear()
    assert facts(with_python) == first
    assert with_python.calls == []


def test_facts_of_an_earlier_version_are_found_anew(with_python: FakeEngine) -> None:
    """What a version remembered that did not know of volumes is not used."""
    first = facts(with_python)
    (store,) = Installation.here().images.glob("*.json")
    known = json.loads(store.read_text())
    del known["volumes"]
    store.write_text(json.dumps(known | {"python": "/old"}))
    assert facts(with_python) == first


def test_a_volume_that_is_not_absolute(with_python: FakeEngine) -> None:
    """An image with a volume at a relative path is refused, before it runs."""
    with_python.volumes = {with_python.images[IMAGE]: ("data",)}
    with pytest.raises(ImageError, match="declares a volume at data, which is not absolute"):
        facts(with_python)
    assert "create" not in with_python.calls


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (b"--- group\n--- python\nno python3 on its PATH\n", "no python3 on its PATH"),
        (
            b"--- group\n--- python\nTraceback\nModuleNotFoundError: No module named 'ipykernel'\n",
            "ModuleNotFoundError: No module named 'ipykernel'",
        ),
        (b"--- group\n--- python\n", "python3 did not start"),
        (b"na\xefve:x:1:1::/:/bin/sh\n--- group\n--- python\n", "python3 did not start"),
    ],
)
def test_an_image_without_a_kernel(output: bytes, problem: str) -> None:
    """The reason for a missing Python kernel is kept in the image's words, whatever its bytes."""
    found = facts(FakeEngine(images=[IMAGE], main=saying(output)))
    assert (found.python, found.kernel_problem) == ("", problem)


def test_an_image_without_a_shell(with_python: FakeEngine) -> None:
    """An image that cannot start /bin/sh is an ImageError that says what mooring needs."""
    with_python.fail("start", EngineError("exec: /bin/sh: no such file or directory"))
    with pytest.raises(ImageError, match="has no working /bin/sh") as caught:
        facts(with_python)
    assert "shell" in caught.value.hint
    assert with_python.containers == {}


def test_an_image_whose_shell_says_nothing() -> None:
    """An image that starts something other than a shell is the same ImageError."""
    with pytest.raises(ImageError, match="has no working /bin/sh"):
        facts(FakeEngine(images=[IMAGE], main=saying(b"exec format error\n")))


def test_an_engine_that_is_down_says_nothing_of_the_image(with_python: FakeEngine) -> None:
    """An engine that is lost meanwhile is unavailable; the image is not blamed for it."""
    with_python.fail("start", EngineUnavailable("no engine"))
    with pytest.raises(EngineUnavailable, match="no engine"):
        facts(with_python)
    assert list(Installation.here().images.iterdir()) == []


def test_an_image_that_hangs(clock) -> None:
    """An image whose Python never exits is a timeout, leaves nothing, and is tried again later."""

    def hang(process: FakeProcess) -> int:
        process.terminated.wait(30)
        return 0

    engine = FakeEngine(images=[IMAGE], main=hang, clock=clock, sleep=clock.sleep)
    with pytest.raises(SessionTimeout):
        facts(engine)
    assert engine.containers == {}
    assert list(Installation.here().images.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"other": 1}', '{"reference": "x"}'])
def test_a_memory_that_cannot_be_read(with_python: FakeEngine, content: str) -> None:
    """A memory that makes no sense is replaced."""
    first = facts(with_python)
    (store,) = Installation.here().images.iterdir()
    store.write_text(content)
    assert facts(with_python) == first
