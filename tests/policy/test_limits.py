"""The administrator's policy: what it limits, whom it trusts, and that it fails closed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.client.doctor import examine
from mooring.errors import PolicyError, SpecError
from mooring.host.users import caller
from mooring.launch import create as launch
from mooring.policy import limits as policy
from mooring.policy.limits import load, spellings
from mooring.spec.model import SessionSpec

Plant = Callable[[str], Path]


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """A policy in force, in a folder of the test's."""
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    file = folder / "policy.yml"
    monkeypatch.setattr(policy, "POLICY_FILE", file)
    monkeypatch.setattr(policy, "OWNER", os.getuid())

    def write(text: str) -> Path:
        file.write_text(text)
        file.chmod(0o644)
        return file

    return write


def refusal(act: Callable[[], Any]) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        act()
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 1
    return caught.value


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


# the file


def test_without_a_policy_all_is_allowed(plant: Plant) -> None:
    """No file, or no folder for it, is no limit."""
    found = load()
    assert (found.document, found.describe(), found.max_gpus_per_user) == (None, {}, None)
    found.check(SessionSpec(gpus=64))
    assert load(Path("/nonexistent/folder/policy.yml")).document is None
    assert load(plant("# nothing yet\n")).describe() == {}


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("\nmax_gpu: 1", ":2:1: max_gpu is not a key of a policy", "did you mean max_gpus?"),
        ("max_gpus: many", ":1:1: max_gpus must be a whole number of GPUs", ""),
        ("max_gpus: ", ":1:1: max_gpus has no value", ""),
        ("max_gpus: -1", ":1:1: max_gpus must be", ""),
        ("max_duration: off", ":1:1: max_duration must be above 0", ""),
        ("max_duration: 5 fortnights", ":1:1: max_duration must be a duration", ""),
        ("require_max_duration: 'yes'", "must be true or false", ""),
        ("images: host", "images must be a list of texts", ""),
        ("images: [1]", "images must be a list of texts", ""),
        ("host_paths: [data]", "host_paths must be absolute paths, or ~", ""),
        ("host_paths: [~]", "YAML reads ~ alone so, write ~/", ""),
        ("host_paths: [~bob]", "host_paths must be absolute paths, or ~", ""),
        ("max_priority: 101", "must be a whole number from -100 to 100", ""),
        ("max_priority: true", "must be a whole number from -100 to 100", ""),
        ("max_gpus: 1\nmax_gpus: 2", ":2:1: max_gpus is here twice", ""),
        ("- max_gpus", "not a mapping", ""),
        ("max_gpus: !x 1", "the tag !x is not allowed", ""),
        ("a: [", ":1:", ""),
        ("max_gpus: 1\n\0", "NUL", ""),
    ],
)
def test_a_wrong_policy_allows_nothing(plant: Plant, text: str, problem: str, hint: str) -> None:
    """A mistake in the file is one line with its place, and no session is made."""
    path = plant(text)
    error = refusal(load)
    assert error.message.startswith(str(path))
    assert problem in error.message
    assert error.hint.startswith(hint)
    assert error.hint.endswith("no session starts without a valid policy: ask the administrator")


def test_only_the_administrators_file_counts(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or folder that somebody else owns or may write to is refused, not ignored."""
    path = plant("max_gpus: 1")
    assert load().describe() == {"max_gpus": "1"}
    for target, mode in ((path, 0o664), (path, 0o646), (path.parent, 0o775), (path.parent, 0o757)):
        before = target.stat().st_mode
        target.chmod(mode)
        error = refusal(load)
        assert (
            error.message
            == f"{target}: may be written to by other users, so it is not a valid policy"
        )
        assert f"chmod go-w {target}" in error.hint
        target.chmod(before)
    monkeypatch.setattr(policy, "OWNER", os.getuid() + 1)
    assert "is not owned by root" in refusal(load).message


def test_a_linked_policy_is_judged_where_it_lies(plant: Plant, tmp_path: Path) -> None:
    """A link to a sound file in a sound folder counts; to one that others may write, it does not;
    a link to nothing is no permission."""
    real = tmp_path / "real"
    real.mkdir(mode=0o755)
    policy.POLICY_FILE.symlink_to(real / "ours.yml")
    assert "No such file" in refusal(load).message
    (real / "ours.yml").write_text("max_gpus: 1")
    (real / "ours.yml").chmod(0o644)
    assert load().limits.max_gpus == 1
    real.chmod(0o777)
    assert refusal(load).message.startswith(f"{real}: may be written to by other users")


@pytest.mark.parametrize("kind", ["fifo", "folder", "huge"])
def test_what_is_no_text_file_is_refused(plant: Plant, kind: str) -> None:
    """A FIFO, a folder or a very large file neither hangs nor allows anything."""
    path = policy.POLICY_FILE
    if kind == "fifo":
        os.mkfifo(path, 0o644)
    elif kind == "folder":
        path.mkdir()
    else:
        plant("# " + "x" * 300_000)
    assert refusal(load).message.startswith(str(path))


def test_an_unreadable_policy_allows_nothing(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file cannot even be looked for, nothing is allowed."""
    plant("max_gpus: 1")

    def refuse(path: object, *more: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("mooring.policy.limits.os.lstat", refuse)
        assert refusal(load).message.endswith("policy.yml: Permission denied")


# what it limits


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
    assert "max_duration is 13h, and the longest allowed is 12h" in message
    assert "max_duration is never" in checked("max_duration: 12h", plant)
    assert "is 43201s" in checked("max_duration: 12h", plant, max_duration=43201)
    assert "longest allowed is 25h" in checked("max_duration: 25h", plant)
    assert "longest allowed is 90m" in checked("max_duration: 1h30m", plant)
    assert "longest allowed is 90s" in checked("max_duration: 90", plant)
    assert "max_duration is never" in checked("require_max_duration: true", plant)
    assert checked("require_max_duration: true", plant, max_duration="100d") == ""
    assert checked("require_max_duration: false", plant) == ""


def test_priority(plant: Plant) -> None:
    """Nobody gets before the others beyond the highest priority."""
    assert checked("max_priority: 0", plant, priority=0) == ""
    assert "priority is 1, and the highest" in checked("max_priority: 0", plant, priority=1)
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


# where it is asked


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
    plant(f"host_paths: [{project}]")
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
            "longest allowed is 2h"
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


def test_doctor_tells_it(engine: FakeEngine, plant: Plant) -> None:
    """One line tells the policy in force, or what is wrong with it."""
    plant("max_gpus: 2\nmax_duration: 12h\nimages: [host, 'nvcr.io/*']\nrequire_max_duration: true")
    (finding,) = [one for one in examine(engine) if one.subject == "policy"]
    assert finding.level == "info"
    assert finding.text.endswith(
        "max_gpus 2; max_duration 12h; images host, nvcr.io/*; require_max_duration yes"
    )
    plant("x: 1")
    (finding,) = [one for one in examine(engine) if one.subject == "policy"]
    assert finding.level == "problem"


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(policy.Limits.model_fields)), JUNK, max_size=3))
def test_any_policy_is_judged(keys: dict[str, Any]) -> None:
    """Whatever stands under a key is a limit or an explained error."""
    from mooring.spec.validation import check

    problem = ""
    try:
        check(policy.Limits, keys, what="policy")
    except SpecError as error:
        problem = str(error)
    assert "\n" not in problem
