"""Find the keys that detach this process's terminal from a terminal in a session.

A program may have switched the terminal to another encoding of keys: the kitty keyboard protocol
(Ctrl-P is ``CSI 112;5u``) or xterm's modifyOtherKeys (``CSI 27;5;112~``). The detach keys are found
in these too.
"""

from __future__ import annotations

import re

# Delay before what is held back is forwarded: a possible prefix of the detach keys, and the
# beginning of an escape sequence, which is also what the Escape key sends
KEY_TIMEOUT_S, ESCAPE_TIMEOUT_S = 0.5, 0.03

_LONGEST = 60
_TOKEN = re.compile(
    rb"(?P<part>\x1b(?:\[[0-?]{0,60}[ -/]{0,3})?\Z)"
    rb"|\x1b\[(?P<params>[0-9:;]{1,60})(?P<final>[u~])"
    rb"|\x1b\[[0-?]{0,60}[ -/]{0,3}[@-~]|\x1bO[ -~]"
    rb"|(?P<byte>.)",
    re.DOTALL,
)
_RELEASE = 3
_SHIFT, _CONTROL, _CAPS_LOCK, _NUM_LOCK = 1, 4, 64, 128
# Caps Lock to Num Lock, and left Shift to the level shifts
_MODIFIER_KEYS = frozenset((57358, 57359, 57360, *range(57441, 57455)))
_NOT_A_KEY, _ESCAPE = -1, 27
# What keys send with Ctrl, other than letters and @[\]^_
_WITH_CONTROL = {
    ord(" "): 0, ord("`"): 0, ord("2"): 0, ord("3"): 27, ord("4"): 28, ord("5"): 29, ord("6"): 30,
    ord("7"): 31, ord("/"): 31, ord("~"): 30, ord("8"): 127, ord("?"): 127,
}  # fmt: skip
_WITH_SHIFT_AND_CONTROL = {ord("-"): 31, ord("/"): 127}


class DetachKeys:
    """Finds the detach keys in the input, and holds back a possible prefix of them.

    Args:
        keys: the bytes of the keys, see ``mooring.terminals.pump.key_codes``; empty for none.

    Attributes:
        pending_since: the time that was passed to the last ``feed``.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = list(keys)
        self._start = re.compile(b"[\x1b" + re.escape(keys[:1]) + b"]")
        self._held: list[tuple[bytes, int | None]] = []  # a prefix: as typed, and the key's code
        self._part = b""  # the beginning of an escape sequence
        self.pending_since = 0.0

    @property
    def pending(self) -> bytes:
        """The bytes held back."""
        return b"".join(typed for typed, _ in self._held) + self._part

    @property
    def deadline(self) -> float | None:
        """When ``flush`` is due, by the clock of ``feed``; None while nothing is held back."""
        if self._held:
            return self.pending_since + KEY_TIMEOUT_S
        return self.pending_since + ESCAPE_TIMEOUT_S if self._part else None

    def feed(self, data: bytes, now: float) -> tuple[bytes, bool]:
        """Process input.

        Args:
            data: the new input.
            now: the current time in seconds, of any clock.

        Returns:
            The bytes to forward, and whether the detach keys follow them.
        """
        if not self._keys:
            return data, False
        data, self._part, self.pending_since = self._part + data, b"", now
        forward = bytearray()
        at = 0
        while at < len(data):
            if not self._held:
                start = self._start.search(data, at)
                end = start.start() if start else len(data)
                forward += data[at:end]
                at = end
            token = _TOKEN.match(data, at)
            if token is None:
                break
            at = token.end()
            if token["part"] and (token["part"] != b"\x1b" or _ESCAPE not in self._keys):
                self._part = token["part"]
                break
            self._held.append((token.group(), _ESCAPE if token["part"] else _code(token)))
            codes = [code for _, code in self._held if code is not None]
            if codes == self._keys:
                self._held.clear()
                return bytes(forward), True
            while codes != self._keys[: len(codes)] or (self._held and not codes):
                typed, code = self._held.pop(0)
                forward += typed
                codes = codes[code is not None :]
        return bytes(forward), False

    def flush(self) -> bytes:
        """Return the bytes held back, which are to be forwarded after ``deadline``."""
        data = self.pending
        self._held.clear()
        self._part = b""
        return data


def _code(token: re.Match[bytes]) -> int | None:
    """Return the byte that a key sends in the terminal's usual encoding.

    Returns:
        The byte; -1 for keys that do not send one; None for what may come between two keys: the
        release of a key, and modifiers.
    """
    if token["byte"]:
        return token["byte"][0]
    if token["params"] is None:
        return _NOT_A_KEY
    fields = token["params"].split(b";")
    if token["final"] == b"~":
        if fields[0] != b"27" or len(fields) != 3:
            return _NOT_A_KEY
        fields = [fields[2], fields[1]]
    key, shifted, base = _numbers(fields[0], 3)
    modifiers, event = _numbers(fields[1], 2) if len(fields) > 1 else (0, 0)
    text = _numbers(fields[2], 1)[0] if len(fields) > 2 else 0
    if event == _RELEASE or key in _MODIFIER_KEYS:
        return None
    modifiers = max(0, modifiers - 1)
    caps = modifiers & _CAPS_LOCK
    modifiers &= ~(_CAPS_LOCK | _NUM_LOCK)
    if modifiers & ~(_SHIFT | _CONTROL):
        return _NOT_A_KEY
    if modifiers & _CONTROL:
        return _with_control(base if key > 127 and base else key, shifted, modifiers & _SHIFT)
    if chr(key).isalpha():
        shifted, modifiers = ord(chr(key).upper()[0]), bool(caps) != bool(modifiers)
    sent = text or (shifted if modifiers else 0) or key
    return sent if sent < 128 else _NOT_A_KEY


def _with_control(key: int, shifted: int, shift: int) -> int:
    if shift and not chr(key).isalpha():
        if key in _WITH_SHIFT_AND_CONTROL and not shifted:
            return _WITH_SHIFT_AND_CONTROL[key]
        key = shifted or key
    if ord("@") <= key <= ord("_") or ord("a") <= key <= ord("z"):
        return key & 31
    return _WITH_CONTROL.get(key, _NOT_A_KEY)


def _numbers(field: bytes, count: int) -> list[int]:
    """Return the first numbers of a field, whose parts are separated by colons; 0 for none."""
    numbers = [int(part or 0) for part in field.split(b":")[:count]]
    numbers = [number if number < 0x110000 else 0 for number in numbers]
    return numbers + [0] * (count - len(numbers))
