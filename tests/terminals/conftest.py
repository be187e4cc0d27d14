"""A session's folder with a keeper, and an engine whose streams are the test's own sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mooring.errors import EngineUnavailable
from mooring.terminals.keeper.client import end_keeper

TIMEOUT_S = 30.0


class StreamStub:
    """An engine's stream."""

    tty = True
    exec_id = ""

    def __init__(self, near: socket.socket) -> None:
        self._near = near

    def socket(self) -> socket.socket:
        return self._near

    def close(self) -> None:
        self._near.close()


class EngineStub:
    """Of an engine what terminals ask for.

    Attributes:
        programs: the programs' ends of the streams that were opened.
        code: the exit code of every process; None while they run.
        down: the engine does not answer.
    """

    def __init__(self) -> None:
        self.programs: list[socket.socket] = []
        self.code: int | None = None
        self.down = False
        self.sizes: list[tuple[int, int]] = []

    def attach(self, container: str, *, tty: bool, detach_keys: str) -> StreamStub:
        program, near = socket.socketpair()
        program.settimeout(TIMEOUT_S)
        self.programs.append(program)
        return StreamStub(near)

    def inspect(self, container: str) -> Any:
        return SimpleNamespace(exit_code=self.exec_exit_code(""))

    def exec_detached(self, container: str, argv: Any, **options: Any) -> str:
        raise NotImplementedError  # terminals start nothing in this way

    def exec_exit_code(self, exec_id: str) -> int | None:
        if self.down:
            raise EngineUnavailable("the engine does not answer")
        return self.code

    def resize(self, container: str, rows: int, columns: int, *, exec_id: str = "") -> None:
        self.sizes.append((rows, columns))

    def end(self, code: int) -> None:
        """The newest program exits."""
        self.code = code
        self.programs[-1].close()


@pytest.fixture
def engine() -> Iterator[Any]:
    made = EngineStub()
    yield made
    for program in made.programs:
        program.close()


@pytest.fixture
def session_dir(tmp_path: Path) -> Iterator[Path]:
    """A session's folder, whose keeper is ended afterwards."""
    folder = tmp_path / "session"
    (folder / "run").mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    yield folder
    end_keeper(folder)
