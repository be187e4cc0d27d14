"""Making sessions: what a spec asks for, checked, allowed, and begun."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.engines.base import Stream
from mooring.errors import Cancelled, SessionTimeout
from mooring.gpus.claims import Request
from mooring.host import paths
from mooring.host.users import caller
from mooring.images import mounts
from mooring.launch import plan as blueprint
from mooring.launch.create import Creation, Manner, Steps
from mooring.policy import trust
from mooring.service.inside import Inside
from mooring.service.lifecycle import disk_errors
from mooring.sessions.model import Session, State, from_record

if TYPE_CHECKING:
    from mooring.images.mounts import Grant
    from mooring.spec.resolve import ResolvedSpec


@dataclass(frozen=True)
class Created:
    """A session that runs, and the stream to its main process if one was asked for."""

    session: Session
    stream: Stream | None


@contextlib.contextmanager
def _patiently_locked(
    lock: Path, name: str, cancelled: Callable[[], bool], max_wait_s: float | None
) -> Iterator[None]:
    """Hold a lock that others may hold for as long as a pull takes, or a wait for GPUs.

    Args:
        max_wait_s: give up after so many seconds.

    Raises:
        Cancelled: ``cancelled`` said so meanwhile.
        SessionTimeout: the wait was too long.
    """
    import filelock

    held = filelock.FileLock(lock)
    deadline = None if max_wait_s is None else time.monotonic() + max_wait_s
    while True:
        try:
            left_s = 0.2 if deadline is None else max(0.0, deadline - time.monotonic())
            held.acquire(timeout=min(0.2, left_s))
            break
        except filelock.Timeout:
            if cancelled():
                raise Cancelled(f"the wait for session {name} was cancelled") from None
            if deadline is not None and time.monotonic() >= deadline:
                raise SessionTimeout(
                    f"nobody has made or started session {name} within {max_wait_s:g} s",
                    f"somebody is about to; see what it waits for: mooring why {name}",
                ) from None
    try:
        yield
    finally:
        held.release()


class Mooring(Inside):
    """The sessions of one installation on one engine: all that doors call.

    Args:
        engine: default is this machine's.
        actor: who asks, for the history; default is the user's name.
    """

    @disk_errors()
    def create(
        self,
        resolved: ResolvedSpec,
        *,
        name: str | None = None,
        cwd: Path | None = None,
        attach: bool = False,
        tty: bool = False,
        size: tuple[int, int] = (24, 80),
        remove: bool = False,
        environ: Mapping[str, str] | None = None,
        progress: blueprint.Progress = lambda text: None,
        cancelled: Callable[[], bool] = lambda: False,
        opened_by: str = "",
        ends_with_kernels: bool = False,
        detach_keys: str = "",
        max_wait_s: float | None = None,
        enqueue: bool = False,
        files: Sequence[Path] = (),
    ) -> Created:
        """Make a session and start it. Whatever goes wrong, nothing of it is left.

        Meanwhile it is listed as ``starting``, or as ``pending`` while it waits for its GPUs, with
        what it waits for; whoever stops it then cancels it.

        Args:
            resolved: the spec and where each value came from.
            name: instead of the spec's; one is made up when there is neither.
            cwd: the working directory, if it lies in the spec's project; default the project.
            attach: connect to the main process before it starts, so that nothing is missed.
            tty: give the main process a terminal.
            size: rows and columns of that terminal.
            remove: have it removed when its main process ends.
            environ: where secrets are read from; default the process's environment.
            progress: called with a line at each step that takes time.
            cancelled: asked several times a second; True gives the creation up.
            opened_by: absolute path of the notebook that it is made for.
            ends_with_kernels: it is made for a kernel, and ``end_with_kernel`` may remove it.
            max_wait_s: how long to wait for GPUs; None for as long as it takes.
            enqueue: leave it to wait and return at once; it starts by itself when its turn comes.
            files: copied into its private home before it starts.

        Raises:
            SpecError, PolicyError, ConsentRequired, NotSupported: the spec.
            SessionExists: the name is taken.
            NoCapacity: there will never be such GPUs here.
            SessionTimeout: no turn within ``max_wait_s``.
            Cancelled: by ``cancelled``, or by a ``stop`` or ``remove`` from elsewhere.
            ImageError, EngineError, EngineUnavailable: the engine.
        """
        spec = resolved.spec
        here = cwd or resolved.project
        trust.require(resolved, self._grants(resolved, here))
        if spec.kernel:
            self.kernel("0" * 12, "0" * 12)  # a path too long for sockets is told beforehand
        self.engine.info()
        values = mounts.read_secrets(
            spec, resolved.project, os.environ if environ is None else environ
        )
        wanted = Request.from_spec(spec.gpus)
        if wanted is not None:
            self.queue.check(wanted)
        folder = blueprint.reserve(
            name or spec.name,
            resolved,
            tty=tty,
            remove=remove,
            opened_by=opened_by,
            ends_with_kernels=ends_with_kernels,
        )
        session_name = folder.record()["name"]
        creation = Creation(
            self.engine,
            self.history,
            self.actor,
            lambda: self.queue,
            folder,
            resolved,
            Manner(str(here), tty, size),
            Steps(folder, progress, cancelled),
        )
        try:
            creation.prepare(values, files)
        except BaseException:
            folder.remove()
            folder.release()
            raise
        if enqueue:
            creation.enqueue()
            self._dispatch()
            return Created(from_record(folder, State.PENDING, ""), None)
        stream = creation.run(attach=attach, detach_keys=detach_keys, max_wait_s=max_wait_s)
        return Created(self._named(folder.id, session_name), stream)

    def grants(self, resolved: ResolvedSpec, cwd: Path) -> list[Grant]:
        """What a spec's file reaches for beyond its folder, and nobody has allowed yet.

        Args:
            cwd: the working directory that ``create`` is going to be given.

        Raises:
            SpecError, PolicyError, NotSupported: it could not be created anyway.
        """
        return trust.needed(resolved, self._grants(resolved, cwd))

    def allow(self, resolved: ResolvedSpec, cwd: Path) -> list[Grant]:
        """Allow a spec's file, as it stands now, what it reaches for. Returns all of that.

        Raises:
            SpecError, PolicyError, NotSupported: it could not be created anyway.
        """
        wanted = self._grants(resolved, cwd, judged=False)  # flags may be missing as yet
        trust.give(resolved, wanted)
        return wanted

    def find_or_create(
        self,
        resolved: ResolvedSpec,
        name: str,
        *,
        cwd: Path,
        cancelled: Callable[[], bool] = lambda: False,
        opened_by: str = "",
        max_wait_s: float | None = None,
    ) -> Session:
        """The running session of that name; started if it is stopped, made if there is none.

        Several processes may ask at once: they get the same one.

        Args:
            max_wait_s: for who makes or starts it, and for GPUs, in all.

        Raises:
            as ``create`` and ``start``.
        """
        deadline = None if max_wait_s is None else time.monotonic() + max_wait_s
        lock = paths.state_dir() / f"shared-{hashlib.sha256(name.encode()).hexdigest()[:8]}.lock"
        with _patiently_locked(lock, name, cancelled, max_wait_s):
            found = [session for session in self.sessions() if session.name == name]
            left_s = None  # in tenths, for it is told
            if deadline is not None:
                left_s = max(0.0, round(deadline - time.monotonic(), 1))
            if not found:
                return self.create(
                    resolved,
                    name=name,
                    cwd=cwd,
                    cancelled=cancelled,
                    opened_by=opened_by,
                    max_wait_s=left_s,
                ).session
            if found[0].state is State.RUNNING:
                return found[0]
            return self.start(name, cancelled=cancelled, max_wait_s=left_s)

    def _grants(self, resolved: ResolvedSpec, cwd: Path, *, judged: bool = True) -> list[Grant]:
        from mooring.policy import limits
        from mooring.spec.model import EXTENDS, refuse_unsupported

        refuse_unsupported(resolved.spec)
        plan = mounts.plan(resolved.spec, project=resolved.project, cwd=cwd, user=caller())
        if judged:
            limits.load().check(resolved.spec, plan.sources, resolved.origins)
        read = [mounts.Grant(EXTENDS, what) for what in resolved.reaches]
        return [*read, *plan.grants]
