"""mooring: containers declared once, opened as notebook kernels and as shells.

The names below are the public API; each is imported when it is first used, so that
``import mooring`` costs nothing on the command line.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers have it; a keeper of terminals does without typing

__version__ = "0.1.0"

_HOMES = {
    "Mooring": "mooring.service",
    "Session": "mooring.sessions.model",
    "State": "mooring.sessions.model",
    "SessionSpec": "mooring.spec.model",
    "resolve": "mooring.spec.resolve",
    "MooringError": "mooring.errors",
    "Engine": "mooring.engines.base",
    "FakeEngine": "mooring.engines.fake",
}

__all__ = [
    "Engine",
    "FakeEngine",
    "Mooring",
    "MooringError",
    "Session",
    "SessionSpec",
    "State",
    "__version__",
    "resolve",
]

if TYPE_CHECKING:
    from typing import Any

    from mooring.engines.base import Engine
    from mooring.engines.fake import FakeEngine
    from mooring.errors import MooringError
    from mooring.service import Mooring
    from mooring.sessions.model import Session, State
    from mooring.spec.model import SessionSpec
    from mooring.spec.resolve import resolve


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mooring' has no attribute {name!r}")
