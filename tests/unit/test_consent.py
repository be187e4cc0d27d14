"""What a file may reach beyond its folder, a person allows: this content, and this reach."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from mooring.errors import ConsentRequired
from mooring.host import paths
from mooring.host.users import caller
from mooring.images.mounts import Grant, plan
from mooring.policy import trust
from mooring.service import Mooring
from mooring.spec.resolve import ResolvedSpec


def grants(resolved: ResolvedSpec) -> tuple[Grant, ...]:
    return plan(resolved.spec, project=resolved.project, cwd=resolved.project, user=caller()).grants


def asked(resolved: ResolvedSpec) -> list[str]:
    return [grant.key for grant in trust.needed(resolved, grants(resolved))]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


def test_what_stays_inside_asks_for_nothing(declare, project: Path) -> None:
    """A file that uses its own folder needs nobody's consent."""
    (project / "data").mkdir()
    assert asked(declare("inputs: [./data]\noutputs: [./results]\n")) == []


def test_what_reaches_out_asks(declare, outside: Path, service: Mooring) -> None:
    """A file that reaches out is refused until it is allowed; the error names all, and the way."""
    resolved = declare(
        f"home: true\ninputs: [{outside}]\nsecrets: {{TOKEN: {{env: MINE}}}}\ncommand: x\n"
    )
    with pytest.raises(ConsentRequired) as caught:
        service.create(resolved, environ={"MINE": "x"})
    assert str(outside) in caught.value.message
    assert "secrets.TOKEN: from your variable MINE" in caught.value.message
    assert "home: your home" in caught.value.message
    assert caught.value.hint.endswith(f"mooring trust {resolved.path}")
    assert asked(resolved) == ["home", "inputs", "secrets.TOKEN"]
    trust.give(resolved, grants(resolved))
    assert asked(resolved) == []


def test_flags_are_the_users_own_words(declare, outside: Path) -> None:
    """What the user typed is asked for by the user."""
    assert asked(declare(inputs=[str(outside)], home=True)) == []
    assert asked(declare("command: x\n", inputs=[str(outside)], home=True)) == []


def test_a_flag_does_not_vouch_for_the_file(declare) -> None:
    """A secret that the user adds does not allow the file's own ones."""
    resolved = declare("secrets: {THEIRS: {env: PRIVATE}}\n", secrets={"MINE": {"env": "MINE"}})
    assert asked(resolved) == ["secrets.THEIRS"]


def test_consent_is_to_the_content(declare, outside: Path) -> None:
    """A file that was changed, in whatever way, asks again; the old content is still allowed."""
    text = f"inputs: [{outside}]\n"
    first = declare(text)
    trust.give(first, grants(first))
    assert asked(declare(text + "# harmless\n")) == ["inputs"]
    assert asked(declare(text)) == []
    (kept,) = paths.consents_dir().iterdir()
    assert kept.name == first.sha256


def test_consent_is_to_what_it_reached(declare, project: Path, outside: Path) -> None:
    """An unchanged file whose link has come to lead elsewhere asks again."""
    (project / "link").symlink_to(outside)
    resolved = declare("inputs: [./link]\n")
    trust.give(resolved, grants(resolved))
    assert asked(resolved) == []
    (project / "link").unlink()
    (project / "link").symlink_to(outside.parent)
    assert asked(resolved) == ["inputs"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"allowed": 5}', '{"other": []}', "\xff"])
def test_a_consent_that_cannot_be_read_is_none(declare, outside: Path, content: str) -> None:
    """A torn file of consents allows nothing."""
    resolved = declare(f"inputs: [{outside}]\n")
    assert resolved.sha256 is not None
    (paths.consents_dir() / resolved.sha256).write_text(content)
    assert asked(resolved) == ["inputs"]


def test_consents_add_up(declare, outside: Path) -> None:
    """What was allowed before stays allowed, and the file says what and for whom."""
    resolved = declare(f"home: true\ninputs: [{outside}]\n")
    one, two = grants(resolved)
    trust.give(resolved, [one])
    assert asked(resolved) == [two.key]
    trust.give(resolved, [two])
    assert asked(resolved) == []
    (path,) = paths.consents_dir().iterdir()
    content = json.loads(path.read_text())
    assert content == {"file": str(resolved.path), "allowed": sorted([str(one), str(two)])}
    assert stat.S_IMODE(paths.consents_dir().stat().st_mode) == 0o700


def test_without_a_file_there_is_nobody_to_trust(declare, outside: Path) -> None:
    """Consent to flags is not recorded."""
    resolved = declare(home=True)
    trust.give(resolved, grants(resolved))
    assert list(paths.consents_dir().iterdir()) == []
