"""Options of a launch that are not part of the spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LaunchOptions:
    """Options of a launch that are not part of the spec.

    Attributes:
        name: overrides the spec's; one is generated if both are empty.
        tty: give the main process a terminal.
        size: rows and columns of that terminal.
        attach: attach to the main process before it starts, so that no output is missed.
        detach_keys: detach key sequence of that stream, as ``docker attach`` takes it.
        remove: remove the session when its main process exits.
        notebook: absolute path of the notebook that it is created for.
        ends_with_kernels: it is created for a kernel, and is removed with its last one.
        enqueue: leave the launch to the dispatcher and return at once.
        files: files and folders to copy to the session's private home before it starts.
    """

    name: str = ""
    tty: bool = False
    size: tuple[int, int] = (24, 80)
    attach: bool = False
    detach_keys: str = ""
    remove: bool = False
    notebook: str = ""
    ends_with_kernels: bool = False
    enqueue: bool = False
    files: tuple[Path, ...] = ()
