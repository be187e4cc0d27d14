"""What a forked process must not share with its parent."""

from __future__ import annotations

import gc
import os
import weakref

from mooring.host import forks


class Thing:
    def __init__(self) -> None:
        self.forked = False

    def after_fork(self) -> None:
        self.forked = True


def test_only_the_child_is_told() -> None:
    """It gives up what is its parent's, which keeps it."""
    thing = Thing()
    forks.watch(thing)
    child = os.fork()
    if child == 0:
        os._exit(0 if thing.forked else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not thing.forked


def test_nothing_is_kept_for_a_fork() -> None:
    """A client that starts thousands of kernels does not keep each of them."""
    thing = Thing()
    forks.watch(thing)
    known = weakref.ref(thing)
    del thing
    gc.collect()
    assert known() is None
