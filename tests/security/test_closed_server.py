"""The configuration of a closed server, as the docs have it, closes what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import websocket
from traitlets.config import Config

from mooring import FakeEngine
from tests.server.conftest import Serve, fake, serve
from tests.server.inprocess import InProcess

__all__ = ["fake", "serve"]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "closed-server.md"


@pytest.fixture
def documented() -> dict[str, Any]:
    """The page's configuration, with the test's root in the place of the page's."""
    (text,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    config = Config()
    exec(text, {"c": config})  # noqa: S102 - as Jupyter does with such a file
    del config.ServerApp["root_dir"]
    return {name: dict(section) for name, section in config.items()}


@pytest.fixture
def closed(serve: Serve, documented: dict[str, Any], state: Path) -> InProcess:
    """A server with it, and a kernelspec of the machine's in the user's folder."""
    folder = state / "data" / "kernels" / "mine"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(
        json.dumps({"argv": ["touch", "{connection_file}"], "display_name": "x", "language": "x"})
    )
    return serve(**documented)


def ask(server: InProcess, method: str, path: str, **options: Any) -> tuple[int, Any]:
    """A request of Jupyter's own API."""
    token = {"Authorization": f"token {server.token}"}
    answer = server.send(method, path, headers=token, **options)
    return answer.status_code, answer


def test_there_are_no_terminals(closed: InProcess) -> None:
    """No terminal is listed, opened, or reached by its websocket; in a session neither."""
    for method in ("GET", "POST"):
        assert ask(closed, method, "/api/terminals")[0] == 404
    url = closed.url.replace("http", "ws", 1) + "/terminals/websocket/1"
    with pytest.raises(websocket.WebSocketBadStatusException):
        websocket.create_connection(
            url, header=[f"Authorization: token {closed.token}"], timeout=10
        )
    assert closed.ask("POST", "/sessions", {"name": "aa"})[0] == 201
    status, reply = closed.ask("POST", "/sessions/aa/terminals")
    assert (status, reply["code"]) == (501, "not_supported")


def test_kernels_of_the_machine_are_not_listed(closed: InProcess) -> None:
    """The kernelspecs that a client sees are those of sessions."""
    status, answer = ask(closed, "GET", "/api/kernelspecs")
    assert status == 200
    assert answer.json()["default"] == "mooring"
    assert set(answer.json()["kernelspecs"]) == {"mooring"}
    for name in ("python3", "mine", "Python3"):
        assert ask(closed, "GET", f"/api/kernelspecs/{name}")[0] == 404


@pytest.mark.parametrize("name", ["python3", "mine", "Python3", "PYTHON3", "../python3", "none"])
def test_kernels_of_the_machine_are_not_started(
    closed: InProcess, name: str, project: Path
) -> None:
    """A client that names one gets none, whichever way it asks, and nothing is run."""
    notebook = {"path": "x.ipynb", "name": "x", "type": "notebook", "kernel": {"name": name}}
    for path, body in (("/api/kernels", {"name": name}), ("/api/sessions", notebook)):
        assert ask(closed, "POST", path, json=body)[0] >= 400
    assert closed.app.kernel_manager.list_kernel_ids() == []


def test_without_the_manager_they_would_be(serve: Serve, documented: dict[str, Any]) -> None:
    """Jupyter's own traits hide a kernel and start it all the same: the page's class is needed."""
    del documented["ServerApp"]["kernel_spec_manager_class"]
    documented["KernelSpecManager"] = {
        "ensure_native_kernel": False,
        "allowed_kernelspecs": {"mooring"},
    }
    server = serve(**documented)
    assert set(ask(server, "GET", "/api/kernelspecs")[1].json()["kernelspecs"]) == {"mooring"}
    status, answer = ask(server, "POST", "/api/kernels", json={"name": "python3"})
    assert status == 201
    assert ask(server, "DELETE", f"/api/kernels/{answer.json()['id']}")[0] == 204


def test_sessions_see_the_root_only(closed: InProcess, fake: FakeEngine) -> None:
    """A session over the REST API has no home and no path outside."""
    for values in ({"home": True}, {"inputs": ["/etc/ssl"]}, {"secrets": {"A": {"env": "HOME"}}}):
        status, reply = closed.ask("POST", "/sessions", {"values": values})
        assert (status, reply["code"]) == (403, "policy_error")
    assert not fake.containers


def test_no_package_is_installed(closed: InProcess) -> None:
    """JupyterLab's extension manager installs nothing."""
    body = {"cmd": "install", "extension_name": "mooring-no-such-package"}
    status, answer = ask(closed, "POST", "/lab/api/extensions", json=body)
    assert status >= 400 or answer.json().get("status") == "error", answer.text
    assert closed.app.extension_manager.extension_points["lab"].app.extension_manager == "readonly"


def test_the_page_is_told_to_trust_no_output(closed: InProcess) -> None:
    """The panel reads from the page that it keeps the cells of sessions untrusted."""
    status, answer = ask(closed, "GET", "/lab")
    assert status == 200
    assert '"mooringUntrustedOutputs": "true"' in answer.text


def test_by_default_the_page_is_told_nothing(serve: Serve) -> None:
    """Without the setting, JupyterLab does as ever."""
    assert "mooringUntrustedOutputs" not in ask(serve(), "GET", "/lab")[1].text
