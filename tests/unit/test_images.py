"""Images: the host's own, and what must be known of any other."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mooring.engines.base import PullProgress
from mooring.engines.fake import FakeEngine, FakeProcess
from mooring.errors import EngineError, EngineUnavailable, ImageError, SessionTimeout
from mooring.host import paths
from mooring.host.users import User
from mooring.images import images

IMAGE = "python:3.12"
ANN = User(1000, 1000, (), "ann", "/home/ann")


def silent(step: PullProgress) -> None:
    pass


def facts(engine: FakeEngine, reference: str = IMAGE) -> images.ImageFacts:
    return images.facts_of(
        engine, reference, engine.images[reference], ANN, "mooring-probe-1", {"a": "b"}
    )


def saying(text: bytes) -> Callable[[FakeProcess], int]:
    def probe(process: FakeProcess) -> int:
        process.write(text)
        return 0

    return probe


# The host image


def test_the_host_image_is_imported_once(engine: FakeEngine) -> None:
    """The almost empty root is made at the first use and found afterwards."""
    first = images.host_image(engine)
    assert images.host_image(engine) == first
    assert engine.calls.count("import_image") == 1


def test_the_host_image_holds_nothing_of_anybody() -> None:
    """The root has folders and links alone; /sbin is a folder, for an engine's own init."""
    with tarfile.open(fileobj=io.BytesIO(images._root_tar(images._root_layout()))) as tar:
        entries = {entry.name: entry for entry in tar}
    assert all(entry.isdir() or entry.issym() for entry in entries.values())
    assert entries["sbin"].isdir()
    assert entries["tmp"].mode == 0o1777
    assert not {"sbin/init", "sbin/docker-init"} & entries.keys()
    if os.path.islink("/bin"):
        assert entries["bin"].linkname == "usr/bin"


def test_the_machine_is_read_only(engine: FakeEngine) -> None:
    """What the host image needs of this machine exists, and is never writable."""
    binds = images.host_image(engine).binds
    assert all(bind.read_only for bind in binds)
    assert all(os.path.exists(bind.source) for bind in binds)
    targets = [bind.target for bind in binds]
    assert "/usr" in targets
    assert len(targets) == len(set(targets))


def test_nothing_secret_of_the_machine(engine: FakeEngine) -> None:
    """The machine's accounts' passwords, keys and homes are not among what is mounted."""
    targets = [bind.target for bind in images.host_image(engine).binds]
    for secret in ("/etc", "/etc/shadow", "/etc/ssh", "/root", "/home", "/var", "/run", "/"):
        assert secret not in targets


def test_the_calling_python_is_there(engine: FakeEngine) -> None:
    """The interpreter that made the session runs in it, by the same path."""
    found = images.host_image(engine)
    assert found.python == sys.executable
    tops = [bind.target for bind in found.binds]
    for path in {sys.executable, os.path.realpath(sys.executable)}:
        assert any(path.startswith(f"{top}/") for top in tops)
    path = dict(found.env)["PATH"].split(":")
    assert os.path.join(sys.prefix, "bin") in path[:2]


def test_pip_installs_beside_a_virtual_environment(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where pip could not help itself, in a virtual environment, it is given a prefix."""
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    env = dict(images.host_image(engine).env)
    assert env["PIP_PREFIX"] == images.PACKAGES
    assert env["PYTHONPATH"].startswith(f"{images.PACKAGES}/")
    assert env["PATH"].startswith(f"{images.PACKAGES}/")
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    env = dict(images.host_image(engine).env)
    assert "PIP_PREFIX" not in env
    assert "PYTHONPATH" not in env


def test_the_folder_that_python_was_started_in_is_not_mounted(
    engine: FakeEngine, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens to be on the module path because of where one stands is not the image."""
    monkeypatch.syspath_prepend(str(project))
    assert str(project) not in {bind.source for bind in images.host_image(engine).binds}


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


SAID = b"root:x:0:0:root:/root:/bin/sh\n--- group\nroot:x:0:\n--- python\n/opt/bin/python3\n"


@pytest.fixture
def with_python() -> FakeEngine:
    return FakeEngine(images=[IMAGE], main=saying(SAID))


def test_an_image_is_looked_into_once(with_python: FakeEngine) -> None:
    """What an image holds is remembered by its id: the second look asks the engine for nothing."""
    first = facts(with_python)
    assert [first.passwd, first.group] == ["root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"]
    assert (first.python, first.kernel_problem) == ("/opt/bin/python3", "")
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


@pytest.mark.parametrize(
    ("said", "problem"),
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
def test_an_image_without_a_kernel(said: bytes, problem: str) -> None:
    """Why an image has no Python kernel is remembered in its own words, whatever its bytes."""
    found = facts(FakeEngine(images=[IMAGE], main=saying(said)))
    assert (found.python, found.kernel_problem) == ("", problem)


def test_an_image_without_a_shell(with_python: FakeEngine) -> None:
    """An image that cannot start /bin/sh is an ImageError that says what mooring needs."""
    with_python.fail("start", EngineError("exec: /bin/sh: no such file or directory"))
    with pytest.raises(ImageError, match="has no /bin/sh") as caught:
        facts(with_python)
    assert "shell" in caught.value.hint
    assert with_python.containers == {}


def test_an_image_whose_shell_says_nothing() -> None:
    """An image in which something starts and is no shell is the same ImageError."""
    with pytest.raises(ImageError, match="has no /bin/sh"):
        facts(FakeEngine(images=[IMAGE], main=saying(b"exec format error\n")))


def test_an_engine_that_is_down_says_nothing_of_the_image(with_python: FakeEngine) -> None:
    """An engine that went away while one looked is unavailable; the image is not blamed for it."""
    with_python.fail("start", EngineUnavailable("no engine"))
    with pytest.raises(EngineUnavailable, match="no engine"):
        facts(with_python)
    assert list(paths.images_dir().iterdir()) == []


def test_an_image_that_hangs(clock) -> None:
    """An image whose Python never ends is given up, removed, and looked into anew next time."""

    def hang(process: FakeProcess) -> int:
        process.terminated.wait(30)
        return 0

    engine = FakeEngine(images=[IMAGE], main=hang, clock=clock, sleep=clock.sleep)
    with pytest.raises(SessionTimeout):
        facts(engine)
    assert engine.containers == {}
    assert list(paths.images_dir().iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"other": 1}', '{"reference": "x"}'])
def test_a_memory_that_cannot_be_read(with_python: FakeEngine, content: str) -> None:
    """What was remembered and makes no sense is forgotten."""
    first = facts(with_python)
    (store,) = paths.images_dir().iterdir()
    store.write_text(content)
    assert facts(with_python) == first
