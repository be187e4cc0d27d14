"""Sessions over HTTP, on the fake engine: each request does what it says, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mooring.engines.fake import FakeEngine
from mooring.errors import EngineUnavailable
from mooring.host.users import caller
from mooring.sessions.model import FIELDS
from tests.server.inprocess import API, InProcess

MORE = {"idle_timeout_s", "max_duration_s", "can_run_kernels", "kernel_list", "notebooks"}


def create(server: InProcess, name: str = "aa", **values: Any) -> dict[str, Any]:
    status, session = server.ask("POST", "/sessions", {"name": name, "values": values})
    assert status == 201, session
    found: dict[str, Any] = session
    return found


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
        "PATCH", "/sessions/aa", {"idle_timeout": "off", "max_duration": 3600}
    )
    assert (status, changed["idle_timeout_s"], changed["max_duration_s"]) == (200, 0, 3600)
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
    _, said = server.ask("GET", "/sessions/aa/events")
    kinds = [event["kind"] for event in said["events"]]
    assert kinds == ["requested", "started", "stopped", "removed"]
    assert {event["actor"] for event in said["events"]} == {caller().name}
    last = said["events"][-2]["number"]
    _, rest = server.ask("GET", f"/sessions/aa/events?after={last}")
    assert [event["kind"] for event in rest["events"]] == ["removed"]


def test_ended_sessions_are_listed_when_asked_for(server: InProcess) -> None:
    """?ended=1 adds those that are gone, once each, and no other query does."""
    made = create(server)
    server.ask("DELETE", "/sessions/aa?force=1")
    create(server, "bb")
    server.ask("POST", "/sessions/bb/stop")
    assert [s["name"] for s in server.ask("GET", "/sessions")[1]["sessions"]] == ["bb"]
    _, said = server.ask("GET", "/sessions?ended=1")
    assert [(s["name"], s["state"]) for s in said["sessions"]] == [
        ("bb", "stopped"),
        ("aa", "gone"),
    ]
    assert said["sessions"][1]["id"] == made["id"]


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
    status, said = server.ask("POST", "/sessions", {"file": "s.yml"})
    assert (status, said["code"]) == (409, "consent_required")
    assert len(said["grants"]) == 1
    assert f"{tmp_path}/other" in said["grants"][0]
    assert server.ask("GET", "/sessions")[1]["sessions"] == []
    assert server.ask("POST", "/sessions", {"file": "s.yml", "allow": True})[0] == 201
    assert server.ask("POST", "/sessions", {"file": "s.yml"})[0] == 201  # it is remembered


@pytest.mark.parametrize(
    ("body", "status", "code", "named"),
    [
        (b"{", 400, "bad_request", "no JSON"),
        (b"\xff\xfe", 400, "bad_request", "no JSON"),
        (b"[" * 100_000, 400, "bad_request", "no JSON"),
        (b"[1]", 400, "bad_request", "no JSON object"),
        (b'{"nmae": "x"}', 400, "bad_request", "nmae"),
        (b'{"name": 7}', 400, "bad_request", "name"),
        (b'{"allow": "yes"}', 400, "bad_request", "allow"),
        (b'{"values": {"imagee": "host"}}', 400, "spec_error", "imagee"),
        (b'{"values": {"idle_timeout": "soon"}}', 400, "spec_error", "idle_timeout"),
        (b'{"name": "../../x"}', 400, "spec_error", "name"),
        (b'{"values": {"gpus": 1024}}', 409, "no_capacity", "1024 GPUs"),
        (b'{"file": "nothing.yml"}', 400, "spec_error", "nothing.yml"),
        (b'{"file": "../other.yml"}', 403, "forbidden", "outside"),
        (b'{"file": "/etc/passwd"}', 403, "forbidden", "outside"),
        (b'{"file": "a\\u0000b"}', 400, "bad_request", "no path"),
        (b'{"name": "' + b"x" * (2 << 20) + b'"}', 400, "bad_request", "bytes"),
    ],
)
def test_a_wrong_body_is_refused_in_one_line(
    server: InProcess, body: bytes, status: int, code: str, named: str
) -> None:
    """What is wrong is named, with a status for programs, and nothing is made."""
    got, said = server.ask("POST", "/sessions", data=body)
    assert (got, said["code"]) == (status, code)
    assert named in said["message"]
    assert "\n" not in said["message"]
    assert server.ask("GET", "/sessions")[1]["sessions"] == []


def test_a_link_out_of_the_root_is_not_followed(
    server: InProcess, project: Path, tmp_path: Path
) -> None:
    """A path counts by where it leads: a link to a file outside is outside."""
    (tmp_path / "secret.yml").write_text("name: s\n")
    (project / "in.yml").symlink_to(tmp_path / "secret.yml")
    (project / "folder").symlink_to(tmp_path)
    for file in ("in.yml", "folder/secret.yml"):
        assert server.ask("POST", "/sessions", {"file": file})[0] == 403
    assert server.ask("GET", "/specs?path=folder")[0] == 403
    assert server.ask("GET", "/specs") == (200, {"specs": []})


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
        status, said = server.ask(method, f"/sessions/{name}{path}")
        assert (status, said["code"]) == (404, "session_not_found"), said
        assert said["message"].isprintable()
    assert server.ask("GET", "/sessions/aa")[1]["state"] == "running"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/sessions/aa", {}),
        ("PATCH", "/sessions/aa", {"idle": "1h"}),
        ("PATCH", "/sessions/aa", {"idle_timeout": "soon"}),
        ("PATCH", "/sessions/aa", {"idle_timeout": True}),
        ("POST", "/sessions/aa/hold", {}),
        ("POST", "/sessions/aa/hold", {"duration": "-1h"}),
        ("POST", "/sessions/aa/hold", {"duration": [1]}),
        ("POST", "/sessions/aa/stop", {"grace": 1}),
        ("POST", "/sessions/aa/kernels", {"path": 1}),
        ("DELETE", "/sessions/aa?force=yes", None),
        ("GET", "/sessions/aa/logs?tail=0", None),
        ("GET", "/sessions/aa/logs?tail=1e9", None),
        ("GET", "/sessions/aa/events?after=-1", None),
        ("GET", "/sessions?ended=maybe", None),
    ],
)
def test_a_wrong_request_changes_nothing(
    server: InProcess, method: str, path: str, body: Any
) -> None:
    """It is answered with 400, and the session is as it was."""
    before = create(server)
    assert server.ask(method, path, body)[0] == 400
    after = server.ask("GET", "/sessions/aa")[1]
    for key in ("state", "idle_timeout_s", "max_duration_s", "held_for_s"):
        assert after[key] == before[key]


def test_the_name_is_taken(server: InProcess) -> None:
    """A second session of that name is refused with 409."""
    create(server)
    status, said = server.ask("POST", "/sessions", {"name": "aa"})
    assert (status, said["code"]) == (409, "session_exists")


def test_logs_are_the_last_lines(server: InProcess, fake: FakeEngine) -> None:
    """The text is the main process's, whatever bytes it consists of."""
    create(server, command="bash")
    (container,) = fake.containers.values()
    container.main.write(b"one\ntwo\n<b>\xff\x1b[31m\n")
    status, said = server.ask("GET", "/sessions/aa/logs?tail=2")
    assert (status, said["text"]) == (200, "two\n<b>\ufffd\x1b[31m\n")


def test_an_engine_that_does_not_answer_is_said_so(server: InProcess, fake: FakeEngine) -> None:
    """Sessions are then unknown, never gone; what needs the engine answers 503."""
    create(server)
    works_again = fake.fail("*", EngineUnavailable("no engine answers", "start it"), times=-1)
    status, said = server.ask("GET", "/sessions")
    assert status == 200
    assert said["engine"] == {"ok": False, "message": "no engine answers", "hint": "start it"}
    assert [one["state"] for one in said["sessions"]] == ["unknown"]
    assert server.ask("GET", "/status")[1]["engine"]["ok"] is False
    status, said = server.ask("POST", "/sessions/aa/stop")
    assert (status, said["code"]) == (503, "engine_unavailable")
    works_again()
    assert server.ask("GET", "/sessions/aa")[1]["state"] == "running"


def test_a_failure_that_nobody_foresaw_tells_nothing(
    server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception is 500, and none of its text reaches the client."""
    monkeypatch.setattr(
        "mooring.service.Mooring.get", lambda *_: (_ for _ in ()).throw(ValueError("s3cret"))
    )
    status, said = server.ask("GET", "/sessions/aa")
    assert (status, said["code"]) == (500, "internal_error")
    assert "s3cret" not in json.dumps(said)


def test_a_path_that_is_none_is_said_in_the_apis_words(server: InProcess) -> None:
    """Every path below the API's answers in JSON."""
    for method in ("GET", "POST", "DELETE"):
        status, said = server.ask(method, "/nothing/here")
        assert (status, said["code"]) == (404, "not_found")
    answer = server.send("PUT", API + "/status", headers={"Authorization": f"token {server.token}"})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
