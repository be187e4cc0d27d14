"""Print the recorded output of a session's kernels, for ``logs --kernel``."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any

from mooring import BUNDLES, SessionNotFound
from mooring_cli.output import clean, note

if TYPE_CHECKING:
    from mooring import Message, Mooring, Reader

POLL_S = 0.3
LONGEST_LINE = 1 << 16
# Colours and font weights, as in tracebacks, but no sequence that moves the cursor
_STYLES = re.compile(r"\033\[[0-9;]{0,40}m")


def print_kernels(mooring: Mooring, session_id: str, prefix: str, *, follow: bool) -> None:
    """Print the recorded output of a session's kernels, one kernel after another.

    Args:
        mooring: the core.
        session_id: the session's id.
        prefix: the start of a kernel's id; empty for all kernels.
        follow: print new output until the kernels have ended.

    Raises:
        SessionNotFound: no kernel's id starts with ``prefix``.
    """
    printers: dict[str, _Printer] = {}
    while True:
        # check before reading, so that a kernel's last output is printed
        kernels = mooring.kernels.list(session_id)
        alive = {kernel.id for kernel in kernels if kernel.exit is None}
        ended = mooring.records.has_ended(session_id)
        for kernel_id in _select([kernel.id for kernel in kernels], prefix):
            if kernel_id not in printers:
                printers[kernel_id] = _Printer(mooring.kernels.recording(session_id, kernel_id))
        for printer in printers.values():
            printer.print_new(several=len(printers) > 1)
        if not follow or ended or not alive & printers.keys():
            break
        time.sleep(POLL_S)
    if not printers:
        note("it has no kernels; what a kernel printed is removed when the kernel is shut down")
    elif not any(printer.printed for printer in printers.values()):
        note("its kernels have printed nothing")
    for printer in printers.values():
        if printer.reader.lost_bytes:
            note(f"{printer.reader.lost_bytes} bytes of kernel {printer.reader.id} were discarded")


def _select(kernels: list[str], prefix: str) -> list[str]:
    selected = [kernel for kernel in kernels if kernel.startswith(prefix)]
    if prefix and not selected:
        raise SessionNotFound(
            f"the session has no kernel {prefix}",
            f"its kernels: {', '.join(kernels)}" if kernels else "it has had no kernels yet",
        )
    return selected


class _Printer:
    """Prints a kernel's messages in order, with a header for each execution."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.printed = False
        self._heads: dict[str, str] = {}
        self._under: str | None = None
        self._unfinished = ""  # the last line of a stream, which may continue or be overwritten
        self._in_a_line = False

    def print_new(self, *, several: bool) -> None:
        """Print output recorded since the last call; if ``several``, headers name the kernel."""
        for message in self.reader.messages():
            self.printed = True
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
    """Return the text of a message, or an empty string if it has none."""
    content = message.content
    text: Any = None
    if message.kind == "stream":
        text = content.get("text")
    elif message.kind in BUNDLES and isinstance(data := content.get("data"), dict):
        text = data.get("text/plain")
    elif message.kind == "error":
        lines = content.get("traceback")
        texts = [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
        text = "\n".join(texts) or f"{content.get('ename')}: {content.get('evalue')}"
    return text if isinstance(text, str) else ""


def _printable(text: str) -> str:
    """Remove control sequences from a kernel's text, except for colours at a terminal."""
    text = _overwritten(text)
    plain = [clean(part) for part in _STYLES.split(text)]
    if len(plain) == 1 or not sys.stdout.isatty():
        return "".join(plain)
    styles = [*_STYLES.findall(text), "\033[0m"]
    return "".join(part + style for part, style in zip(plain, styles, strict=True))


def _overwritten(text: str) -> str:
    """Return the text that remains visible after carriage returns and backspaces."""
    if "\b" in text:
        kept: list[str] = []
        for character in text:
            if character != "\b":
                kept.append(character)
            elif kept and kept[-1] not in "\r\n":
                kept.pop()
        text = "".join(kept)
    if "\r" in text:
        lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
        text = "\n".join(lines)
    return text
