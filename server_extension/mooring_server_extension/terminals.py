"""A terminal in a session, as a terminal of the Jupyter server."""

from __future__ import annotations

import sys

from jupyter_server.auth.decorator import authorized
from tornado import web

from mooring.errors import NotSupported, SessionStateError
from mooring.service import Mooring
from mooring.sessions.model import Session
from mooring_server_extension import bodies
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
            bodies.read(bodies.Nothing, self.json_body())
            session = await self.core(lambda mooring: running(mooring, name))
            terminal = self._open(session)
        self.say({"name": terminal}, 201)

    def _open(self, session: Session) -> str:
        manager = self.settings.get("terminal_manager")
        if manager is None or not self.settings.get("terminals_available"):
            raise NotSupported(
                "this Jupyter server has no terminals",
                "install terminado, and let c.ServerApp.terminals_enabled be true",
            )
        # No shell of this machine: the process is the client of one in the session. -m looks for
        # modules in the current folder first, and a notebook's folder holds anything.
        # A shell outlives its tab and this server; the next one takes up one that was left so.
        command = [sys.executable, "-m", "mooring_cli", "exec", "--again", LABEL, session.id]
        try:
            return str(manager.create(shell_command=command, cwd="/")["name"])
        except OSError as error:
            raise SessionStateError(f"no terminal can be opened: {error}") from error


def running(mooring: Mooring, name: str) -> Session:
    """A session that runs.

    Raises:
        SessionNotFound: there is none of that name.
        SessionStateError: it does not run; the hint says how to go on.
    """
    return mooring.running(named(mooring, name).name)
