"""Every door of the REST API is shut to whoever may not: taken from the routes themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from jupyter_server.auth.authorizer import Authorizer

from mooring import FakeEngine
from tests.server.conftest import Serve, fake, serve, server
from tests.server.inprocess import API, InProcess, operations

__all__ = ["fake", "serve", "server"]

OPERATIONS = [(method.upper(), path) for method, path, _ in operations()]
WRITES = [(method, path) for method, path in OPERATIONS if method != "GET"]
# The last step of a path, and the resource that its authorizer is asked for; else sessions
KINDS = {
    "gpus": "gpus",
    "logs": "logs",
    "terminals": "terminals",
    "kernels": "kernels",
    "recording": "kernels",
    "specs": "specs",
    "schema": "specs",
    "openapi.json": "specs",
}
SENTINEL = "s3ntinel-of-the-planted-secret"


def filled(path: str) -> str:
    """A path of a session that there is."""
    return path.replace("{name}", "aa").replace("{kernel_id}", "0" * 12)


@pytest.fixture
def door(server: InProcess, fake: FakeEngine) -> Iterator[InProcess]:
    """A server with one session, which must be as it was when the test is over."""
    assert (
        server.ask("POST", "/sessions", {"name": "aa", "values": {"idle_timeout": "30m"}})[0] == 201
    )
    before = _still(server)
    containers = set(fake.containers)
    yield server
    assert _still(server) == before
    assert set(fake.containers) == containers


def _still(server: InProcess) -> Any:
    _, said = server.ask("GET", "/sessions")
    _, events = server.ask("GET", "/sessions/aa/events")
    keys = ("id", "state", "idle_timeout_s", "max_duration_s")
    terminals = server.app.web_app.settings["terminal_manager"].terminals
    return (
        [[one[key] for key in keys] for one in said["sessions"]],
        events,
        list(terminals),
        server.app.kernel_manager.list_kernel_ids(),
    )


def signed_in(server: InProcess) -> Any:
    """The cookies of a browser that is signed in, its XSRF token among them."""
    session = requests.Session()
    session.get(f"{server.url}/login?token={server.token}", timeout=30)
    session.get(f"{server.url}/login", timeout=30)
    jar = session.cookies
    session.close()
    assert any(name.startswith("username-") for name in jar.keys())  # noqa: SIM118
    return jar


def refused(answer: requests.Response) -> None:
    assert answer.status_code in (401, 403), (answer.status_code, answer.text)
    said = answer.json()
    assert set(said) == {"code", "message", "hint"}
    assert said["code"] == "forbidden"


def test_every_route_is_tried() -> None:
    """The list comes from the routes, and is not empty."""
    assert len(OPERATIONS) >= 18
    assert len(WRITES) >= 8


def test_no_token_no_entry(door: InProcess) -> None:
    """Without a token, or with a wrong one, every method of every path is refused."""
    for method, path in OPERATIONS:
        refused(door.send(method, filled(path), json={}))
        wrong = {"Authorization": f"token {door.token[:-1]}"}
        refused(door.send(method, filled(path), json={}, headers=wrong))
        refused(door.send(method, filled(path) + "?token=x", json={}))
    refused(door.send("GET", API + "/nothing"))


def test_a_cookie_writes_nothing_without_the_xsrf_token(door: InProcess) -> None:
    """A form of another site sends the cookie, and cannot send the token."""
    jar = signed_in(door)
    assert door.send("GET", API + "/sessions", cookies=jar).status_code == 200
    for method, path in WRITES:
        refused(door.send(method, filled(path), json={}, cookies=jar))
        wrong = {"X-XSRFToken": "2|00000000|00000000000000000000000000000000|1"}
        refused(door.send(method, filled(path), json={}, cookies=jar, headers=wrong))


def test_a_cookie_with_the_xsrf_token_writes(serve: Serve) -> None:
    """The refusals above are of what is missing, not of cookies."""
    server = serve()
    jar = signed_in(server)
    answer = server.send(
        "POST",
        API + "/sessions",
        json={"name": "aa"},
        cookies=jar,
        headers={"X-XSRFToken": jar["_xsrf"]},
    )
    assert answer.status_code == 201


def test_a_page_of_another_origin_is_refused(door: InProcess) -> None:
    """With a cookie and the XSRF token, and with the server's own token too."""
    jar = signed_in(door)
    for method, path in OPERATIONS:
        for origin in ("http://evil.example", f"http://127.0.0.1:{door.port + 1}", "null"):
            headers = {"Origin": origin}
            cookie = {"X-XSRFToken": jar["_xsrf"]}
            refused(door.send(method, filled(path), json={}, cookies=jar, headers=headers | cookie))
            token = {"Authorization": f"token {door.token}"}
            refused(door.send(method, filled(path), json={}, headers=headers | token))


def test_an_origin_that_is_allowed_may(serve: Serve) -> None:
    """c.ServerApp.allow_origin opens the API as it opens Jupyter's own."""
    server = serve(ServerApp={"allow_origin": "http://friend.example"})
    headers = {"Origin": "http://friend.example"}
    assert server.ask("GET", "/sessions", headers=headers)[0] == 200
    assert server.ask("GET", "/sessions", headers={"Origin": "http://evil.example"})[0] == 403


def test_another_host_is_refused(door: InProcess) -> None:
    """A name that was made to lead here (DNS rebinding) opens nothing, token or not."""
    for method, path in OPERATIONS:
        for token in ({}, {"Authorization": f"token {door.token}"}):
            headers = {"Host": f"evil.example:{door.port}"} | token
            refused(door.send(method, filled(path), json={}, headers=headers))


class Recorder(Authorizer):
    """Denies everything, and remembers what it was asked."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012 - the server makes the object

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        self.asked.append((action, resource))
        return not resource.startswith("mooring")


def test_the_authorizer_is_asked_and_obeyed(serve: Serve, fake: FakeEngine) -> None:
    """Every method of every path asks for a resource of mooring's, and a no is a no."""
    server = serve(ServerApp={"authorizer_class": Recorder})
    for method, path in OPERATIONS:
        Recorder.asked.clear()
        status, said = server.ask(method, filled(path).removeprefix(API), {})
        assert (status, said["code"]) == (403, "forbidden"), path
        ((action, resource),) = Recorder.asked
        assert action == ("read" if method == "GET" else "write")
        assert resource == f"mooring:{KINDS.get(path.rpartition('/')[2], 'sessions')}", path
    assert not fake.containers


def test_no_answer_holds_a_secret(
    serve: Serve, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret's value is in no answer, no stream, no metric and no error."""
    monkeypatch.setenv("PLANTED", SENTINEL)
    (project / "key.txt").write_text(SENTINEL)
    (project / "session.yml").write_text(
        "name: aa\nsecrets: {A: {env: PLANTED}, B: {file: key.txt}}\n"
    )
    server = serve()
    texts = []
    status, said = server.ask("POST", "/sessions", {"file": "session.yml", "allow": True})
    assert status == 201
    texts.append(json.dumps(said))
    for method, path in OPERATIONS:
        if method == "GET" and path != API + "/stream":
            texts.append(json.dumps(server.ask(method, filled(path).removeprefix(API))[1]))
    token = {"Authorization": f"token {server.token}"}
    texts.append(server.send("GET", "/metrics", headers=token).text)
    with requests.get(
        server.url + API + "/stream", headers=token, stream=True, timeout=30
    ) as stream:
        texts.append(str(next(line for line in stream.iter_lines() if line.startswith(b"data"))))
    (project / "key.txt").unlink()
    texts.append(json.dumps(server.ask("POST", "/sessions", {"file": "session.yml", "name": "b"})))
    server.ask("DELETE", "/sessions/aa?force=1")
    texts.append(json.dumps(server.ask("GET", "/sessions?ended=1")))
    assert len(texts) > 12
    for text in texts:
        assert SENTINEL not in text


def test_a_get_changes_nothing(door: InProcess) -> None:
    """Every path that answers to GET, asked in every odd way, leaves all as it was."""
    for method, path in OPERATIONS:
        if method == "GET" and path != API + "/stream":
            for query in ("", "?force=1", "?allow=1", "?_method=DELETE"):
                door.ask("GET", filled(path).removeprefix(API) + query)
    override = {"X-HTTP-Method-Override": "DELETE"}
    door.ask("GET", "/sessions/aa?force=1", headers=override)
    for _, path in WRITES:  # and what only writes does not answer to GET with anything else
        answer = door.send("GET", filled(path), headers={"Authorization": f"token {door.token}"})
        assert answer.status_code in (200, 405)


def test_a_sessions_terminal_is_no_open_socket(door: InProcess) -> None:
    """A terminal's websocket is Jupyter's: without a token, or from another origin, it is shut."""
    manager = door.app.web_app.settings["terminal_manager"]
    model = door.on_loop(lambda: manager.create(shell_command=["/bin/cat"]))
    url = door.url.replace("http", "ws") + f"/terminals/websocket/{model['name']}"
    jar = signed_in(door)
    cookie = "; ".join(f"{one.name}={one.value}" for one in jar)
    try:
        for options in (
            {},
            {"origin": "http://evil.example", "cookie": cookie},
            {"host": f"evil.example:{door.port}", "cookie": cookie},
        ):
            with pytest.raises(websocket.WebSocketBadStatusException) as shut:
                websocket.create_connection(url, timeout=10, **options)
            assert shut.value.status_code in (401, 403)
        opened = websocket.create_connection(url, timeout=10, cookie=cookie, origin=door.url)
        opened.close()
    finally:
        door.on_loop(lambda: manager.terminate(model["name"], force=True))
