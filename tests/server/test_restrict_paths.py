"""A server that is meant to be closed: sessions see nothing of the user's outside its root."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from tests.server.conftest import Serve
from tests.server.inprocess import InProcess
from tests.support.exchange import replace_by_link

CLOSED = {"MooringExtension": {"restrict_paths": True}}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "token").write_text("theirs")
    (folder / "base.yml").write_text("env: {A: b}\n")
    return folder


@pytest.fixture
def closed(serve: Serve, project: Path, outside: Path) -> InProcess:
    """A closed server, with a link in its root that leads out of it."""
    (project / "link").symlink_to(outside)
    (project / "data").mkdir()
    (project / "key").write_text("ours")
    return serve(**CLOSED)


REACHES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "an input": lambda outside: {"inputs": [str(outside)]},
    "an input by dots": lambda outside: {"inputs": ["../outside"]},
    "an input by a link": lambda outside: {"inputs": ["link"]},
    "an output": lambda outside: {"outputs": [str(outside / "new")]},
    "the home": lambda outside: {"home": True},
    "a secret's file": lambda outside: {"secrets": {"A": {"file": str(outside / "token")}}},
    "a secret's file by a link": lambda outside: {"secrets": {"A": {"file": "link/token"}}},
    "a secret's variable": lambda outside: {"secrets": {"A": {"env": "PATH"}}},
}


@pytest.mark.parametrize("how", REACHES)
@pytest.mark.parametrize("in_a_file", [False, True])
def test_nothing_outside_the_root(
    closed: InProcess, fake: FakeEngine, project: Path, outside: Path, how: str, in_a_file: bool
) -> None:
    """Values and spec files alike may name nothing outside, and trust does not help."""
    values = REACHES[how](outside)
    body: dict[str, Any] = {"values": values}
    if in_a_file:
        (project / "session.yml").write_text(json.dumps(values))
        body = {"file": "session.yml", "allow": True}
    status, reply = closed.ask("POST", "/sessions", body)
    assert (status, reply["code"]) == (403, "policy_error"), reply
    assert "theirs" not in json.dumps(reply)
    assert not fake.containers
    assert not (outside / "new").exists()


def test_what_a_file_extends(closed: InProcess, project: Path, outside: Path) -> None:
    """Nor does a spec file extend one outside, also by a link, with trust or without."""
    for text in (f"extends: {outside}/base.yml\n", "extends: ./link/base.yml\n"):
        (project / "session.yml").write_text(text)
        status, reply = closed.ask("POST", "/sessions", {"file": "session.yml", "allow": True})
        assert (status, reply["code"]) == (403, "policy_error")


def test_what_lies_in_the_root_is_free(closed: InProcess, project: Path) -> None:
    """Folders, files and secrets below the root are used as ever."""
    values = {"inputs": ["data"], "outputs": ["out"], "secrets": {"A": {"file": "key"}}}
    assert closed.ask("POST", "/sessions", {"values": values})[0] == 201
    assert (project / "out").is_dir()


def test_a_link_that_is_put_there_late(
    closed: InProcess, fake: FakeEngine, project: Path, outside: Path, monkeypatch: Any
) -> None:
    """A folder that becomes a link out of the root after the request was judged is refused when
    the session is made."""
    from mooring.launch import check

    read = check.read_secrets

    def read_and_swap(*arguments: Any) -> dict[str, str]:
        replace_by_link(project / "data", outside)()
        return read(*arguments)

    monkeypatch.setattr(check, "read_secrets", read_and_swap)
    status, reply = closed.ask("POST", "/sessions", {"values": {"inputs": ["data"]}})
    assert (status, reply["code"]) == (403, "policy_error")
    assert not fake.containers


def test_a_server_is_open_by_default(server: InProcess, outside: Path) -> None:
    """Without the setting, values may name what the command line may."""
    values = {"inputs": [str(outside)], "home": True}
    assert server.ask("POST", "/sessions", {"values": values})[0] == 201
