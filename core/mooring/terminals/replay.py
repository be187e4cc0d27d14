"""Filter the earlier output of a terminal that is shown to a client that attaches."""

from __future__ import annotations

import re

from mooring.terminals.modes import SCREENS
from mooring.terminals.sequences import LONGEST, UNFINISHED

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
        """Split ``data`` into the filtered replay and the new output after it.

        The new output begins with the escape sequence that the replay ends in the middle of.
        """
        old, new = data[: self.left], data[self.left :]
        self.left -= len(old)
        old = self._pending + old
        self._pending = b""
        if self._cut:
            self._cut = False
            old = _from_a_line(old)
        unfinished = UNFINISHED.search(old, max(0, len(old) - LONGEST))
        if unfinished:
            old, self._pending = old[: unfinished.start()], unfinished.group()
        if not self.left:
            new, self._pending = self._pending + new, b""
        return QUESTIONS.sub(b"", old), new


def _from_a_line(data: bytes) -> bytes:
    left = max(data.find(b"\x1b[?%dl" % number) for number in SCREENS)
    entered = [data.find(b"\x1b[?%dh" % number) for number in SCREENS]
    if left >= 0 and not any(0 <= at < left for at in entered):
        return data[data.index(b"l", left) + 1 :]
    end = data.find(b"\n")
    return data[end + 1 :] if end >= 0 else data
