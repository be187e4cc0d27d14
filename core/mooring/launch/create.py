"""A session in the making: from the folder that was reserved for it to a container that runs.

Whoever begins it finishes it, or leaves it to wait for its GPUs: then it is the dispatcher that
goes on, with what stands in the session's folder.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring import ports
from mooring.engines.base import Engine, Stream
from mooring.errors import Cancelled, EngineError, EngineUnavailable, MooringError, SpecError
from mooring.gpus.claims import Claim, Request, in_words
from mooring.gpus.tickets import Ticket, gate_of
from mooring.host import paths
from mooring.host.users import caller
from mooring.images import mounts
from mooring.labels import LABEL_ID, LABEL_INSTALLATION
from mooring.launch import plan
from mooring.sessions.history import History
from mooring.sessions.model import is_own
from mooring.sessions.record import Folder, boot_id
from mooring.terminals.terminal import MainTerminal

if TYPE_CHECKING:
    from mooring.gpus.queue import GpuQueue
    from mooring.spec.resolve import ResolvedSpec


#: How long one that is listed may take to go.
LISTED_S = 5.0


@dataclass(frozen=True)
class Manner:
    """How a session is made, beside its spec.

    Attributes:
        cwd: the working directory, if it lies in the spec's project.
        tty, size: whether the main process has a terminal; its rows and columns.
        since: its order in the queue, of one that was left to wait; 0 for the last.
    """

    cwd: str
    tty: bool = False
    size: tuple[int, int] = (24, 80)
    since: int = 0


class Steps:
    """Told at each step of a creation: passes a new one on, and gives up when it is asked to."""

    def __init__(
        self, folder: Folder, progress: plan.Progress, cancelled: Callable[[], bool]
    ) -> None:
        self._folder, self._progress, self._cancelled = folder, progress, cancelled
        self._last = ""

    def __call__(self, text: str) -> None:
        if self._cancelled() or self._folder.cancelled() or not self._folder.exists:
            name = self._folder.record().get("name", self._folder.id)
            raise Cancelled(f"the creation of session {name} was cancelled")
        if text != self._last:
            self._last = text
            self._folder.tell_waiting(text)
            self._progress(text)

    def tell(self, text: str) -> None:
        """Show what goes on once it has been given up, whatever the caller raises again."""
        with contextlib.suppress(BaseException):
            self._progress(text)


class Creation:
    """One session in the making.

    Args:
        folder: reserved, and held by this process.
        queue: asked for only if the spec wants GPUs.
    """

    def __init__(
        self,
        engine: Engine,
        history: History,
        actor: str,
        queue: Callable[[], GpuQueue],
        folder: Folder,
        resolved: ResolvedSpec,
        manner: Manner,
        step: Steps,
    ) -> None:
        self._engine, self._history, self._actor, self._queue = engine, history, actor, queue
        self._folder, self._resolved, self._manner, self._step = folder, resolved, manner, step
        self._told = False

    def prepare(self, secrets: dict[str, str], files: Sequence[Path]) -> None:
        """Put into the folder what is the caller's own: secrets, and files for the private home.

        Raises:
            SpecError: a file is not there, or two have the same name.
        """
        mounts.write_secrets(self._folder, secrets)
        for file in files:
            put_file(file, self._folder.home)

    def run(
        self, *, attach: bool = False, detach_keys: str = "", max_wait_s: float | None = None
    ) -> Stream | None:
        """Make the container and start it. Whatever goes wrong, nothing of it is left.

        One that was left to wait stays when the engine does not answer, or the disk is full: that
        passes.

        Args:
            attach: connect to the main process before it starts.
            max_wait_s: for GPUs.
        """
        spec, folder, engine = self._resolved.spec, self._folder, self._engine
        user = caller()
        container, asked = "", False
        stream: Stream | None = None
        try:
            facts = plan.image_facts(engine, spec.image, spec.pull, user, self._step)
            if spec.kernel and not facts.python:
                raise plan.no_kernel(spec.image, facts.kernel_problem)
            mounts.create_outputs(spec, self._resolved.project)
            with self._claimed(max_wait_s) as claims:
                config = plan.container_config(
                    self._resolved,
                    facts,
                    user,
                    folder,
                    Path(self._manner.cwd),
                    tty=self._manner.tty,
                    size=self._manner.size,
                    claims=claims,
                )
                self._step("starting the container")
                asked = True
                main = MainTerminal(engine, folder) if self._main_has_terminal else None
                container = engine.create(config)
                if main is not None:
                    terminal = main.keep(container, detach_keys if attach else None)
                    stream = terminal if attach else None
                elif attach:
                    stream = engine.attach(container, tty=self._manner.tty, detach_keys=detach_keys)
                if folder.enqueued:  # it may be another boot than the one that it was reserved in
                    folder.update_record(boot_id=boot_id())
                ports.start(engine, container)
                plan.await_check(engine, folder, container)
                if not config.network:
                    engine.attach_network(container)
                folder.update_record(container=container, changed_at=time.time())
                self._step("starting the container")  # the last moment to give it up
                self.tell_requested()
                self._history.add(folder.id, "started", self._actor, f"image {spec.image}")
                folder.mark_ready()
        except BaseException as error:
            if stream is not None:
                stream.close()
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                self._step.tell("taking back what was begun")
            cut_off = asked and not container and not isinstance(error, EngineError)
            kept = folder.enqueued and (isinstance(error, EngineUnavailable) or is_full(error))
            with contextlib.suppress(MooringError):  # what is left then, the reconciler removes
                remove_container(engine, folder.id, container, 1.0 if cut_off else 0.0)
                if not kept:
                    self._tell_failed(error)
                    if Request.from_spec(spec.gpus) is not None:
                        with contextlib.suppress(MooringError):
                            gate_of(engine).forget(folder.id)
                    folder.remove()
            raise
        finally:
            folder.release()
        return stream

    @property
    def _main_has_terminal(self) -> bool:
        """Not one that has its clock alone."""
        spec = self._resolved.spec
        return self._manner.tty and bool(spec.argv or not spec.kernel)

    def enqueue(self) -> None:
        """Leave it to wait in the queue, for the dispatcher to go on with.

        One that asks for no GPU waits for nothing but that.
        """
        folder, spec = self._folder, self._resolved.spec
        queue = self._queue()
        request = Request.from_spec(spec.gpus)
        since = 0
        try:
            if request is not None:
                drawn = queue.draw(self._ticket(request, enqueued=True))
                since = drawn.ticket.since
            how = {
                "spec": spec.model_dump(mode="json", exclude_defaults=True),
                "resolved": {
                    "origins": dict(self._resolved.origins),
                    "path": self._resolved.path and str(self._resolved.path),
                    "project": str(self._resolved.project),
                    "sha256": self._resolved.sha256,
                    "reaches": list(self._resolved.reaches),
                    "extended": list(self._resolved.extended),
                },
                "manner": asdict(self._manner) | {"since": since},
                "actor": self._actor,
            }
            with queue.gate.locked():  # a dispatcher that is about to go sees it, or is seen to go
                folder.mark_enqueued(how)
            waits = f"in the queue for {request}" if request else "about to start"
            folder.tell_waiting(waits)
            if request is not None:
                drawn.let_go()
            self.tell_requested()
            self._history.add(folder.id, "queued", self._actor, str(request or ""))
        except BaseException:
            queue.gate.forget(folder.id)
            folder.remove()
            raise
        finally:
            folder.release()

    def keep_place(self) -> None:
        """Put one that was left to wait back into the queue, where it was; ``run`` goes on."""
        request = Request.from_spec(self._resolved.spec.gpus)
        if request is not None:
            self._queue().draw(self._ticket(request, enqueued=True)).let_go()

    def tell_requested(self) -> None:
        """Write the request into the history, once."""
        folder, spec = self._folder, self._resolved.spec
        if self._told or folder.record().get("requested"):
            return
        self._told = True
        folder.update_record(requested=True)
        at = folder.record()["created_at"]
        self._history.session_created(
            folder.id,
            name=folder.record()["name"],
            owner=caller().name,
            image=spec.image,
            spec=spec.public_dict(),
            at=at,
        )
        wanted = Request.from_spec(spec.gpus)
        self._history.add(folder.id, "requested", self._actor, str(wanted or ""), at=at)

    def _tell_failed(self, error: BaseException) -> None:
        """Of one that had to wait, so that its history has an end."""
        if not self._folder.record().get("requested"):
            return
        cancelled = isinstance(error, (Cancelled, KeyboardInterrupt, SystemExit))
        kind = "cancelled" if cancelled else "failed"
        why = error.message if isinstance(error, MooringError) else type(error).__name__
        self._history.add(self._folder.id, kind, self._actor, "" if cancelled else why)
        reason = "cancelled before it ran" if cancelled else why
        self._history.session_ended(self._folder.id, at=time.time(), reason=reason, exit_code=None)

    @contextlib.contextmanager
    def _claimed(self, max_wait_s: float | None) -> Iterator[tuple[Claim, ...]]:
        """Its GPUs, for as long as it takes until the container shows that it has them."""
        request = Request.from_spec(self._resolved.spec.gpus)
        if request is None:
            yield ()
            return
        queued = False

        def tell(because: str) -> None:
            nonlocal queued
            if because and not queued and max_wait_s != 0:  # who does not wait was never there
                queued = True
                self._folder.mark_queued()
                self.tell_requested()
                if not self._folder.enqueued:
                    self._history.add(self._folder.id, "queued", self._actor, because)
            self._step(because or "starting the container")

        with self._queue().claim(
            self._ticket(request, enqueued=self._folder.enqueued), tell=tell, max_wait_s=max_wait_s
        ) as claims:
            self._folder.unmark_queued()
            self.tell_requested()
            self._history.add(self._folder.id, "granted", self._actor, in_words(claims))
            yield claims

    def _ticket(self, request: Request, *, enqueued: bool) -> Ticket:
        return Ticket(
            id=self._folder.id,
            installation=paths.installation_id(),
            user=caller().name,
            session=self._folder.record()["name"],
            request=request,
            priority=self._resolved.spec.priority,
            since=self._manner.since,
            enqueued=enqueued,
        )


#: What an engine says of its own disk.
_FULL = ("no space left on device", "disk quota exceeded")


def is_full(error: BaseException) -> bool:
    """Whether a disk was full, or its owner's part of it; the engine's, too."""
    if isinstance(error, EngineError):
        return any(words in error.message.lower() for words in _FULL)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def remove_container(
    engine: Engine, session_id: str, container: str, patience_s: float = 0.0
) -> None:
    """Remove a session's container, also one whose creation was cut off before its answer.

    Args:
        container: its id on the engine, if that is known.
        patience_s: how long the engine may go on making it, when nobody waits any more.
    """
    if container:
        engine.remove(container)
        return
    mine = {LABEL_INSTALLATION: paths.installation_id(), LABEL_ID: session_id}
    deadline = time.monotonic() + patience_s
    rows = list(filter(is_own, engine.list(mine)))
    while not rows and time.monotonic() < deadline:
        time.sleep(0.05)
        rows = list(filter(is_own, engine.list(mine)))
    deadline = time.monotonic() + LISTED_S
    while rows:
        for row in rows:
            engine.remove(row.id)
        # Docker lists a container a moment before it can remove it, and says that there is none
        rows = [] if time.monotonic() > deadline else list(filter(is_own, engine.list(mine)))


def left_to_wait(folder: Folder) -> tuple[ResolvedSpec, Manner, str]:
    """What ``Creation.enqueue`` wrote down: the spec, the manner, and who asked.

    Raises:
        SpecError: another version wrote it.
    """
    from mooring.spec.model import SessionSpec
    from mooring.spec.resolve import ResolvedSpec

    try:
        said: dict[str, Any] = json.loads((folder.path / "enqueued").read_text())
        known, manner = said["resolved"], said["manner"]
        resolved = ResolvedSpec(
            spec=SessionSpec.model_validate(said["spec"]),
            origins=known["origins"],
            path=Path(known["path"]) if known["path"] else None,
            project=Path(known["project"]),
            sha256=known["sha256"],
            reaches=tuple(known["reaches"]),
            extended=tuple(known["extended"]),
        )
        rows, columns = manner["size"]
        made = Manner(manner["cwd"], manner["tty"], (rows, columns), manner["since"])
        return resolved, made, said["actor"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        name = folder.record().get("name", folder.id)
        raise SpecError(
            f"what session {name} was left to wait with cannot be read: {error}",
            f"remove it, and create it anew: mooring rm -f {name}",
        ) from None


def put_file(file: Path, home: Path) -> None:
    """Copy a file or a folder of the caller's into a session's home, under its own name.

    Raises:
        SpecError: it is not there, cannot be read, or something of that name is there already.
    """
    if Path(os.path.realpath(file)) in Path(os.path.realpath(home)).parents:
        raise SpecError(
            f"{file} holds mooring's own folders, and cannot be sent", "send what you need of it"
        )
    target = home / file.absolute().name
    if target.exists() or target.is_symlink():
        raise SpecError(f"{file}: two files have that name", "give one of them another name")
    try:
        if file.is_dir():
            shutil.copytree(file, target, symlinks=True)
        elif file.is_file():
            shutil.copy2(file, target)
        else:
            raise SpecError(f"{file} is not there, or no file or folder", "correct the path")
    except shutil.Error as error:  # of a folder: each file that it could not copy, and why
        source, _, why = error.args[0][0]
        raise SpecError(f"{source} cannot be sent: {why}", "send the folder without it") from error
    except OSError as error:
        raise SpecError(f"{file} cannot be sent: {error.strerror}", "can you read it?") from error
