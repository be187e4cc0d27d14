"""mooring code: VS Code's window in a session's container."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.labels import container_name
from tests.conftest import Cli
from tests.support.kernel_clients import only_session

pytestmark = pytest.mark.engine


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named code, first in the PATH, that writes down how it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "code").write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" >"${0%/*}/called"\nexit "${CODE_EXIT:-0}"\n'
    )
    (folder / "code").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder / "called"


def said(address: str) -> tuple[dict[str, object], str]:
    """What an address names: the container, and the path in it."""
    rest = address.removeprefix("vscode-remote://attached-container+")
    authority, slash, path = rest.partition("/")
    return json.loads(bytes.fromhex(authority)), slash + path


def test_the_window_opens_in_the_project(
    cli: Cli, mooring: Mooring, project: Path, editor: Path
) -> None:
    """The address is printed and opened; it names this container, and the project's folder."""
    cli("create", "-d", "--name", "box", check=0)
    address = cli("code", "box", check=0).stdout.strip()
    assert editor.read_text().splitlines() == ["--folder-uri", address]
    what, path = said(address)
    session = only_session(mooring)
    assert what == {"containerName": f"/{container_name('box', session.id)}"}
    detail = mooring.engine.inspect(str(what["containerName"])[1:])
    assert detail is not None
    assert path == str(project)
    cli("exec", "box", "--", "test", "-d", path, check=0)


def test_another_folder_and_only_printed(cli: Cli, mooring: Mooring, editor: Path) -> None:
    """--print opens nothing; --folder is a path in the session, whatever its letters."""
    cli("create", "-d", "--name", "box", check=0)
    address = cli("code", "box", "--print", "--folder", "/tmp/a b#ü", check=0).stdout.strip()
    assert said(address)[1] == "/tmp/a%20b%23%C3%BC"
    assert not editor.exists()
    refused = cli("code", "box", "--folder", "here", check=2)
    assert "must be an absolute path" in refused.stderr


def test_an_engine_elsewhere_is_named(
    cli: Cli, mooring: Mooring, editor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VS Code looks at its own engine: the one of DOCKER_HOST is in the address."""
    cli("create", "-d", "--name", "box", check=0)
    link = editor.with_name("docker.sock")
    link.symlink_to("/var/run/docker.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{link}")
    what, _ = said(cli("code", "box", "--print", check=0).stdout.strip())
    assert what["settings"] == {"host": f"unix://{link}"}


def test_without_an_editor(
    cli: Cli, mooring: Mooring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a program named code the address is all there is, and a line says what to type."""
    cli("create", "-d", "--name", "box", check=0)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = cli("code", "box", check=0)
    assert done.stdout.startswith("vscode-remote://attached-container+")
    assert "code --folder-uri" in done.stderr


def test_an_editor_that_fails(
    cli: Cli, mooring: Mooring, editor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What VS Code's program refuses is an error, with what is needed for it."""
    cli("create", "-d", "--name", "box", check=0)
    monkeypatch.setenv("CODE_EXIT", "3")
    failed = cli("code", "box", check=1)
    assert "exit code 3" in failed.stderr
    assert "Dev Containers" in failed.stderr


def test_a_session_that_does_not_run(cli: Cli, mooring: Mooring, editor: Path) -> None:
    """One that is stopped, or that there is none of, is an error, and nothing is opened."""
    cli("create", "-d", "--name", "box", check=0)
    cli("stop", "box", check=0)
    assert "is stopped" in cli("code", "box", check=1).stderr
    assert "no session named nobody" in cli("code", "nobody", check=1).stderr
    assert not editor.exists()
