"""The REST API does what its OpenAPI document says: no less, no more, and never a failure."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mooring_server_extension.routes import openapi
from tests.server.conftest import fake, serve, server
from tests.server.inprocess import API, InProcess, operations
from tests.support.requests_of import Document

__all__ = ["fake", "serve", "server"]

# Requests that stay open, or start a program of this machine
SKIPPED = {("get", API + "/stream"), ("post", API + "/sessions/{name}/terminals")}
OPERATIONS = [
    (method, path, openapi()["paths"][path][method])
    for method, path, _ in operations()
    if (method, path) not in SKIPPED
]
BODIES = [one for one in OPERATIONS if "requestBody" in one[2]]
# A kernel needs a real engine; bodies that start none are tried
WITHOUT_KERNELS = [one for one in BODIES if not one[1].endswith("/kernels")]
QUERIES = [
    (method, path, parameter)
    for method, path, operation in OPERATIONS
    for parameter in operation.get("parameters", [])
]
EXAMPLES = settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
NAME = "aa"
BODY_BYTES = st.binary(max_size=40) | st.text('{}[]":,1ae+-.\\\\ud8', max_size=40).map(str.encode)


@pytest.fixture
def door(server: InProcess, project: Path) -> Iterator[InProcess]:
    """A server with a session that runs, and a spec file."""
    (project / "session.yml").write_text("command: x\n")
    assert server.ask("POST", "/sessions", {"name": NAME})[0] == 201
    yield server
    assert server.ask("GET", "/status")[0] == 200


def sent(door: InProcess, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    """Send a request; what it made is removed again, so that the next finds the same."""
    filled = path.removeprefix(API).replace("{name}", NAME).replace("{kernel_id}", "0" * 12)
    status, reply = door.ask(method.upper(), filled, data=body)
    if method == "post" and path == API + "/sessions" and status in (201, 202):
        door.ask("DELETE", f"/sessions/{reply['name']}?force=1")
    if method == "delete" and status == 204:
        assert door.ask("POST", "/sessions", {"name": NAME})[0] == 201
    if path.endswith("/stop"):
        door.ask("POST", f"/sessions/{NAME}/start")
    return status, reply


def ids(one: tuple[str, str, Any]) -> str:
    return f"{one[0]} {one[1]} {one[2].get('name', '')}"


@pytest.mark.parametrize("operation", WITHOUT_KERNELS, ids=ids)
@EXAMPLES
@given(data=st.data())
def test_what_the_document_allows_is_accepted(
    door: InProcess, operation: tuple[str, str, Any], data: st.DataObject
) -> None:
    """A body that is as the document says is accepted; of a new session, what the values of its
    spec mean may be refused, and of any what the machine does not have; it is no bad request."""
    method, path, described = operation
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    body = data.draw(Document(openapi()).valid(schema))
    status, reply = sent(door, method, path, json.dumps(body).encode())
    explained = ("not_supported", "image_error")  # the engine has no such image
    assert status < 500 or reply["code"] in explained, (body, status, reply)
    assert status < 300 or reply["code"] != "bad_request", (body, status, reply)
    is_scarce = status >= 300 and reply["code"] == "no_capacity"
    assert status < 300 or path == API + "/sessions" or is_scarce, (body, status, reply)


@pytest.mark.parametrize("operation", BODIES, ids=ids)
@EXAMPLES
@given(data=st.data())
def test_what_the_document_does_not_allow_is_refused(
    door: InProcess, operation: tuple[str, str, Any], data: st.DataObject
) -> None:
    """A body that is not as the document says is refused, with 400 or for what it names."""
    method, path, described = operation
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    body = data.draw(Document(openapi()).invalid(schema))
    status, reply = sent(door, method, path, json.dumps(body).encode())
    assert 400 <= status < 500, (body, status, reply)


@pytest.mark.parametrize("parameter", QUERIES, ids=ids)
@EXAMPLES
@given(data=st.data())
def test_queries_are_as_the_document_says(
    door: InProcess, parameter: tuple[str, str, Any], data: st.DataObject
) -> None:
    """A query argument is accepted if its schema allows it, and refused otherwise."""
    method, path, described = parameter
    schema, document = described["schema"], Document(openapi())
    text = data.draw(
        document.valid(schema).map(str) | st.text(st.characters(codec="utf-8"), max_size=12)
    )
    value: object = text
    if schema.get("type") == "integer":
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 30 else text
    allowed = document.accepts(schema, value)
    query = urllib.parse.urlencode({described["name"]: text})
    status, reply = sent(door, method, f"{path}?{query}")
    assert status < 500, (text, reply)
    if allowed:
        assert status < 400 or reply["code"] in ("forbidden", "not_found", "session_state_error")
    else:
        assert 400 <= status < 500, (text, reply)


@EXAMPLES
@given(name=st.text(st.characters(codec="utf-8"), max_size=30), extra=BODY_BYTES)
def test_no_path_and_no_bytes_are_a_failure(door: InProcess, name: str, extra: bytes) -> None:
    """Whatever stands for a session's name, and whatever bytes are the body, the server answers."""
    quoted = urllib.parse.quote(name, safe="")
    for method, path, _ in OPERATIONS:
        if "{" in path and "/start" not in path:
            filled = path.removeprefix(API).replace("{name}", quoted).replace("{kernel_id}", quoted)
            assert door.ask(method.upper(), filled)[0] < 500
    for method, path, _ in WITHOUT_KERNELS:
        status, reply = sent(door, method, path, extra)
        assert status < 500, (extra, reply)


NO_JSON = [b"NaN", b'{"duration": NaN}', b'{"duration": Infinity}', b'{"duration": -Infinity}']


@pytest.mark.parametrize("body", [*NO_JSON, b'{"duration": "\\ud800"}', b'{"duration": 1e999}'])
def test_what_is_no_json_is_refused(door: InProcess, body: bytes) -> None:
    """Numbers that JSON does not have, and half of a character, are a bad request."""
    status, reply = door.ask("POST", f"/sessions/{NAME}/hold", data=body)
    assert (status, reply["code"]) == (400, "bad_request")


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND")


def test_other_methods_are_405_with_those_that_there_are(door: InProcess) -> None:
    """A method that the document does not have for a path answers 405, and Allow lists the others;
    whatever the method is called."""
    token = {"Authorization": f"token {door.token}"}
    for path, described in openapi()["paths"].items():
        filled = path.replace("{name}", NAME).replace("{kernel_id}", "0" * 12)
        allowed = {method.upper() for method in described if method != "parameters"}
        for method in METHODS:
            if method in allowed:
                continue
            answer = door.send(method, filled, headers=token, json={})
            assert answer.status_code == 405, (method, path, answer.status_code)
            assert set(answer.headers["Allow"].split(", ")) == allowed | {"OPTIONS"}, (method, path)
            if method != "HEAD":
                assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "image",
    [
        "a/../../containers/json",
        "../x",
        "docker://a/../../images/json",
        "a?fromSrc=x",
        "a#b",
        "a/%2e%2e/b",
        "a b",
        "a\0b",
        "a" * 10_000,
        "Python",
        "repo/Upper:tag",
        "a:b:c",
    ],
)
def test_a_malformed_image_is_a_bad_request(door: InProcess, image: str) -> None:
    """An image that is no reference is refused with 400, before the engine hears of it."""
    status, reply = door.ask("POST", "/sessions", {"values": {"image": image}})
    assert (status, reply["code"]) == (400, "spec_error")
    assert "must be host or an image" in reply["message"]
