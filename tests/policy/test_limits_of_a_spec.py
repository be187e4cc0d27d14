"""What the administrator's policy limits in a spec, key by key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.errors import PolicyError
from mooring.host.users import caller
from mooring.policy import limits as policy
from mooring.policy.image_names import spellings
from mooring.policy.limits import load
from mooring.spec.model import SessionSpec
from tests.policy.support import Plant, refusal


def checked(text: str, plant: Plant, **spec: Any) -> str:
    """Empty, or why a spec is refused; the error names the file, the line and the key."""
    plant("# ours\n" + text)
    message = ""
    try:
        load().check(SessionSpec.model_validate(spec))
    except PolicyError as error:
        message = error.message
    key = text.partition(":")[0]
    assert message == "" or message.endswith(f": {key} in {policy.POLICY_FILE}:2")
    return message


def test_gpus(plant: Plant) -> None:
    """A session's GPUs are counted as they were asked for, shares too."""
    assert checked("max_gpus: 2", plant, gpus=2) == ""
    assert "gpus is 3, and the maximum for a session is 2" in checked("max_gpus: 2", plant, gpus=3)
    assert checked("max_gpus: 2", plant, gpus={"count": 3, "model": "A100"})
    assert checked("max_gpus: 0.5", plant, gpus=0.5) == ""
    assert checked("max_gpus: 0.5", plant, gpus=1)
    assert checked("max_gpus: 0", plant) == ""
    assert checked("max_gpus: 0", plant, gpus=0.1)


def test_duration(plant: Plant) -> None:
    """No session may last longer; never is longer than any."""
    assert checked("max_duration: 12h", plant, max_duration="12h") == ""
    message = checked("max_duration: 12h", plant, max_duration="13h")
    assert "max_duration is 13h, and the maximum is 12h" in message
    assert "max_duration is never" in checked("max_duration: 12h", plant)
    assert "is 43201s" in checked("max_duration: 12h", plant, max_duration="43201s")
    assert "maximum is 25h" in checked("max_duration: 25h", plant)
    assert "maximum is 90m" in checked("max_duration: 1h30m", plant)
    assert "maximum is 90s" in checked("max_duration: 90s", plant)
    assert "max_duration is never" in checked("require_max_duration: true", plant)
    assert checked("require_max_duration: true", plant, max_duration="100d") == ""
    assert checked("require_max_duration: false", plant) == ""


def test_priority(plant: Plant) -> None:
    """Nobody gets before the others beyond the highest priority."""
    assert checked("max_priority: 0", plant, priority=0) == ""
    assert "priority is 1, and the maximum" in checked("max_priority: 0", plant, priority=1)
    assert checked("max_priority: -5", plant)


@pytest.mark.parametrize(
    ("pattern", "image", "allowed"),
    [
        ("host", "host", True),
        ("host", "docker://host", False),
        ("host", "docker.io/library/host", False),
        ("host", "host:latest", False),
        ("docker://host", "docker://host", True),
        ("docker://host", "host", False),
        ("python", "python:3.12", True),
        ("python:3.12", "python:3.12", True),
        ("python:3.12", "docker://python:3.12", True),
        ("python:3.12", "docker.io/library/python:3.12", True),
        ("python:3.12", "index.docker.io/library/python:3.12", True),
        ("python:3.12", "library/python:3.12", True),
        ("docker.io/library/*", "python:3.12", True),
        ("docker.io/python:3.12", "python:3.12", True),
        ("docker://python:*", "python:3.12", True),
        ("python:latest", "python", True),
        ("python:3.12", "python:3.13", False),
        ("python:3.12", "python:3.12@sha256:" + "a" * 64, False),
        ("python:3.12*", "python:3.12@sha256:" + "a" * 64, False),
        ("python", "python:3.12@sha256:" + "a" * 64, True),
        ("python@sha256:" + "a" * 64, "python@sha256:" + "a" * 64, True),
        ("python", "evil/python:3.12", False),
        ("python", "evil.example/library/python:3.12", False),
        ("docker.io/library/*", "evil.example/docker.io/library/python", False),
        ("docker.io/library/*", "cafe0123", False),
        ("docker.io/library/*", "sha256:" + "a" * 64, False),
        ("docker.io/library/*", "evil/python", False),
        ("docker.io/*", "evil/python", True),
        ("nvcr.io/nvidia/*", "nvcr.io/nvidia/pytorch:24.01-py3", True),
        ("nvcr.io/nvidia/*", "NVCR.IO/nvidia/pytorch:24.01-py3", True),
        ("nvcr.io/nvidia/*", "nvcr.io/nvidiaevil/pytorch", False),
        ("localhost:5000/*", "localhost:5000/x", True),
        ("localhost:5000/x", "localhost:5000/x:v1", True),
        ("*", "anything/at:all", True),
    ],
)
def test_images(plant: Plant, pattern: str, image: str, allowed: bool) -> None:
    """A pattern means an image by any of its names, and no other one that looks like it."""
    message = checked(f"images: ['{pattern}']", plant, image=image)
    assert (message == "") is allowed, message


def test_no_image_is_allowed_by_an_empty_list(plant: Plant) -> None:
    """An empty list is a list; a build has a name of its own."""
    assert checked("images: []", plant)
    assert checked("images: ['*']", plant, build="Dockerfile") == ""
    assert checked("images: [python]", plant, build="Dockerfile")
    assert checked("images: [build]", plant, build="Dockerfile") == ""


NAMES = st.from_regex(r"[g-z][a-z0-9]{0,8}", fullmatch=True)


@given(NAMES, NAMES, st.sampled_from(["docker.io", "quay.io", "localhost:5000"]), NAMES)
def test_every_spelling_means_one_image(name: str, user: str, registry: str, tag: str) -> None:
    """All spellings of an image have the same names; another registry's share none."""
    short = {frozenset(spellings(text)) for text in (
        f"{name}:{tag}", f"library/{name}:{tag}", f"docker.io/{name}:{tag}",
        f"docker.io/library/{name}:{tag}", f"index.docker.io/library/{name}:{tag}")}  # fmt: skip
    assert len(short) == 1
    other = set(spellings(f"quay.io/{user}/{name}:{tag}"))
    assert not other & next(iter(short))
    whole = f"{registry}/{user}/{name}:{tag}"
    assert whole in set(spellings(whole))


def test_host_paths(plant: Plant, tmp_path: Path) -> None:
    """What is mounted lies below a folder of the list by whole names, links followed."""
    (tmp_path / "data" / "set").mkdir(parents=True)
    (tmp_path / "database").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "data")
    for prefix in ("data", "data/", "way"):
        plant(f"host_paths: [{tmp_path}/{prefix}]")
        found = load()
        found.check_paths([("inputs", tmp_path / "data"), ("outputs", tmp_path / "data" / "set")])
        for source in (tmp_path / "database", tmp_path, Path("/"), tmp_path / "dat"):
            error = refusal(lambda: found.check_paths([("inputs", source)]))  # noqa: B023
            assert error.message.startswith(f"inputs: {source} is outside")
    plant("host_paths: []")
    refusal(lambda: load().check_paths([("home", tmp_path)]))
    plant("host_paths: [/]")
    load().check_paths([("home", tmp_path)])


def test_home_in_a_policy_is_each_users_own(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home that the user database tells, not what the environment says."""
    home = Path(os.path.realpath(caller().home))
    for whole in ("~/", "'~'"):
        plant(f"host_paths: [{whole}]")
        load().check_paths([("home", home), ("inputs", home / "x")])
    plant("host_paths: [~/work]")
    monkeypatch.setenv("HOME", "/")
    load().check_paths([("inputs", home / "work" / "x")])
    refusal(lambda: load().check_paths([("inputs", Path("/etc"))]))
    refusal(lambda: load().check_paths([("inputs", home)]))


@given(st.lists(st.sampled_from(["a", "b", "ab", "a b"]), min_size=1, max_size=4),
       st.lists(st.sampled_from(["a", "b", "ab", "a b"]), min_size=1, max_size=4))  # fmt: skip
def test_a_prefix_is_whole_names(allowed: list[str], source: list[str]) -> None:
    """A path is allowed exactly where the names of the prefix begin it."""
    limits = policy.Limits(host_paths=["/nonexistent/" + "/".join(allowed)])
    found = policy.Policy(limits)
    inside = source[: len(allowed)] == allowed
    try:
        found.check_paths([("inputs", Path("/nonexistent", *source))])
    except PolicyError:
        assert not inside
    else:
        assert inside
