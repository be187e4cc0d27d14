"""``Mooring.records``."""

from __future__ import annotations

import os

from mooring.client import leftovers
from mooring.client.leftovers import StateFiles
from mooring.host.filesystems import is_below
from mooring.host.users import caller
from mooring.sessions.context import Context
from mooring.sessions.home import HomeFiles
from mooring.sessions.model import Session, State
from mooring.sessions.replaced import replaced_sources


class Records:
    """Records of sessions on this machine; the engine is not contacted."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def names(self) -> list[str]:
        """Return the names of this installation's sessions, in no particular order."""
        return [folder.record().identity.name for folder in self._ctx.folders()]

    def images(self) -> set[str]:
        """Return the images of this installation's sessions."""
        specs = [folder.record().identity.spec for folder in self._ctx.folders()]
        return {str(spec.get("image", "host")) for spec in specs}

    def exists(self, session_id: str) -> bool:
        """Return whether a session exists, in any state from its creation to its removal."""
        return self._ctx.folder(session_id).exists

    def has_ended(self, session_id: str) -> bool:
        """Return whether a session was ended by its clock, or removed."""
        return self._ctx.folder(session_id).has_ended

    def is_being_removed(self, session_id: str) -> bool:
        """Return whether a session is about to be removed: its container may have gone already."""
        return self._ctx.folder(session_id).record().state.removing is not None

    def ends_with_kernels(self, session: Session) -> bool:
        """Return whether a session was created for a kernel, and is removed with its last one."""
        return self._ctx.folder(session.id).record().identity.ends_with_kernels

    def note(self, session: Session) -> str:
        """Return a line about the mounts that the user should know; empty for none."""
        return "" if session.foreign else self._ctx.folder(session.id).record().plan.note

    def home_files(self, session: Session) -> HomeFiles:
        """Return what a session has written to its private home, which is deleted with it."""
        return HomeFiles() if session.foreign else self._ctx.folder(session.id).home_files()

    def replaced_sources(self, session: Session) -> list[str]:
        """Return the mounted files and folders that were replaced on this machine while it ran."""
        if session.foreign or session.state is not State.RUNNING:
            return []
        return replaced_sources(self._ctx.folder(session.id))

    def gpu_sharing(self, session: Session) -> dict[str, str]:
        """Return how each share of a GPU is limited, in a line, by the GPU's UUID."""
        if session.foreign:
            return {}
        return dict(self._ctx.folder(session.id).record().state.gpu_sharing)

    def state_files(self) -> StateFiles:
        """Return what is in the state folder."""
        return leftovers.state_files(self._ctx)

    def remove_state(self) -> None:
        """Delete the state folder's files: history, trust, caches, keys. Remove sessions first.

        What is not mooring's in it stays; without anything, the folder goes too.

        Raises:
            SessionStateError: there are sessions.
            MooringError: a file cannot be deleted; everything else is.
        """
        leftovers.remove_state(self._ctx)

    def project_folder(self, session: Session) -> str:
        """Return the folder to open in a session: the project if it is mounted, else the home."""
        record = self._ctx.folder(session.id).record()
        project = os.path.realpath(record.identity.project or "/")
        mounted = [target for _, target in record.plan.mounts]
        return project if any(is_below(project, top) for top in mounted) else caller().home
