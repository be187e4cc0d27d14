"""Bodies and query arguments: what is wrong is named, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.inprocess import InProcess


@pytest.mark.parametrize(
    ("body", "status", "code", "named"),
    [
        (b"{", 400, "bad_request", "not JSON"),
        (b"\xff\xfe", 400, "bad_request", "not JSON"),
        (b"[" * 100_000, 400, "bad_request", "not JSON"),
        (b"[1]", 400, "bad_request", "not a JSON object"),
        (b'{"nmae": "x"}', 400, "bad_request", "nmae"),
        (b'{"name": 7}', 400, "bad_request", "name"),
        (b'{"allow": "yes"}', 400, "bad_request", "allow"),
        (b'{"values": {"imagee": "host"}}', 400, "spec_error", "imagee"),
        (b'{"values": {"idle_timeout": "soon"}}', 400, "spec_error", "idle_timeout"),
        (b'{"values": {"max_duration": "8"}}', 400, "spec_error", "max_duration has no unit"),
        (b'{"values": {"max_duration": 8}}', 400, "spec_error", "max_duration has no unit"),
        (b'{"name": "../../x"}', 400, "spec_error", "name"),
        (b'{"values": {"gpus": 1024}}', 409, "no_capacity", "1024 GPUs"),
        (b'{"file": "nothing.yml"}', 404, "not_found", "nothing.yml"),
        (b'{"file": "../other.yml"}', 403, "forbidden", "outside"),
        (b'{"file": "/etc/passwd"}', 403, "forbidden", "outside"),
        (b'{"file": "a\\u0000b"}', 400, "bad_request", "not a path"),
        (b'{"name": "' + b"x" * (2 << 20) + b'"}', 400, "bad_request", "bytes"),
    ],
)
def test_a_wrong_body_is_refused_in_one_line(
    server: InProcess, body: bytes, status: int, code: str, named: str
) -> None:
    """What is wrong is named, with a status for programs, and nothing is made."""
    got, reply = server.ask("POST", "/sessions", data=body)
    assert (got, reply["code"]) == (status, code)
    assert named in reply["message"]
    assert "\n" not in reply["message"]
    assert server.ask("GET", "/sessions")[1]["sessions"] == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/sessions/aa", {}),
        ("PATCH", "/sessions/aa", {"idle": "1h"}),
        ("PATCH", "/sessions/aa", {"idle_timeout": "soon"}),
        ("PATCH", "/sessions/aa", {"idle_timeout": True}),
        ("PATCH", "/sessions/aa", {"max_duration": 3600}),
        ("POST", "/sessions/aa/hold", {"duration": "45"}),
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
    server.ask("POST", "/sessions", {"name": "aa"})
    before = server.ask("GET", "/sessions/aa")[1]
    assert server.ask(method, path, body)[0] == 400
    after = server.ask("GET", "/sessions/aa")[1]
    for key in ("state", "idle_timeout_s", "max_duration_s", "held_for_s"):
        assert after[key] == before[key]
