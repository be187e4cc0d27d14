"""A socket that nobody closed says where it was made.

Python warns of it whenever it collects garbage, in some other test, and with nothing but a number.
"""

from __future__ import annotations

import socket
import sys
from types import FrameType
from typing import Any

#: How many callers are remembered of each.
CALLERS = 12
_made: dict[int, list[str]] = {}
_init, _repr = socket.socket.__init__, socket.socket.__repr__


def _remembering(self: socket.socket, *arguments: Any, **options: Any) -> None:
    _init(self, *arguments, **options)
    callers: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(callers) < CALLERS:
        callers.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    _made[id(self)] = callers


def _telling(self: socket.socket) -> str:
    return f"{_repr(self)} made at {' < '.join(_made.get(id(self), ['?']))}"


def remember_makers() -> None:
    """Let the text of each socket that is made from now on say by whom."""
    socket.socket.__init__ = _remembering  # type: ignore[method-assign]
    socket.socket.__repr__ = _telling  # type: ignore[method-assign]
