"""The administrator's policy through the REST API."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mooring.engines.fake import FakeEngine
from mooring.policy import limits
from tests.server.inprocess import InProcess


def test_the_api_obeys_the_policy(
    server: InProcess, fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Creating and lengthening a session beyond the policy is refused with its key and line."""
    file = tmp_path / "etc" / "policy.yml"
    file.parent.mkdir(mode=0o755)
    file.write_text("max_duration: 2h\n")
    file.chmod(0o644)
    monkeypatch.setattr(limits, "POLICY_FILE", file)
    monkeypatch.setattr(limits, "OWNER", os.getuid())
    status, said = server.ask("POST", "/sessions", {"name": "a", "values": {}})
    assert (status, said["code"]) == (403, "policy_error")
    assert said["message"].endswith(f"max_duration in {file}:1")
    assert "ask the administrator" in said["hint"]
    assert not fake.containers
    status, said = server.ask("POST", "/sessions", {"name": "a", "values": {"max_duration": "1h"}})
    assert status == 201, said
    status, said = server.ask("PATCH", "/sessions/a", {"max_duration": "3h"})
    assert (status, said["code"]) == (403, "policy_error")
    assert server.ask("PATCH", "/sessions/a", {"max_duration": "2h"})[0] == 200


def test_presets_may_build_on_profiles(server: InProcess, state: Path, project: Path) -> None:
    """A preset that extends a profile or another file shows the values of both."""
    folder = state / "config" / "mooring" / "profiles"
    folder.mkdir(parents=True)
    (folder / "small.yml").write_text("memory: 1GiB\n")
    (project / "base.yml").write_text("extends: small\ncpus: 2\n")
    (project / "session.yml").write_text("extends: ./base.yml\nname: mine\n")
    specs = {one["path"]: one for one in server.ask("GET", "/specs")[1]["specs"]}
    assert specs["session.yml"]["spec"] == {"name": "mine", "memory": 1 << 30, "cpus": 2.0}
    assert specs["session.yml"]["problem"] == ""
