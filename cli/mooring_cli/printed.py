"""What a session's kernels printed, for ``logs --kernel``."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any

from mooring.errors import SessionNotFound
from mooring.kernels.recording import BUNDLES, Message, Reader
from mooring_cli.output import clean, note

if TYPE_CHECKING:
    from mooring.sessions.record import Folder

FOLLOW_S = 0.3
LONGEST_LINE = 1 << 16
# Colours and weights: what a traceback is painted with, and nothing that moves the cursor
_PAINT = re.compile(r"\033\[[0-9;]{0,40}m")


def print_kernels(folder: Folder, wanted: str, *, follow: bool) -> None:
    """Print what is recorded of a session's kernels, one after another.

    Args:
        wanted: a kernel's id or the start of one; "" for all.
        follow: go on until the kernels have ended; all of them at once.

    Raises:
        SessionNotFound: there is no such kernel.
    """
    printers: dict[str, _Printer] = {}
    while True:
        # looked at before the reading: what a kernel says at its end is printed
        alive = {kernel.id for kernel in folder.kernels() if kernel.exit is None}
        ended = folder.end() is not None or not folder.exists
        for kernel_id in _chosen(folder, wanted):
            printers.setdefault(kernel_id, _Printer(Reader(folder, kernel_id)))
        for printer in printers.values():
            printer.print_new(several=len(printers) > 1)
        if not follow or ended or not alive & printers.keys():
            break
        time.sleep(FOLLOW_S)
    for printer in printers.values():
        if printer.reader.lost_bytes:
            note(f"{printer.reader.lost_bytes} bytes of {printer.reader.id} are not kept any more")


def _chosen(folder: Folder, wanted: str) -> list[str]:
    kernels = [kernel.id for kernel in folder.kernels()]
    chosen = [kernel for kernel in kernels if kernel.startswith(wanted)]
    if wanted and not chosen:
        raise SessionNotFound(
            f"the session has no kernel {wanted}",
            f"its kernels: {', '.join(kernels)}" if kernels else "it had no kernel yet",
        )
    return chosen


class _Printer:
    """Prints one kernel's messages in their order, each execution under a line of its own."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._heads: dict[str, str] = {}
        self._under: str | None = None
        self._unfinished = ""  # a line of a stream that may go on, or begin again
        self._in_a_line = False

    def print_new(self, *, several: bool) -> None:
        for message in self.reader.messages():
            if message.kind == "execute_input":
                self._heads[message.parent] = _head(message)
                if not message.again:
                    self._print_head(message, several)
            text = _text(message)
            if text and message.parent != self._under:
                self._print_head(message, several)
            if message.kind == "stream":
                self._print_stream(text)
            elif text:
                self._finish_line()
                sys.stdout.write(_printable(text) + "\n")
        self._print_unfinished()
        sys.stdout.flush()

    def _print_head(self, message: Message, several: bool) -> None:
        self._finish_line()
        self._under = message.parent
        of = f"{self.reader.id} " if several else ""
        sys.stdout.write(f"── {of}{self._heads.get(message.parent) or _stamp(message.at)}\n")

    def _print_stream(self, text: str) -> None:
        if self._in_a_line and text.startswith("\r"):
            self._finish_line()
        lines, newline, self._unfinished = (self._unfinished + text).rpartition("\n")
        if newline:
            sys.stdout.write(_printable(lines) + "\n")
            self._in_a_line = False
        if len(self._unfinished) > LONGEST_LINE:
            self._print_unfinished()

    def _print_unfinished(self) -> None:
        if self._unfinished:
            sys.stdout.write(_printable(self._unfinished))
            self._unfinished = ""
            self._in_a_line = True

    def _finish_line(self) -> None:
        self._print_unfinished()
        if self._in_a_line:
            sys.stdout.write("\n")
        self._in_a_line = False


def _head(message: Message) -> str:
    code = message.content.get("code")
    lines = code.strip().splitlines() if isinstance(code, str) else []
    count = message.content.get("execution_count")
    number = f"[{count}] " if isinstance(count, int) else ""
    return f"{_stamp(message.at)} {number}{clean(lines[0]) if lines else ''}".rstrip()


def _stamp(at: float) -> str:
    try:
        return time.strftime("%F %T", time.localtime(at))
    except (OverflowError, OSError, ValueError):
        return "?"


def _text(message: Message) -> str:
    """What a message shows on a terminal."""
    content = message.content
    shown: Any = None
    if message.kind == "stream":
        shown = content.get("text")
    elif message.kind in BUNDLES and isinstance(data := content.get("data"), dict):
        shown = data.get("text/plain")
    elif message.kind == "error":
        lines = content.get("traceback")
        texts = [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
        shown = "\n".join(texts) or f"{content.get('ename')}: {content.get('evalue')}"
    return shown if isinstance(shown, str) else ""


def _printable(text: str) -> str:
    """A kernel's text without what drives a terminal; colours are kept where one shows them."""
    text = _overwritten(text)
    plain = [clean(part) for part in _PAINT.split(text)]
    if len(plain) == 1 or not sys.stdout.isatty():
        return "".join(plain)
    paint = [*_PAINT.findall(text), "\033[0m"]
    return "".join(part + colour for part, colour in zip(plain, paint, strict=True))


def _overwritten(text: str) -> str:
    """As it looks once a progress bar has gone back to the beginning of its line."""
    if "\b" in text:
        seen: list[str] = []
        for character in text:
            if character != "\b":
                seen.append(character)
            elif seen and seen[-1] not in "\r\n":
                seen.pop()
        text = "".join(seen)
    if "\r" in text:
        lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
        text = "\n".join(lines)
    return text
