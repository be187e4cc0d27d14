"""An in-memory engine that can run sessions, for tests of mooring and of programs that use it.

::

    engine = FakeEngine(images=["python:3.12"])
    engine.fail("start", EngineUnavailable("no engine"))   # the next start, once
    service = Mooring(engine)

Of the programs that mooring runs in a container, only the essential part is simulated: the command
is accepted immediately, and the clock ends the session on request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mooring.engines.fake import FakeContainer, FakeProcess, MemoryEngine, Program
from mooring.guest.paths import GUEST_RUN

SIGTERMED = 143


class FakeEngine(MemoryEngine):
    """An in-memory ``mooring.engines.base.Engine``. Thread-safe.

    Containers, images and streams behave like those of a real engine; the same contract tests run
    on both. Processes are Python functions, see ``FakeProcess``.

    Args:
        images: references of the images that the engine has.
        registry: references that ``pull`` finds; their progress is three steps of 100 bytes.
        main: run as each main process, in a thread; if None, a session's main process runs until
            the session is stopped, and probing an image finds ``python``.
        execute: run as each other process, in a thread if a client is connected to it. By default
            it prints nothing and exits with 0.
        python: the interpreter that has ipykernel, in every image; empty for none.
        clock: returns seconds since the epoch.
        sleep: called between polls by every wait; a test with its own ``clock`` can replace it to
            avoid real waiting.

    Attributes:
        containers: by id; ``containers[id].config`` is the container's declaration.
        images: ids by reference.
        calls: the names of the methods called so far.
        program: the argument ``execute``.
    """

    def __init__(
        self,
        images: Iterable[str] = (),
        registry: Iterable[str] = (),
        *,
        main: Program | None = None,
        execute: Program = lambda process: 0,
        python: str = "",
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(
            images,
            registry,
            main=main,
            execute=self._play,
            on_start=self._begin,
            clock=clock,
            sleep=sleep,
        )
        self.program = execute
        self._python = python

    def _begin(self, container: FakeContainer) -> None:
        """Simulate the check of the command, or the probe of an image."""
        folders = list(_run_folders(container))
        for folder in folders:
            (folder / "checked").touch()
        if self.main is None and not folders:
            python = self._python or "no python3 on its PATH"
            container.main.write(f"--- group\n--- python\n{python}\n".encode())
            self.finish(container.id, 0)

    def _play(self, process: FakeProcess) -> int:
        """Simulate the clock's end of a session, or run the test's function."""
        if not process.argv[1].endswith("/clock.sh") or process.argv[2] != "end":
            return self.program(process)
        reason, *detail = process.argv[3:]
        for folder in _run_folders(self.containers[process.container]):
            (folder / "end").write_text(
                f"reason {reason}\ntime {self._clock():.0f}\ndetail {' '.join(detail)}\nsignals \n"
            )
        self.finish(process.container, SIGTERMED)
        return 0


def _run_folders(container: FakeContainer) -> Iterator[Path]:
    return (Path(bind.source) for bind in container.config.binds if bind.target == GUEST_RUN)
