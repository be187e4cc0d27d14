"""What a spec names is exchanged between its check and its use: nothing else is read or made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.errors import MooringError, PolicyError, SpecError, TrustRequired
from mooring.launch import check
from mooring.spec.resolve import ResolvedSpec, resolve
from tests.support.exchange import at_open, flipping, replace_by_link

ROUNDS = 200
LOOT = "the loot of somebody else"


@pytest.fixture
def loot(tmp_path: Path) -> Path:
    """A folder outside the project, with files that no grant names."""
    folder = tmp_path / "loot"
    folder.mkdir()
    (folder / "token").write_text(LOOT)
    (folder / "base.yml").write_text(f"env: {{LOOT: {LOOT}}}\n")
    return folder


@pytest.fixture
def fast(state: Path) -> Mooring:
    """Mooring on the fake engine, for many rounds."""
    return Mooring(FakeEngine(), actor="tester")


def written(project: Path, text: str) -> ResolvedSpec:
    (project / "session.yml").write_text(text)
    return resolve(flags={}, file=project / "session.yml", environ={})


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every secret that is read, whether or not its session comes to run."""
    found: list[str] = []
    read = check.read_secrets

    def recorded(*arguments: Any) -> dict[str, str]:
        secrets = read(*arguments)
        found.extend(secrets.values())
        return secrets

    monkeypatch.setattr(check, "read_secrets", recorded)
    return found


HOW = ("itself", "a link that was one", "above", "a FIFO", "a file outside by two links")


def secret_and_swap(project: Path, loot: Path, how: str) -> tuple[Path, Callable[[], None]]:
    """A secret's file as the spec names it, and what exchanges it."""
    folder = project / "keys"
    folder.mkdir()
    (folder / "token").write_text("mine")
    named, real = folder / "token", folder / "token"
    if how == "a link that was one":
        named = project / "link"
        named.symlink_to(real)
        return named, replace_by_link(named, loot / "token")
    if how == "above":
        return named, replace_by_link(folder, loot)
    if how == "a FIFO":

        def to_fifo() -> None:
            real.unlink()
            os.mkfifo(real)

        return named, to_fifo
    if how == "a file outside by two links":
        (project / "second").symlink_to(loot / "token")
        return named, replace_by_link(real, project / "second")
    return named, replace_by_link(real, loot / "token")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("moment", ["before it is opened", "after the plan"])
def test_a_secret_is_the_file_that_was_granted(
    fast: Mooring, project: Path, loot: Path, values: list[str], how: str, moment: str
) -> None:
    """A secret is read from the file that the grant names, or the session is refused: whatever is
    put in its place, and whenever, its bytes are not read, and nothing blocks."""
    named, swap = secret_and_swap(project, loot, how)
    resolved = written(project, f"secrets: {{TOKEN: {{file: {named.relative_to(project)}}}}}\n")
    plan = fast.sessions.plan(resolved).with_trust()
    with contextlib.ExitStack() as stack:
        if moment == "after the plan":
            swap()
        else:
            stack.enter_context(at_open("token", swap))
        stack.enter_context(contextlib.suppress(MooringError))
        fast.sessions.create(plan)
    assert values in ([], ["mine"])


def test_a_secret_that_is_flipped(
    fast: Mooring, project: Path, loot: Path, values: list[str]
) -> None:
    """In 200 rounds against a process that exchanges a link, no byte of another file is read."""
    (project / "mine").write_text("mine")
    named = project / "token"
    named.symlink_to(project / "mine")
    resolved = written(project, "secrets: {TOKEN: {file: token}}\n")
    fast.sessions.plan(resolved).with_trust()
    with flipping(named, project / "mine", loot / "token"):
        for _ in range(ROUNDS):
            with contextlib.suppress(TrustRequired, PolicyError):
                fast.sessions.remove(fast.sessions.create(resolved).session, force=True)
    assert set(values) <= {"mine"}
    assert values, "no round was lucky: nothing was tried"


@pytest.mark.engine
def test_a_secret_on_the_real_engine(mooring: Mooring, project: Path, loot: Path) -> None:
    """The same with a real container: what the session reads is what was granted."""
    from tests.support.streams import output_of

    (project / "mine").write_text("mine")
    named = project / "token"
    named.symlink_to(project / "mine")
    resolved = written(project, "secrets: {TOKEN: {file: token}}\ncommand: sleep 60\n")
    mooring.sessions.plan(resolved).with_trust()
    seen = []
    with flipping(named, project / "mine", loot / "token"):
        for _ in range(12):
            with contextlib.suppress(TrustRequired, PolicyError):
                session = mooring.sessions.create(resolved).session
                seen.append(output_of(mooring, session, "cat", "/run/secrets/TOKEN"))
                mooring.sessions.remove(session, force=True)
    assert set(seen) <= {"mine"}


# extends


def test_what_a_file_extends_is_what_is_judged(project: Path, loot: Path) -> None:
    """A base that is exchanged for a link out of the folder, in the moment before it is opened, is
    a file outside: it needs consent, or is refused."""
    base = project / "base.yml"
    base.write_text("env: {MINE: '1'}\n")
    with at_open("base.yml", replace_by_link(base, loot / "base.yml")):
        resolved = written(project, "extends: ./base.yml\n")
    told = resolved.spec.env.get("LOOT")
    assert told is None or resolved.reaches == (f"read {loot / 'base.yml'}",)


def test_a_folder_above_what_a_file_extends(project: Path, loot: Path) -> None:
    """The same for a folder on the way to it."""
    folder = project / "bases"
    folder.mkdir()
    (folder / "base.yml").write_text("env: {MINE: '1'}\n")
    with at_open("base.yml", replace_by_link(folder, loot)):
        resolved = written(project, "extends: ./bases/base.yml\n")
    assert resolved.spec.env == {"LOOT": LOOT}
    assert resolved.reaches == (f"read {loot / 'base.yml'}",)


def test_no_error_holds_text_of_a_file_that_was_exchanged(project: Path, loot: Path) -> None:
    """An error about a file that was exchanged for one outside shows none of its text."""
    (loot / "base.yml").write_text("s3ntinel: [of, somebody, else]\n")
    base = project / "base.yml"
    base.write_text("env: {MINE: '1'}\n")
    with (
        at_open("base.yml", replace_by_link(base, loot / "base.yml")),
        pytest.raises(SpecError) as caught,
    ):
        written(project, "extends: ./base.yml\n")
    assert "s3ntinel" not in str(caught.value)


def test_a_base_that_is_flipped(project: Path, loot: Path) -> None:
    """Against a process that exchanges a link, what is read from outside is always named."""
    (project / "inner.yml").write_text("env: {MINE: '1'}\n")
    base = project / "base.yml"
    base.symlink_to(project / "inner.yml")
    unnamed = 0
    with flipping(base, project / "inner.yml", loot / "base.yml"):
        for _ in range(ROUNDS):
            resolved = written(project, "extends: ./base.yml\n")
            unnamed += "LOOT" in resolved.spec.env and not resolved.reaches
    assert unnamed == 0


# outputs


def test_no_folder_is_made_elsewhere(
    fast: Mooring, project: Path, loot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output's folder is made where it was granted: through a link that was put on its way, none
    is made."""
    (project / "out").mkdir()
    resolved = written(project, "outputs: [./out/deep/results]\n")
    plan = fast.sessions.plan(resolved)
    swap = replace_by_link(project / "out", loot)
    read = check.read_secrets

    def read_and_swap(*arguments: Any) -> dict[str, str]:
        swap()
        return read(*arguments)

    monkeypatch.setattr(check, "read_secrets", read_and_swap)
    with pytest.raises((TrustRequired, PolicyError)):
        fast.sessions.create(plan)
    assert sorted(path.name for path in loot.iterdir()) == ["base.yml", "token"]


def test_an_output_exchanged_while_it_is_made(fast: Mooring, project: Path, loot: Path) -> None:
    """Nor through one that was put there in the moment before the folder is made."""
    (project / "out" / "deep").mkdir(parents=True)
    resolved = written(project, "outputs: [./out/deep/results]\n")
    swap = replace_by_link(project / "out", loot)
    with at_open("deep", swap), contextlib.suppress(MooringError):
        fast.sessions.create(resolved)
    assert sorted(path.name for path in loot.iterdir()) == ["base.yml", "token"]
