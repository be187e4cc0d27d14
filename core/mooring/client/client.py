"""The client, which gives access to the parts of the API as attributes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from mooring.engines.base import Engine
from mooring.host.paths import Installation
from mooring.sessions.context import Context

if TYPE_CHECKING:
    from mooring.client.files import Files
    from mooring.client.gpus import Gpus
    from mooring.client.kernels import Kernels
    from mooring.client.leases import Leases
    from mooring.client.ports import Ports
    from mooring.client.records import Records
    from mooring.client.sessions import Sessions
    from mooring.client.terminals import Terminals
    from mooring.sessions.history import History


class Mooring:
    """A client for the sessions of one installation on one engine.

    Synchronous and thread-safe: code in an event loop calls it in a thread. The engine is not
    contacted before the first call that needs it.

    Args:
        engine: the engine; None to open this machine's when first used.
        actor: the actor recorded in the history; the user's name if empty.

    Raises:
        MooringError: the state folder cannot be created.
    """

    def __init__(self, engine: Engine | None = None, actor: str = "") -> None:
        self._ctx = Context(engine, actor)

    @property
    def engine(self) -> Engine:
        """The engine that runs the containers.

        Raises:
            EngineUnavailable: no engine was found.
        """
        return self._ctx.engine

    @property
    def engine_address(self) -> str:
        """The engine's address in the form of ``DOCKER_HOST``: ``unix:///var/run/docker.sock``.

        Raises:
            NotSupported: ``DOCKER_HOST`` names an engine on another machine.
        """
        import os

        from mooring.engines import local_address

        return local_address(os.environ)

    @property
    def actor(self) -> str:
        """The actor recorded in the history."""
        return self._ctx.actor

    @property
    def installation(self) -> Installation:
        """The installation that the sessions belong to."""
        return self._ctx.installation

    @property
    def history(self) -> History:
        """The installation's history: events, and sessions that are gone."""
        return self._ctx.history

    @cached_property
    def sessions(self) -> Sessions:
        """Creating, listing, starting and stopping sessions, and running commands in them."""
        from mooring.client.sessions import Sessions

        return Sessions(self._ctx)

    @cached_property
    def records(self) -> Records:
        """Records of sessions on this machine."""
        from mooring.client.records import Records

        return Records(self._ctx)

    @cached_property
    def terminals(self) -> Terminals:
        """Terminals in sessions."""
        from mooring.client.terminals import Terminals

        return Terminals(self._ctx)

    @cached_property
    def kernels(self) -> Kernels:
        """Kernels in sessions."""
        from mooring.client.kernels import Kernels

        return Kernels(self._ctx)

    @cached_property
    def leases(self) -> Leases:
        """Leases, which bind a session to the life of a process."""
        from mooring.client.leases import Leases

        return Leases(self._ctx)

    @cached_property
    def files(self) -> Files:
        """Copying files between this machine and sessions."""
        from mooring.client.files import Files

        return Files(self._ctx)

    @cached_property
    def ports(self) -> Ports:
        """Forwarding ports of this machine to sessions."""
        from mooring.client.ports import Ports

        return Ports(self._ctx)

    @cached_property
    def gpus(self) -> Gpus:
        """The GPUs of the engine's machine."""
        from mooring.client.gpus import Gpus

        return Gpus(self._ctx)
