"""A Jupyter server in a thread of the test's process, with mooring on the fake engine.

Every answer of mooring's API that goes through ``Client.ask`` is held against the OpenAPI document.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from jsonschema import Draft202012Validator
from jupyter_server.serverapp import ServerApp
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from traitlets.config import Config

from mooring_server_extension.context import SETTING, ServerContext
from mooring_server_extension.routes import ROUTES, openapi

API = "/mooring/api"
METHODS = ("get", "post", "put", "patch", "delete")


def template(route: str) -> str:
    """A route's pattern as the OpenAPI document writes it."""
    path = route.replace("\\.", ".")
    return path.replace("kernels/([^/]+)", "kernels/{kernel_id}").replace("([^/]+)", "{name}")


def operations() -> Iterator[tuple[str, str, Any]]:
    """Method, path and handler of all that there is."""
    for route, handler in ROUTES:
        for method in METHODS:
            if any(
                method in vars(base) for base in handler.__mro__[: handler.__mro__.index(_BASE)]
            ):
                yield method, template(route), handler


_BASE = next(base for base in ROUTES[0][1].__mro__ if base.__name__ == "MooringHandler")


def check(method: str, url_path: str, answer: requests.Response) -> None:
    """Raises unless the answer is what the document says of that path, method and status."""
    document = openapi()
    path = url_path.split("?")[0]
    matching = [
        template(route)
        for route, _ in ROUTES
        if re.fullmatch(route, path) and method.lower() in document["paths"][template(route)]
    ]
    if not matching:
        pointer: dict[str, Any] = {"$ref": "#/components/schemas/Error"}
    else:
        responses = document["paths"][matching[0]][method.lower()]["responses"]
        response = responses.get(str(answer.status_code), responses["default"])
        if "$ref" in response:
            response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        if "content" not in response:
            assert answer.content == b"", answer.text
            return
        pointer = response["content"]["application/json"]["schema"]
    assert answer.headers["Content-Type"].startswith("application/json"), answer.headers
    Draft202012Validator(pointer | {"components": document["components"]}).validate(answer.json())


class Client:
    """What a program asks of the server."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request without any credentials but those in ``options``."""
        return requests.request(
            method, self.url + path, timeout=30, allow_redirects=False, **options
        )

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """A request of mooring's API with the token; the status and what was answered."""
        headers = {"Authorization": f"token {self.token}"} | options.pop("headers", {})
        if body is not None:
            options["json"] = body
        answer = self.send(method, API + path, headers=headers, **options)
        check(method, API + path, answer)
        return answer.status_code, (answer.json() if answer.content else None)


class InProcess(Client):
    """The server; ``close`` ends it as SIGTERM would."""

    def __init__(self, root: Path, config: dict[str, Any] | None = None) -> None:
        token = secrets.token_hex(16)
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        settings = Config(config or {})
        settings.ServerApp.setdefault("root_dir", str(root))
        settings.ServerApp.setdefault(
            "jpserver_extensions",
            {"mooring_server_extension": True, "jupyter_server_terminals": True},
        )
        settings.IdentityProvider.setdefault("token", token)
        self._before = set(threading.enumerate())
        self._thread = threading.Thread(target=self._run, args=(settings,), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        if self._failed is not None:
            raise self._failed
        super().__init__(f"http://127.0.0.1:{self.port}", token)

    @property
    def context(self) -> ServerContext:
        """What the server's handlers work with."""
        context: ServerContext = self.app.web_app.settings[SETTING]
        return context

    def on_loop(self, call: Callable[[], Any]) -> Any:
        """Run something on the server's event loop, and return what comes of it."""

        async def run() -> Any:
            result = call()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)

    def close(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self.app._cleanup(), self.loop).result(30)
            self.loop.call_soon_threadsafe(self._server.stop)
            asyncio.run_coroutine_threadsafe(
                self._server.close_all_connections(), self.loop
            ).result(30)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(30)
        for thread in set(threading.enumerate()) - self._before:
            if thread.name.startswith("mooring-"):  # the test's folders go with the test
                thread.join(30)

    def _run(self, settings: Config) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        try:
            self.app = ServerApp(config=settings, allow_root=True, open_browser=False)
            self.app.init_signal = lambda: None  # signals are the test's own
            self.app.initialize(argv=[], new_httpserver=False)
            sockets = bind_sockets(0, "127.0.0.1")
            self.port = int(sockets[0].getsockname()[1])
            self._server = HTTPServer(self.app.web_app)
            self.loop.call_soon(self._server.add_sockets, sockets)
            self.loop.call_soon(self._ready.set)
        except BaseException as error:
            self._failed = error
            self._ready.set()
            return
        self.loop.run_forever()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
