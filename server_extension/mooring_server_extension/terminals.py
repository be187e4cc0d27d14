"""Handler for terminals in a session, which are served as terminals of the Jupyter server."""

from __future__ import annotations

import sys

from jupyter_server.auth.decorator import authorized
from tornado import web

from mooring import Mooring, NotSupported, Session, SessionStateError
from mooring_server_extension import requests
from mooring_server_extension.base import MooringHandler
from mooring_server_extension.sessions import named

LABEL = "jupyter"


class TerminalsHandler(MooringHandler):
    """Open a terminal in a running session."""

    auth_resource = "mooring:terminals"

    @web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        with self.audited("terminal", name):
            requests.read(requests.Nothing, self.json_body())
            session = await self.core(lambda mooring: running(mooring, name))
            terminal = self._open(session)
        self.write_json({"name": terminal}, 201)

    def _open(self, session: Session) -> str:
        manager = self.settings.get("terminal_manager")
        if manager is None or not self.settings.get("terminals_available"):
            raise NotSupported(
                "this Jupyter server has no terminals",
                "install terminado, and set c.ServerApp.terminals_enabled to True",
            )
        # The process is not a shell on the host but the client of a shell in the session. It runs
        # in / because -m imports from the working directory, and a notebook's folder is not
        # trusted. --again attaches to a shell that an earlier tab or server has left.
        command = [sys.executable, "-m", "mooring_cli", "exec", "--again", LABEL, session.id]
        try:
            return str(manager.create(shell_command=command, cwd="/")["name"])
        except OSError as error:
            raise SessionStateError(f"no terminal can be opened: {error}") from error


def running(mooring: Mooring, name: str) -> Session:
    """Return the running session with a name.

    Args:
        mooring: the core.
        name: the name, or the start of the id.

    Raises:
        SessionNotFound: there is no such session.
        SessionStateError: the session is not running; the hint suggests what to do.
    """
    return mooring.sessions.get_running(named(mooring, name).name)
