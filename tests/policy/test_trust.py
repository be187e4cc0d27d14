"""Trust in spec files: in this content, and in the paths that it leads to."""

from __future__ import annotations

import dataclasses
import json
import shutil
import stat
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.errors import SpecError, TrustRequired
from mooring.host.paths import Installation
from mooring.host.users import caller
from mooring.images.mounts import Grant, plan
from mooring.launch.plan import planned_again
from mooring.policy import trust
from mooring.spec.resolve import ResolvedSpec, resolve


def grants(resolved: ResolvedSpec) -> tuple[Grant, ...]:
    return plan(resolved.spec, project=resolved.project, cwd=resolved.project, user=caller()).grants


def asked(resolved: ResolvedSpec) -> list[str]:
    return [grant.key for grant in trust.missing(resolved, grants(resolved))]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


def test_what_stays_inside_asks_for_nothing(declare, project: Path) -> None:
    """A file that uses its own folder needs no trust."""
    (project / "data").mkdir()
    assert asked(declare("inputs: [./data]\noutputs: [./results]\n")) == []


def test_what_reaches_out_asks(
    declare, outside: Path, service: Mooring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that reaches out is refused until it is trusted; the error names all, and how."""
    resolved = declare(
        f"home: true\ninputs: [{outside}]\nsecrets: {{TOKEN: {{env: MINE}}}}\ncommand: x\n"
    )
    monkeypatch.setenv("MINE", "x")
    with pytest.raises(TrustRequired) as caught:
        service.sessions.create(resolved)
    assert str(outside) in caught.value.message
    assert "secrets.TOKEN: from your variable MINE" in caught.value.message
    assert "home: your home" in caught.value.message
    assert caught.value.hint.endswith(f"mooring trust {resolved.path}")
    assert asked(resolved) == ["home", "inputs", "secrets.TOKEN"]
    trust.record(resolved, grants(resolved))
    assert asked(resolved) == []


def test_flags_are_the_users_own_words(declare, outside: Path) -> None:
    """What the user typed is asked for by the user."""
    assert asked(declare(inputs=[str(outside)], home=True)) == []
    assert asked(declare("command: x\n", inputs=[str(outside)], home=True)) == []


def test_a_flag_does_not_vouch_for_the_file(declare) -> None:
    """A secret that the user adds is no trust in the file's own ones."""
    resolved = declare("secrets: {THEIRS: {env: PRIVATE}}\n", secrets={"MINE": {"env": "MINE"}})
    assert asked(resolved) == ["secrets.THEIRS"]


def test_consent_is_to_the_content(declare, outside: Path) -> None:
    """A file that was changed, in whatever way, asks again; the old content is still trusted."""
    text = f"inputs: [{outside}]\n"
    first = declare(text)
    trust.record(first, grants(first))
    assert asked(declare(text + "# harmless\n")) == ["inputs"]
    assert asked(declare(text)) == []
    assert len(list(Installation.here().trusted.iterdir())) == 1


def test_consent_is_to_what_it_reached(declare, project: Path, outside: Path) -> None:
    """An unchanged file whose link has come to lead elsewhere asks again."""
    (project / "link").symlink_to(outside)
    resolved = declare("inputs: [./link]\n")
    trust.record(resolved, grants(resolved))
    assert asked(resolved) == []
    (project / "link").unlink()
    (project / "link").symlink_to(outside.parent)
    assert asked(resolved) == ["inputs"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"allowed": 5}', '{"other": []}', "\xff"])
def test_a_consent_that_cannot_be_read_is_none(declare, outside: Path, content: str) -> None:
    """A torn record of trust allows nothing."""
    resolved = declare(f"inputs: [{outside}]\n")
    trust.record(resolved, grants(resolved))
    (kept,) = Installation.here().trusted.iterdir()
    kept.write_text(content)
    assert asked(resolved) == ["inputs"]


def test_consents_add_up(declare, outside: Path) -> None:
    """What a file was trusted with before stays, and the record says what and for which file."""
    resolved = declare(f"home: true\ninputs: [{outside}]\n")
    one, two = grants(resolved)
    trust.record(resolved, [one])
    assert asked(resolved) == [two.key]
    trust.record(resolved, [two])
    assert asked(resolved) == []
    (path,) = Installation.here().trusted.iterdir()
    content = json.loads(path.read_text())
    assert content == {"file": str(resolved.path), "allowed": sorted([str(one), str(two)])}
    assert stat.S_IMODE(Installation.here().trusted.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "how",
    ["copied", "hard link", "link to the file", "moved", "exchanged", "deleted and made anew"],
)
def test_consent_is_to_a_place(
    declare, project: Path, outside: Path, tmp_path: Path, how: str
) -> None:
    """The same bytes in another folder, or in a folder that took the place of the trusted one,
    however they came there, ask again."""
    resolved = declare(f"inputs: [{outside}]\n")
    trust.record(resolved, grants(resolved))
    other = tmp_path / "other"
    shutil.copytree(project, other)
    if how == "hard link":
        (other / "session.yml").unlink()
        (other / "session.yml").hardlink_to(project / "session.yml")
    elif how == "link to the file":
        (other / "session.yml").unlink()
        (other / "session.yml").symlink_to(project / "session.yml")
    elif how == "moved":
        shutil.rmtree(other)
        project.rename(other)
    elif how == "exchanged":
        project.rename(tmp_path / "aside")
        other.rename(project)
        other = project
    elif how == "deleted and made anew":  # the inode may be the same
        shutil.rmtree(project)
        project.mkdir()
        (other / "session.yml").rename(project / "session.yml")
        other = project
    again = resolve(
        flags={}, file=other / "session.yml", environ={}, user_config=tmp_path / "none.yml"
    )
    assert asked(again) == ["inputs"]


@pytest.mark.parametrize(
    "how", ["unchanged", "same bytes anew", "by a link to the folder", "files beside it", "mode"]
)
def test_consent_outlasts_what_changes_nothing(
    declare, project: Path, outside: Path, tmp_path: Path, how: str
) -> None:
    """What git or an editor does to the file, the folder's other content, and another way to the
    same folder ask nothing again."""
    resolved = declare(f"inputs: [{outside}]\n")
    trust.record(resolved, grants(resolved))
    file = project / "session.yml"
    if how == "same bytes anew":
        text = file.read_text()
        file.unlink()
        (project / "draft").write_text(text)
        (project / "draft").rename(file)
    elif how == "by a link to the folder":
        (tmp_path / "link").symlink_to(project)
        file = tmp_path / "link" / "session.yml"
    elif how == "files beside it":
        (project / "new").mkdir()
        file.touch()
    elif how == "mode":
        project.chmod(0o750)
    again = resolve(flags={}, file=file, environ={}, user_config=tmp_path / "none.yml")
    assert asked(again) == []


def test_consent_to_what_a_file_extends(
    declare, project: Path, outside: Path, tmp_path: Path
) -> None:
    """A base of the same bytes at another real path is another base."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "base.yml").write_text(f"inputs: [{outside}]\n")
    (project / "base.yml").symlink_to(tmp_path / "one" / "base.yml")
    text = "extends: ./base.yml\n"
    resolved = declare(text)
    trust.record(resolved, grants(resolved))
    assert asked(declare(text)) == []
    (project / "base.yml").unlink()
    (project / "base.yml").symlink_to(tmp_path / "two" / "base.yml")
    assert asked(declare(text)) == ["inputs"]


def test_a_folder_that_is_exchanged_after_it_was_read(
    declare, service: Mooring, project: Path, outside: Path
) -> None:
    """Consent to a spec that was read holds no longer when its folder is another one by the time
    that the session is made."""
    resolved = declare(f"inputs: [{outside}]\ncommand: x\n")
    plan = service.sessions.plan(resolved).with_trust()
    aside = project.with_name("aside")
    project.rename(aside)
    shutil.copytree(aside, project)
    with pytest.raises(TrustRequired):
        service.sessions.create(plan)
    shutil.rmtree(project)
    with pytest.raises((TrustRequired, SpecError)):
        service.sessions.create(plan)
    aside.rename(project)
    assert service.sessions.create(plan).session


def test_what_was_enqueued_is_asked_about_again(
    declare, service: Mooring, project: Path, tmp_path: Path
) -> None:
    """A launch from the queue needs consent as any other does: also to what its file extends."""
    (tmp_path / "base.yml").write_text("env: {A: b}\n")
    resolved = declare(f"extends: {tmp_path}/base.yml\ncommand: x\n")
    plan = service.sessions.plan(resolved)
    assert [grant.key for grant in plan.needs_trust] == ["extends"]
    with pytest.raises(TrustRequired, match="extends: read"):
        planned_again(dataclasses.replace(plan, needs_trust=()))
    planned_again(plan.with_trust())


def test_a_launch_of_an_earlier_version_is_asked_about(
    declare, service: Mooring, outside: Path
) -> None:
    """A launch whose folder is not known has no consent."""
    resolved = declare(f"inputs: [{outside}]\ncommand: x\n")
    trust.record(resolved, grants(resolved))
    unplaced = dataclasses.replace(resolved, folder="")
    trust.record(unplaced, grants(unplaced))
    assert asked(resolved) == []
    assert asked(unplaced) == ["inputs"]


def test_without_a_file_there_is_nobody_to_trust(declare, outside: Path) -> None:
    """Flags need no trust, and none is recorded."""
    resolved = declare(home=True)
    trust.record(resolved, grants(resolved))
    assert list(Installation.here().trusted.iterdir()) == []
