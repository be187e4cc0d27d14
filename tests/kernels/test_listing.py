"""The kernels of a session, as its run folder tells."""

from __future__ import annotations

import os

from mooring.kernels.listing import KernelEntry, kernels_of
from mooring.sessions.folder import SessionFolder
from tests.support.sessions import folder

__all__ = ["folder"]


def test_kernels_of_a_session(folder: SessionFolder) -> None:
    """Every kernel's folder is told, the dead ones' too, in whatever state their files are."""
    files = {
        "a": {"busy": "busy 3"},
        "b": {"busy": "idle 7", "exit": '{"code": 1}'},
        "c": {},
        "d": {"busy": "busy many"},
    }
    for name, contents in files.items():
        (folder.run / "k" / name).mkdir()
        for file, text in contents.items():
            (folder.run / "k" / name / file).write_text(text)
    assert kernels_of(folder.guest) == [
        KernelEntry("a", True, 3, None),
        KernelEntry("b", False, 7, '{"code": 1}'),
        KernelEntry("c", False, 0, None),
        KernelEntry("d", True, 0, None),
    ]


def test_a_name_that_no_kernel_has_is_none(folder: SessionFolder) -> None:
    """What runs in a session may make any name there; only those that a kernel can have count."""
    for name in (b"\xffaaa", b"a b", b"a\n", b"a" * 41, "é".encode(), b"aaa-1"):
        os.mkdir(os.fsencode(folder.run) + b"/k/" + name)
    assert [kernel.id for kernel in kernels_of(folder.guest)] == ["aaa-1"]
