"""The administrator's policy file: whose it must be, what it may hold, and that it fails closed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring import FakeEngine
from mooring.client.doctor import examine
from mooring.errors import SpecError
from mooring.policy import limits as policy
from mooring.policy.limits import load
from mooring.spec.model import SessionSpec
from mooring.spec.validation import check
from tests.policy.support import Plant, refusal


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
        ("images: host", "images must be a list of strings", ""),
        ("images: [1]", "images must be a list of strings", ""),
        ("host_paths: [data]", "host_paths must be absolute paths, or ~", ""),
        ("host_paths: [~]", "YAML reads a lone ~ as null, so write ~/", ""),
        ("host_paths: [~bob]", "host_paths must be absolute paths, or ~", ""),
        ("max_priority: 101", "must be a whole number from -100 to 100", ""),
        ("max_priority: true", "must be a whole number from -100 to 100", ""),
        ("max_gpus: 1\nmax_gpus: 2", ":2:1: duplicate key max_gpus", ""),
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
        assert error.message == f"{target} is writable by other users, so it is not a valid policy"
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
    assert refusal(load).message.startswith(f"{real} is writable by other users")


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


def test_doctor_tells_it(engine: FakeEngine, plant: Plant) -> None:
    """One line tells the policy in force, or what is wrong with it."""
    plant("max_gpus: 2\nmax_duration: 12h\nimages: [host, 'nvcr.io/*']\nrequire_max_duration: true")
    finding, refused = [one for one in examine(engine) if one.subject == "policy"]
    assert "max_duration is never" in refused.text  # no default, and no configuration, sets one
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
    problem = ""
    try:
        check(policy.Limits, keys, what="policy")
    except SpecError as error:
        problem = str(error)
    assert "\n" not in problem
