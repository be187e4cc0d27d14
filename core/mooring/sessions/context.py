"""What the parts of one client share: the engine, the installation, its history, the actor."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from mooring.engines import open_engine
from mooring.engines.base import Container, Engine
from mooring.engines.labels import LABEL_ID, LABEL_INSTALLATION, container_name
from mooring.host.paths import Installation
from mooring.host.users import caller
from mooring.sessions.folder import SessionFolder, is_session_id

if TYPE_CHECKING:
    from mooring.kernels.kernel import KernelHandle
    from mooring.sessions.history import History


class Context:
    """The engine, installation, history and actor of one client. Thread-safe.

    Args:
        engine: the engine; None to open this machine's when first used.
        actor: the actor recorded in the history; the user's name if empty.
        installation: None for the caller's own.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        actor: str = "",
        installation: Installation | None = None,
    ) -> None:
        self._engine = engine
        self.actor = actor or caller().name
        self.installation = installation or Installation.here()

    @cached_property
    def history(self) -> History:
        """The installation's history."""
        from mooring.sessions.history import History

        return History(self.installation.history)

    @property
    def engine(self) -> Engine:
        """The engine that runs the containers.

        Raises:
            EngineUnavailable: no engine was found.
        """
        if self._engine is None:
            self._engine = open_engine()
        return self._engine

    def add_event(self, session_id: str, kind: str, detail: str = "", at: float = 0.0) -> None:
        """Add an event by this actor to the history.

        Args:
            session_id: the session's id.
            kind: what happened, in one word.
            detail: further text.
            at: seconds since the epoch; 0 for now.
        """
        self.history.add(session_id, kind, self.actor, detail, at=at)

    def folder(self, session_id: str) -> SessionFolder:
        """Return the folder of a session, which need not exist."""
        return SessionFolder.open(self.installation, session_id)

    def folders(self) -> list[SessionFolder]:
        """Return the folders of all sessions."""
        return SessionFolder.all(self.installation)

    def kernel_handle(self, session_id: str, kernel_id: str) -> KernelHandle:
        """Return a handle for a kernel of a session; see ``Kernels.handle``."""
        from mooring.kernels.kernel import KernelHandle
        from mooring.spec.units import format_size

        folder = self.folder(session_id)
        record = folder.record()
        limit = record.state.limits.get("memory") or record.identity.spec.get("memory")
        return KernelHandle(
            folder.guest,
            kernel_id,
            session_id=session_id,
            memory_limit=format_size(int(limit)) if limit else "",
        )

    def containers(self, **labels: str) -> list[Container]:
        """Return the containers of this installation's sessions that have all of the labels.

        Args:
            labels: values by label name without the prefix ``mooring.``: ``id="0123456789ab"``.

        Raises:
            EngineError
        """
        return [row for row in self.labelled(**labels) if self.is_own(row)]

    def labelled(self, **labels: str) -> list[Container]:
        """Return as ``containers``, and also containers that only claim to be this installation's.

        Raises:
            EngineError
        """
        wanted = {f"mooring.{name}": value for name, value in labels.items()}
        return self.engine.list({LABEL_INSTALLATION: self.installation.id} | wanted)

    def is_own(self, row: Container) -> bool:
        """Return whether a container belongs to a session of this installation.

        Labels are no proof, because any user of the engine can set them on any container. The
        session's record, which names its container, can be written by the owner only.
        """
        session_id = row.labels.get(LABEL_ID, "")
        if not is_session_id(session_id):
            return False
        record = self.folder(session_id).record()
        if record.identity.id != session_id:
            return False
        container = record.state.container
        if container:
            return container == row.id
        return row.name == container_name(record.identity.name, session_id)
