"""Sessions over HTTP, on the fake engine: each request does what it says, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.errors import EngineUnavailable
from mooring.host.paths import Installation
from mooring.host.users import caller
from mooring.policy import limits
from mooring.sessions.model import FIELDS
from tests.server.inprocess import InProcess
from tests.support.recordings import cell, idle, line, out, show, write

MORE = {"idle_timeout_s", "max_duration_s", "can_run_kernels", "note", "kernel_list", "notebooks"}


def create(server: InProcess, name: str = "aa", **values: Any) -> dict[str, Any]:
    status, session = server.ask("POST", "/sessions", {"name": name, "values": values})
    assert status == 201, session
    return dict(session)


def test_a_session_from_its_creation_to_its_removal(server: InProcess) -> None:
    """Create, list, get, hold, update, stop, start and remove do what their names say."""
    made = create(server, idle_timeout="30m")
    assert set(made) == set(FIELDS) | MORE
    assert (made["state"], made["idle_timeout_s"], made["max_duration_s"]) == ("running", 1800, 0)
    _, listed = server.ask("GET", "/sessions")
    assert [one["id"] for one in listed["sessions"]] == [made["id"]]
    assert listed["engine"] == {"ok": True, "message": "", "hint": ""}
    assert server.ask("GET", f"/sessions/{made['id'][:6]}")[1]["name"] == "aa"
    assert server.ask("POST", "/sessions/aa/hold", {"duration": "2h"})[0] == 200
    status, changed = server.ask(
        "PATCH", "/sessions/aa", {"idle_timeout": "off", "max_duration": "1h"}
    )
    assert (status, changed["idle_timeout_s"], changed["max_duration_s"]) == (200, 0, 3600)
    status, changed = server.ask(
        "PATCH", "/sessions/aa", {"cpus": 1.5, "memory_bytes": 2**30, "pids_limit": 200}
    )
    assert (status, changed["cpus"], changed["memory_limit_bytes"]) == (200, 1.5, 2**30)
    for wrong in ({"cpus": 0}, {"memory_bytes": "1g"}, {"pids_limit": None}, {"pids_limit": 1.5}):
        assert server.ask("PATCH", "/sessions/aa", wrong)[0] == 400
    assert server.ask("POST", "/sessions/aa/stop")[1]["state"] == "stopped"
    assert server.ask("POST", "/sessions/aa/start")[1]["state"] == "running"
    assert server.ask("DELETE", "/sessions/aa")[0] == 409
    assert server.ask("DELETE", "/sessions/aa?force=1") == (204, None)
    assert server.ask("GET", "/sessions")[1]["sessions"] == []
    assert server.ask("GET", "/sessions/aa")[0] == 404


def test_the_history_names_who_asked(server: InProcess) -> None:
    """With a token alone that is the server's owner; events can be asked for from a number on."""
    create(server)
    server.ask("POST", "/sessions/aa/stop")
    server.ask("DELETE", "/sessions/aa")
    _, reply = server.ask("GET", "/sessions/aa/events")
    kinds = [event["kind"] for event in reply["events"]]
    assert kinds == ["requested", "started", "stopped", "removed"]
    assert {event["actor"] for event in reply["events"]} == {caller().name}
    last = reply["events"][-2]["number"]
    _, rest = server.ask("GET", f"/sessions/aa/events?after={last}")
    assert [event["kind"] for event in rest["events"]] == ["removed"]


def test_ended_sessions_are_listed_when_asked_for(server: InProcess) -> None:
    """?ended=1 adds those that are gone, once each, and no other query does."""
    made = create(server)
    server.ask("DELETE", "/sessions/aa?force=1")
    create(server, "bb")
    server.ask("POST", "/sessions/bb/stop")
    assert [s["name"] for s in server.ask("GET", "/sessions")[1]["sessions"]] == ["bb"]
    _, reply = server.ask("GET", "/sessions?ended=1")
    assert [(s["name"], s["state"]) for s in reply["sessions"]] == [
        ("bb", "stopped"),
        ("aa", "gone"),
    ]
    assert reply["sessions"][1]["id"] == made["id"]


def test_a_spec_file_of_the_root_is_used(server: InProcess, project: Path) -> None:
    """Values win over the file, the name over both; paths in it start from the file's folder."""
    (project / "sub").mkdir()
    (project / "sub" / "train.yml").write_text("name: a\nidle_timeout: 5m\nmax_duration: 1h\n")
    status, made = server.ask(
        "POST",
        "/sessions",
        {"file": "sub/train.yml", "values": {"idle_timeout": "10m"}, "name": "cc"},
    )
    assert status == 201
    assert (made["name"], made["idle_timeout_s"], made["max_duration_s"]) == ("cc", 600, 3600)


def test_consent_is_asked_for_and_given(server: InProcess, project: Path, tmp_path: Path) -> None:
    """A file that reaches beyond its folder is refused with what it asks for, until allowed."""
    (tmp_path / "other").mkdir()
    (project / "s.yml").write_text(f"inputs: [{tmp_path}/other]\n")
    status, reply = server.ask("POST", "/sessions", {"file": "s.yml"})
    assert (status, reply["code"]) == (409, "consent_required")
    assert len(reply["grants"]) == 1
    assert f"{tmp_path}/other" in reply["grants"][0]
    assert server.ask("GET", "/sessions")[1]["sessions"] == []
    assert server.ask("POST", "/sessions", {"file": "s.yml", "allow": True})[0] == 201
    assert server.ask("POST", "/sessions", {"file": "s.yml"})[0] == 201  # it is remembered


@pytest.mark.parametrize("change", ["the file", "a link", "the folder", "nothing"])
def test_consent_is_to_what_was_shown(
    server: InProcess, project: Path, tmp_path: Path, change: str
) -> None:
    """Consent with the digest of a refusal holds for the file, the paths and the folder that the
    refusal was about: where one has changed meanwhile, the person is asked again."""
    for name in ("other", "another"):
        (tmp_path / name).mkdir()
    folder = project / "of"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "other")
    (folder / "s.yml").write_text("inputs: [./link]\n")
    refused = server.ask("POST", "/sessions", {"file": "of/s.yml"})[1]
    if change == "the file":
        (folder / "s.yml").write_text("inputs: [./link]\nhome: true\n")
    elif change == "a link":
        (folder / "link").unlink()
        (folder / "link").symlink_to(tmp_path / "another")
    elif change == "the folder":
        shutil.copytree(folder, project / "copy", symlinks=True)
        folder.rename(project / "aside")
        (project / "copy").rename(folder)
    body = {"file": "of/s.yml", "allow": refused["digest"]}
    status, reply = server.ask("POST", "/sessions", body)
    if change == "nothing":
        assert status == 201
        return
    assert (status, reply["code"]) == (409, "consent_required")
    assert reply["digest"] != refused["digest"]
    assert server.ask("POST", "/sessions", body | {"allow": reply["digest"]})[0] == 201


@pytest.mark.parametrize(
    "name",
    ["*", "a*", "%3Fa", "[a]a", "..%2f..%2fetc", "%00", "a%0ab", "%3Cscript%3E", "-", "x" * 5000],
)
def test_a_hostile_name_is_just_not_found(server: InProcess, name: str) -> None:
    """No pattern, no path and no control character stands for a session."""
    create(server)
    for method, path in (
        ("GET", ""),
        ("DELETE", "?force=1"),
        ("POST", "/stop"),
        ("GET", "/events"),
        ("GET", "/logs"),
    ):
        status, reply = server.ask(method, f"/sessions/{name}{path}")
        assert (status, reply["code"]) == (404, "session_not_found"), reply
        assert reply["message"].isprintable()
    assert server.ask("GET", "/sessions/aa")[1]["state"] == "running"


def test_the_name_is_taken(server: InProcess) -> None:
    """A second session of that name is refused with 409."""
    create(server)
    status, reply = server.ask("POST", "/sessions", {"name": "aa"})
    assert (status, reply["code"]) == (409, "session_exists")


def test_logs_are_the_last_lines(server: InProcess, fake: FakeEngine) -> None:
    """The text is the main process's, whatever bytes it consists of."""
    create(server, command="bash")
    (container,) = fake.containers.values()
    container.main.write(b"one\ntwo\n<b>\xff\x1b[31m\n")
    status, reply = server.ask("GET", "/sessions/aa/logs?tail=2")
    assert (status, reply["text"]) == (200, "two\n<b>\ufffd\x1b[31m\n")


def test_logs_of_a_session_for_kernels(server: InProcess, fake: FakeEngine) -> None:
    """A session without a main process has what its kernels printed, in lines, without colours."""
    create(server, kernel="python3")
    assert server.ask("GET", "/sessions/aa/logs")[1]["text"] == ""
    (folder,) = Installation.here().sessions.iterdir()
    (folder / "run" / "k" / "a").mkdir()
    raised = line("error", "m1", ename="E", evalue="v", traceback=["\33[31mE\33[0m: v"])
    write(folder / "run", cell(), out("one\ntwo"), show("shown"), raised, idle())
    text = "one\ntwo\nshown\nE: v\n"
    assert server.ask("GET", "/sessions/aa/logs")[1]["text"] == text
    assert server.ask("GET", "/sessions/aa/logs?tail=1")[1]["text"] == "E: v\n"


def test_an_engine_that_does_not_answer_is_said_so(server: InProcess, fake: FakeEngine) -> None:
    """Sessions are then unknown, never gone; what needs the engine answers 503."""
    create(server)
    works_again = fake.fail("*", EngineUnavailable("no engine answers", "start it"), times=-1)
    status, reply = server.ask("GET", "/sessions")
    assert status == 200
    assert reply["engine"] == {"ok": False, "message": "no engine answers", "hint": "start it"}
    assert [one["state"] for one in reply["sessions"]] == ["unknown"]
    assert server.ask("GET", "/status")[1]["engine"]["ok"] is False
    status, reply = server.ask("POST", "/sessions/aa/stop")
    assert (status, reply["code"]) == (503, "engine_unavailable")
    works_again()
    assert server.ask("GET", "/sessions/aa")[1]["state"] == "running"


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
    status, reply = server.ask("POST", "/sessions", {"name": "a", "values": {}})
    assert (status, reply["code"]) == (403, "policy_error")
    assert reply["message"].endswith(f"max_duration in {file}:1")
    assert "ask the administrator" in reply["hint"]
    assert not fake.containers
    status, reply = server.ask("POST", "/sessions", {"name": "a", "values": {"max_duration": "1h"}})
    assert status == 201, reply
    status, reply = server.ask("PATCH", "/sessions/a", {"max_duration": "3h"})
    assert (status, reply["code"]) == (403, "policy_error")
    assert server.ask("PATCH", "/sessions/a", {"max_duration": "2h"})[0] == 200
