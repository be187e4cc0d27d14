"""What a keeper holds: the terminals of its session, and the connections of its clients."""

from __future__ import annotations

import contextlib
import json
import os
import socket

from mooring.terminals.keeper import protocol as wire
from mooring.terminals.keeper.spool import Spool
from mooring.terminals.modes import Modes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNTOLD, ASKED, TOLD = 0, 1, 2


class Terminal:
    """One terminal of the session, alive or ended."""

    def __init__(self, name: str, about: dict[str, Any]) -> None:
        self.name = name
        self.about = about
        self.stream: socket.socket | None = None
        self.modes = Modes(about.get("modes"))
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700)
        self.spool = Spool(f"{name}/spool")
        self.typed = bytearray()
        self.taken: dict[str, int] = {}  # bytes typed by each client, by its own name
        self.size: list[int] = list(about.get("size") or (24, 80))
        self.cut_at = 0.0  # when the stream ended, and nobody has said why yet
        self.fetched = False

    @property
    def code(self) -> int | None:
        code = self.about.get("code")
        return code if isinstance(code, int) else None

    @property
    def ended(self) -> bool:
        return self.code is not None or bool(self.about.get("lost"))

    def save(self) -> None:
        with contextlib.suppress(OSError):
            draft = f"{self.name}/.about"
            with open(draft, "w") as file:
                json.dump(self.about | {"modes": self.modes.changed}, file)
            os.replace(draft, f"{self.name}/about")

    def remove(self) -> None:
        self.close()
        self.spool.remove()
        for name in ("about", ".about"):
            with contextlib.suppress(OSError):
                os.unlink(f"{self.name}/{name}")
        with contextlib.suppress(OSError):
            os.rmdir(self.name)

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.frames = wire.Frames()
        self.out = bytearray()
        self.fds: list[int] = []
        self.terminal: Terminal | None = None
        self.name = ""
        self.position = 0
        self.size = [0, 0]
        self.active_at = 0.0
        self.moved_at = 0.0
        self.abreast = False  # it has once had all there was: the program waits for it
        self.told = UNTOLD

    def say(self, op: str, **fields: Any) -> None:
        self.out += wire.said(op, **fields)

    @property
    def behind(self) -> int:
        return self.terminal.spool.end - self.position if self.terminal else 0
