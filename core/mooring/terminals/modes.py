"""How a program has set the terminal that it draws on, as far as leaving and coming back needs.

See "Xterm Control Sequences" (invisible-island.net), "DEC Private Mode Set", for the numbers.
"""

from __future__ import annotations

import re

# On where no program has said otherwise: wrapping, the cursor
_USUALLY_ON = frozenset((7, 25))
# Cursor keys, wrapping, cursor, screens, mouse, focus, bracketed paste
_KNOWN = frozenset((1, 7, 25, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1047, 1049, 2004))
_SCREENS = frozenset((47, 1047, 1049))
_CHANGE = re.compile(rb"\x1b(?:\[\?([0-9;]{1,60})([hl])|(c)|([=>])|\[(!)p)")
_KEYPAD = 0
_LONGEST = 64
_LONGEST_TEXT = 4096
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[P\]X^_][^\x07\x1b]*\x1b?)?\Z")

# What makes a terminal answer, as if its user had typed: for programs that wait for that, never
# for a replay
QUESTIONS = re.compile(
    rb"\x05"  # who are you
    rb"|\x1b\[[>=?]?[0-9;]*[cn]"  # device attributes, status reports
    rb"|\x1b\[\??[0-9;]*\$p"  # modes
    rb"|\x1b\[(?:1[1-9]|2[01])(?:;[0-9]*)*t"  # the window's state
    rb"|\x1b\[\?u|\x1b\[>[0-9]*q|\x1b\[[0-9;]*x|\x1bZ"  # keyboard, version, parameters
    rb"|\x1bP[$+]q[^\x1b]*\x1b\\"  # settings, capabilities
    rb"|\x1b\](?:[0-9]+;)+\?(?:\x07|\x1b\\)"  # colours
    rb"|\x1b\]52;[^;\x07\x1b]*;[^\x07\x1b]*(?:\x07|\x1b\\)"  # the clipboard, asked for or set
)


class Modes:
    """Reads along with what a program prints.

    Args:
        changed: those that are not as usual, as ``changed`` told.
    """

    def __init__(self, changed: list[int] | None = None) -> None:
        self._changed = set(changed or ()) & (_KNOWN | {_KEYPAD})
        self._tail = b""

    @property
    def changed(self) -> list[int]:
        """The numbers of the modes that are not as usual."""
        return sorted(self._changed)

    @property
    def full_screen(self) -> bool:
        """Whether a program draws on the other screen, as editors do."""
        return bool(self._changed & _SCREENS)

    def feed(self, data: bytes) -> None:
        if b"\x1b" not in data and not self._tail:
            return
        data = self._tail + data
        end = 0
        for found in _CHANGE.finditer(data):
            end = found.end()
            numbers, way, reset, keypad, soft = found.groups()
            if reset or soft:
                self._changed.clear()
            elif keypad:
                self._set(_KEYPAD, keypad == b"=")
            else:
                for number in numbers.split(b";"):
                    if number:
                        self._set(int(number), way == b"h")
        last = data.rfind(b"\x1b", max(end, len(data) - _LONGEST))
        self._tail = data[last:] if last >= 0 else b""

    def _set(self, number: int, on: bool) -> None:
        if number not in _KNOWN and number != _KEYPAD:
            return
        if on == (number in _USUALLY_ON):
            self._changed.discard(number)
        else:
            self._changed.add(number)

    def restored(self) -> bytes:
        """What brings a terminal that is as usual to where this one stands."""
        return b"".join(_put(number, number not in _USUALLY_ON) for number in self.changed)

    def undone(self) -> bytes:
        """What brings this terminal back to where it is as usual."""
        back = b"".join(_put(number, number in _USUALLY_ON) for number in self.changed)
        return b"\x1b[0m" + back if back else b""


def _put(number: int, on: bool) -> bytes:
    if number == _KEYPAD:
        return b"\x1b=" if on else b"\x1b>"
    return b"\x1b[?%d%c" % (number, b"h" if on else b"l")


class Replay:
    """What was printed earlier, made fit to be shown once more.

    Args:
        length: bytes that are shown once more.
        cut: it begins somewhere: the rest of the first line, and of a full screen that is left
            in it, goes.
    """

    def __init__(self, length: int, cut: bool) -> None:
        self.left = length
        self._cut = cut
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What to show of it, and what comes after the replay, as it came."""
        old, new = data[: self.left], data[self.left :]
        self.left -= len(old)
        old = self._held + old
        self._held = b""
        if self._cut:
            self._cut = False
            old = _from_a_line(old)
        if self.left:  # a sequence may end in the next piece
            unfinished = _UNFINISHED.search(old, max(0, len(old) - _LONGEST_TEXT))
            if unfinished:
                old, self._held = old[: unfinished.start()], unfinished.group()
        return QUESTIONS.sub(b"", old), new


def _from_a_line(data: bytes) -> bytes:
    left = max(data.find(b"\x1b[?%dl" % number) for number in _SCREENS)
    entered = [data.find(b"\x1b[?%dh" % number) for number in _SCREENS]
    if left >= 0 and not any(0 <= at < left for at in entered):
        return data[data.index(b"l", left) + 1 :]
    end = data.find(b"\n")
    return data[end + 1 :] if end >= 0 else data
