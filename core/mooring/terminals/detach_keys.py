"""Find the keys that detach this process's terminal from a terminal in a session.

A program may have switched the terminal to another encoding of keys: the kitty keyboard protocol
(Ctrl-P is ``CSI 112;5u``), xterm's modifyOtherKeys (``CSI 27;5;112~``) or Windows' key events
(``CSI 80;25;16;1;8;1_``). The detach keys are found in these too.

A terminal also sends reports, which a program can ask for at any time: of the cursor's position,
the mouse, and so on. These are not keys: they are passed on, and detach keys may have them between
them. Else a program that asks all the time could not be left.
"""

from __future__ import annotations

import re

# Delay before what is held back is forwarded: a possible prefix of the detach keys, and the
# beginning of an escape sequence, which is also what the Escape key sends
KEY_TIMEOUT_S, ESCAPE_TIMEOUT_S = 0.5, 0.03
# Bytes of reports held back after a key; terminals send fewer in that time
_MOST_HELD = 1 << 20

# The beginning of a control sequence; of eight bits after ``ESC SP G``, which may be UTF-8
_CSI = rb"(?:\x1b\[|\xc2?\x9b)"
# A longer one is a report
_PARAMS = rb"[0-?]{0,250}"
# Mouse reports of old have three characters, or two or six: UTF-8 (mode 1005) or bytes, and 0 for
# what is too large. Where both are possible it is UTF-8, unless a control character follows.
_UTF8, _RAW = rb"(?:[\xc2-\xdf][\x80-\xbf]|[\x00 -\x7f])", rb"[\x00 -\xff]"
_MICE = (b"M", 3), (b"t", 2), (b"T", 6)
_MOUSE, _RAW_MOUSE = (
    b"|".join(b"%s%s{%d}" % (final, character, count) for final, count in _MICE)
    for character in (_UTF8, _RAW)
)
_PART_OF_MOUSE = b"|".join(
    b"%s(?:%s{0,%d}|%s{0,%d}[\xc2-\xdf]?)" % (final, _RAW, count - 1, _UTF8, count - 1)
    for final, count in _MICE
)
_TOKEN = re.compile(
    b"|".join(
        [
            rb"(?P<report>%s(?:%s)|\x1b/Z)" % (_CSI, _MOUSE),
            rb"(?P<part>(?:\x1b[P\]_/]?|\xc2[\x90\x9d\x9f]?|[\x90\x9d\x9f]"
            rb"|%s(?:%s[ -/]{0,3}|%s))\Z)" % (_CSI, _PARAMS, _PART_OF_MOUSE),
            rb"%s(?:%s)" % (_CSI, _RAW_MOUSE),
            # How strings begin that terminals send; Alt and a key sends the first two bytes
            (
                rb"(?P<string>(?:\x1bP|\xc2?\x90)(?=[!$+0-9>{|])|(?:\x1b_|\xc2?\x9f)(?=G)"
                rb"|(?:\x1b\]|\xc2?\x9d)(?=[0-9ILl]))"
            ),
            rb"(?P<csi>%s)(?P<params>%s)(?P<between>[ -/]{0,3})(?P<final>[@-~])" % (_CSI, _PARAMS),
            rb"(?P<long>%s[ -?]{250})" % _CSI,
            rb"(?P<ss3>\x1bO[ -~])",
            rb"(?P<byte>.)",
        ]
    ),
    re.DOTALL,
)
# The rest of a report, which is passed on as it comes, up to its end or to what it cannot contain
_REST_OF_STRING = re.compile(rb"[^\x00-\x1f]*(?P<end>\x07|\x1b\\)?")
_REST_OF_C1_STRING = re.compile(rb"[^\x00-\x1f\x9c]*(?P<end>\x07|\x1b\\|\x9c)?")
_REST_OF_CSI = re.compile(rb"[ -?]*(?P<end>[@-~])?")
# The last characters of control sequences that keys send; F3 (``CSI R``) looks like a report
_KEY_FINALS = b"@ABCDEFGHPQSZ[^_abcdu~"
_PASTE = (b"200", b"201")
_RELEASE = re.compile(rb"[^;]*;[^;:]*:3(?:;|\Z)")
_SHIFT, _CONTROL, _CAPS_LOCK, _NUM_LOCK = 1, 4, 64, 128
# Caps Lock to Num Lock, and left Shift to the level shifts
_MODIFIER_KEYS = frozenset((57358, 57359, 57360, *range(57441, 57455)))
# Windows' codes of modifier keys, and its modifiers
_WINDOWS_MODIFIER_KEYS = frozenset((16, 17, 18, 20, 91, 92, 144, 145, *range(160, 166)))
_WINDOWS_ALT, _WINDOWS_CONTROL = 3, 12
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
        pending_since: the time that was passed to the ``feed`` of the last key held back; without
            one, to the last ``feed``.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = list(keys)
        starts = rb"[\x1b%s]|(?:(?<![\x80-\xff])|(?<=\xc2))\x9b" % re.escape(keys[:1])
        self._start = re.compile(starts)
        # A prefix: each key's code, and its bytes as typed with the reports that followed it
        self._held: list[tuple[bytearray, int]] = []
        self._part = b""  # the beginning of an escape sequence
        self._rest: re.Pattern[bytes] | None = None  # of a report whose beginning was passed on
        self.pending_since = 0.0

    @property
    def pending(self) -> bytes:
        """The bytes held back."""
        return b"".join(typed for typed, _ in self._held) + self._part

    @property
    def deadline(self) -> float | None:
        """When ``flush`` is due, by the clock of ``feed``; None while nothing is held back."""
        if self._held or (self._rest and not self._part):
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
        data, self._part = self._part + data, b""
        forward = bytearray()
        at, detached = 0, False
        while at < len(data) and not self._part and not detached:
            if self._rest:
                at = self._pass_rest(self._rest, data, at, forward)
                continue
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
            code, count = (_ESCAPE, 1) if token["part"] else _key(token)
            if code is None:
                self._pass(token.group(), forward)
                self._rest = _rest(token)
            else:
                self.pending_since = now
                detached = self._press(token.group(), code, count, forward)
        if not self._held:
            self.pending_since = now
        return bytes(forward), detached

    def _press(self, typed: bytes, code: int, count: int, forward: bytearray) -> bool:
        """Process a key that was pressed some times; return whether it ends the detach keys."""
        for _ in range(min(count, len(self._keys))):
            self._held.append((bytearray(typed), code))
            typed = b""
            codes = [code for _, code in self._held]
            if codes == self._keys:
                self._held.clear()
                return True
            while codes != self._keys[: len(codes)]:
                forward += self._held.pop(0)[0]
                del codes[0]
        forward += typed
        return False

    def _pass(self, report: bytes, forward: bytearray) -> None:
        """Pass on what is not a key, after the keys held back."""
        if self._held:
            self._held[-1][0].extend(report)
            if len(self._held[-1][0]) > _MOST_HELD:
                forward += b"".join(typed for typed, _ in self._held)
                self._held.clear()
        else:
            forward += report

    def _pass_rest(self, rest: re.Pattern[bytes], data: bytes, at: int, forward: bytearray) -> int:
        """Pass on the rest of a report; return where it ends."""
        match = rest.match(data, at)
        end = match.end() if match else at
        self._pass(data[at:end], forward)
        if data[end:] == b"\x1b":  # perhaps the end of a string
            self._part = b"\x1b"
        elif end < len(data) or (match and match["end"]):
            self._rest = None
        return end

    def flush(self) -> bytes:
        """Return the bytes held back, which are to be forwarded after ``deadline``."""
        data = self.pending
        self._held.clear()
        self._part, self._rest = b"", None
        return data


def _rest(token: re.Match[bytes]) -> re.Pattern[bytes] | None:
    """Return what the rest of a report looks like; None if it is complete."""
    if token["long"]:
        return _REST_OF_CSI
    if token["string"]:
        return _REST_OF_STRING if token["string"][:1] == b"\x1b" else _REST_OF_C1_STRING
    return None


def _key(token: re.Match[bytes]) -> tuple[int | None, int]:
    """Return the byte that a key sends in the terminal's usual encoding, and how often.

    Returns:
        The byte; -1 for keys that do not send one; None for what may come between two keys:
        reports, the release of a key, and modifiers.
    """
    if token["byte"]:
        return token["byte"][0], 1
    if token["ss3"]:
        return _NOT_A_KEY, 1
    params, final = token["params"], token["final"]
    if not final or token["between"] or params[:1] in (b"<", b"=", b">", b"?"):
        return None, 1
    if final not in _KEY_FINALS or _RELEASE.match(params):
        return None, 1
    fields = params.split(b";")
    if final == b"~" and fields[0] in _PASTE:
        return None, 1
    if final not in b"u~_" or params.strip(b"0123456789:;") or not params:
        return _NOT_A_KEY, 1
    if final == b"_":
        return _windows_key(fields)
    if final == b"~":
        if fields[0] != b"27" or len(fields) != 3:
            return _NOT_A_KEY, 1
        fields = [fields[2], fields[1]]
    return _extended_key(fields), 1


def _extended_key(fields: list[bytes]) -> int | None:
    """Return the byte that a key sends, from the fields of the kitty keyboard protocol."""
    key, shifted, base = _numbers(fields[0], 3)
    modifiers = _numbers(fields[1], 1)[0] if len(fields) > 1 else 0
    text = _numbers(fields[2], 1)[0] if len(fields) > 2 else 0
    if key in _MODIFIER_KEYS:
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


def _windows_key(fields: list[bytes]) -> tuple[int | None, int]:
    """Return the byte that a key sends and how often, from the fields of Windows' key events."""
    numbers = [_numbers(field, 1)[0] for field in [*fields, b"", b"", b"", b"", b"", b""][:5]]
    key, _, character, down, state = numbers
    count = _numbers(fields[5], 1)[0] if len(fields) > 5 else 1
    if not down or key in _WINDOWS_MODIFIER_KEYS:
        return None, 1
    if state & _WINDOWS_ALT and not (state & _WINDOWS_CONTROL and character >= 32):  # not AltGr
        return _NOT_A_KEY, 1
    has_character = key == 32 or 48 <= key <= 57 or 65 <= key <= 90
    if state & _WINDOWS_CONTROL and not state & _WINDOWS_ALT and not 0 < character < 32:
        code = _with_control(character or (key if has_character else 128), 0, 0)
        return 127 if character == 127 else code, count or 1
    return character if 0 < character < 128 else _NOT_A_KEY, count or 1


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
