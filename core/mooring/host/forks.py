"""State that a forked process must not share with its parent: locks, connections, descriptors.

Clients may fork after they have used mooring; ``multiprocessing`` does so by default on Linux
before Python 3.14.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """An object that is told when it is in a forked process."""

    def after_fork(self) -> None:
        """Give up what belongs to the parent; called in the child, before any other code of it."""


_known: weakref.WeakSet[Forked] = weakref.WeakSet()


def watch(thing: Forked) -> None:
    """Have an object's ``after_fork`` called in every forked process, for as long as it exists."""
    _known.add(thing)


def _after_fork() -> None:
    for thing in list(_known):
        thing.after_fork()


os.register_at_fork(after_in_child=_after_fork)
