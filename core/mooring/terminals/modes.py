"""Track the terminal modes that a program sets, as needed for detaching and attaching.

For the numbers see "DEC Private Mode Set" in "Xterm Control Sequences" (invisible-island.net).
"""

from __future__ import annotations

import re

# On by default: autowrap, cursor
_DEFAULT_ON = frozenset((7, 25))
# Cursor keys, autowrap, cursor, alternate screens, mouse, focus events, bracketed paste
_KNOWN = frozenset((1, 7, 25, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1047, 1049, 2004))
_SCREENS = frozenset((47, 1047, 1049))
_CHANGE = re.compile(rb"\x1b(?:\[\?([0-9;]{1,60})([hl])|(c)|([=>])|\[(!)p)")
_KEYPAD = 0
_LONGEST = 64
_LONGEST_TEXT = 4096
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[P\]X^_][^\x07\x1b]*\x1b?)?\Z")

# Queries, which a terminal answers on its input: the program that sent one reads the answer, but
# during a replay nothing does
QUESTIONS = re.compile(
    rb"\x05"  # ENQ (answerback)
    rb"|\x1b\[[>=?]?[0-9;]*[cn]"  # device attributes, status reports
    rb"|\x1b\[\??[0-9;]*\$p"  # modes
    rb"|\x1b\[(?:1[1-9]|2[01])(?:;[0-9]*)*t"  # window state
    rb"|\x1b\[\?u|\x1b\[>[0-9]*q|\x1b\[[0-9;]*x|\x1bZ"  # keyboard, version, parameters
    rb"|\x1bP[$+]q[^\x1b]*\x1b\\"  # settings, capabilities
    rb"|\x1b\](?:[0-9]+;)+\?(?:\x07|\x1b\\)"  # colours
    rb"|\x1b\]52;[^;\x07\x1b]*;[^\x07\x1b]*(?:\x07|\x1b\\)"  # clipboard, queried or set
)


class Modes:
    """Tracks the modes that a program's output sets.

    Args:
        changed: modes that differ from the default, from an earlier ``changed``; unknown numbers
            are ignored.
    """

    def __init__(self, changed: list[int] | None = None) -> None:
        self._changed = set(changed or ()) & (_KNOWN | {_KEYPAD})
        self._tail = b""

    @property
    def changed(self) -> list[int]:
        """The numbers of the modes that differ from the default."""
        return sorted(self._changed)

    @property
    def full_screen(self) -> bool:
        """Whether the program uses the alternate screen, as full-screen editors do."""
        return bool(self._changed & _SCREENS)

    def feed(self, data: bytes) -> None:
        """Process output, which may be split at any byte."""
        if b"\x1b" not in data and not self._tail:
            return
        data = self._tail + data
        end = 0
        for change in _CHANGE.finditer(data):
            end = change.end()
            numbers, letter, reset, keypad, soft_reset = change.groups()
            if reset or soft_reset:
                self._changed.clear()
            elif keypad:
                self._set(_KEYPAD, keypad == b"=")
            else:
                for number in numbers.split(b";"):
                    if number:
                        self._set(int(number), letter == b"h")
        last = data.rfind(b"\x1b", max(end, len(data) - _LONGEST))
        self._tail = data[last:] if last >= 0 else b""

    def _set(self, number: int, on: bool) -> None:
        if number not in _KNOWN and number != _KEYPAD:
            return
        if on == (number in _DEFAULT_ON):
            self._changed.discard(number)
        else:
            self._changed.add(number)

    def restored(self) -> bytes:
        """Return the bytes that set these modes on a terminal in its default state."""
        return b"".join(_put(number, number not in _DEFAULT_ON) for number in self.changed)

    def undone(self) -> bytes:
        """Return the bytes that reset a terminal with these modes to its default state."""
        resets = b"".join(_put(number, number in _DEFAULT_ON) for number in self.changed)
        return b"\x1b[0m" + resets if resets else b""


def _put(number: int, on: bool) -> bytes:
    if number == _KEYPAD:
        return b"\x1b=" if on else b"\x1b>"
    return b"\x1b[?%d%c" % (number, b"h" if on else b"l")


class Replay:
    """Filters earlier output that is replayed.

    Args:
        length: how many bytes are replayed.
        cut: whether they start in the middle of the output; the rest of the first line is then
            omitted, or everything up to the point where the program leaves the alternate screen.
    """

    def __init__(self, length: int, cut: bool) -> None:
        self.left = length
        self._cut = cut
        self._pending = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Split ``data`` into the filtered replay and the unchanged new output after it."""
        old, new = data[: self.left], data[self.left :]
        self.left -= len(old)
        old = self._pending + old
        self._pending = b""
        if self._cut:
            self._cut = False
            old = _from_a_line(old)
        if self.left:  # an escape sequence may continue in the next call
            unfinished = _UNFINISHED.search(old, max(0, len(old) - _LONGEST_TEXT))
            if unfinished:
                old, self._pending = old[: unfinished.start()], unfinished.group()
        return QUESTIONS.sub(b"", old), new


def _from_a_line(data: bytes) -> bytes:
    left = max(data.find(b"\x1b[?%dl" % number) for number in _SCREENS)
    entered = [data.find(b"\x1b[?%dh" % number) for number in _SCREENS]
    if left >= 0 and not any(0 <= at < left for at in entered):
        return data[data.index(b"l", left) + 1 :]
    end = data.find(b"\n")
    return data[end + 1 :] if end >= 0 else data
