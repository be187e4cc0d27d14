"""Trust in spec files: in this content, and in the paths that it leads to."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.errors import TrustRequired
from mooring.host.paths import Installation
from mooring.host.users import caller
from mooring.images.mounts import Grant, plan
from mooring.policy import trust
from mooring.spec.resolve import ResolvedSpec


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
    (kept,) = Installation.here().trusted.iterdir()
    assert kept.name == first.sha256


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
    assert resolved.sha256 is not None
    (Installation.here().trusted / resolved.sha256).write_text(content)
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


def test_without_a_file_there_is_nobody_to_trust(declare, outside: Path) -> None:
    """Flags need no trust, and none is recorded."""
    resolved = declare(home=True)
    trust.record(resolved, grants(resolved))
    assert list(Installation.here().trusted.iterdir()) == []
