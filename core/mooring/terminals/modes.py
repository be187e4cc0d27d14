"""Track what a program changes in its terminal, as needed for detaching and attaching.

For the control sequences see "Xterm Control Sequences" (invisible-island.net), and for the keyboard
"Comprehensive keyboard handling in terminals" (sw.kovidgoyal.net/kitty).
"""

from __future__ import annotations

from mooring.terminals.sequences import (
    END,
    GOES_ON,
    LONGEST,
    ODD_NUMBER,
    RENDITION,
    RESET,
    SEQUENCE,
    csi,
    has_c1,
    keyboard,
    keyboard_undone,
    numbers,
    on_alternate,
    osc,
    private,
    renditions,
    set_keyboard,
    unfinished,
)

SCREENS = frozenset((47, 1047, 1049))
_SAVE_CURSOR = frozenset((1048, 1049))
# Private modes that are on by default: ANSI, autowrap, auto-repeat, cursor, alternate scroll, the
# Alt and Num Lock keys, private colours
_DEFAULT_ON = frozenset((2, 7, 8, 25, 1007, 1034, 1035, 1036, 1070))
# Synchronized output: on reattach it would stop the display until the program's next frame
_NOT_RESTORED = frozenset((2026,))
_ANSI_DEFAULT_ON = frozenset((12,))
_LOCK_KEYBOARD, _UNLOCK_KEYBOARD = 2, b"\x1b[2l"

# Sequences that undo a setting, and that settings are named after
_ATTRIBUTES = b"\x1b[0m"
_REGION = b"\x1b7\x1b[r\x1b8"  # setting it moves the cursor
_ORIGIN = b"\x1b[?6l\x1b[9999H"  # likewise; the last line is where output may go on
_MARGINS = b"\x1b[?69l"
_KEYPAD = b"\x1b>"
_SHIFT = b"\x0f"
_PROTECTED = b'\x1b[0"q'
_TABS = b"\x1b[?5W"
_LINK = osc(8, b";")
_CHARSETS = {slot: b"\x1b%cB" % slot for slot in b"()*+"}
_CURSOR = (_ORIGIN, _SHIFT, _PROTECTED, *_CHARSETS.values())  # saved with the cursor
_SOFT_RESET = (
    *_CURSOR, _ATTRIBUTES, _REGION, _KEYPAD, b"\x1b[2l", b"\x1b[4l", b"\x1b[?1l", b"\x1b[?7h",
    b"\x1b[?25h",
)  # fmt: skip
# Settings with one number, by the characters of their sequence that are not the number
_NUMBERED = {
    b" q": (b"\x1b[0 q", b"0"),  # cursor's shape
    b'"q': (_PROTECTED, b"0"),
    b"$}": (b"\x1b[0$}", b"0"),  # write to the status line
    b">p": (b"\x1b[>1p", b"1"),  # pointer
    b"i": (b"\x1b[4i", b"4"),  # print instead of showing
}
_COLOURS = range(10, 20)
_MOST_SETTINGS, _MOST_KEYBOARDS, _MOST_TITLES, _MOST_RENDITIONS = 600, 100, 10, 400
# Together these keep ``saved`` below 80 KB, or 480 KB as JSON, which escapes some characters: a
# keeper sends it in one message. Only a hyperlink may be long.
_LONGEST_VALUE, _LONGEST_LINK = 100, 2100


class Modes:
    """What a program's output has changed in its terminal: modes, keyboard, colours, and so on.

    Not tracked are the screen's content, the title, tab stops (they are undone, but not restored)
    and what the program saved in the terminal to restore later. Output that cannot be tracked, but
    may change a terminal, is undone by a reset of all that programs usually change.

    The output is not trusted: processing it takes time proportional to its length, whatever was set
    before and wherever it is split. Settings that one sequence resets are found without a search.

    Args:
        saved: an earlier ``saved``, or the numbers of private modes that differ from the default,
            as keepers of earlier versions send them; anything else is ignored.
    """

    def __init__(self, saved: object = "") -> None:
        # The sequence that sets each setting that differs from the default, by the sequence that
        # undoes it; empty for a setting that is not restored
        self._settings: dict[bytes, bytes] = {}
        # Likewise, those made by an OSC before a full reset: not all terminals reset colours
        self._before_reset: dict[bytes, bytes] = {}
        # Which of both are reset together: the colours of a palette, by the OSC that resets them,
        # and how keys are sent with modifiers
        self._palettes: dict[int, set[bytes]] = {104: set(), 105: set()}
        self._modified_keys: set[bytes] = set()
        self._attributes = b""  # parameters of the graphic renditions since the last reset
        # Flags of the kitty keyboard protocol: stacks for the main and the alternate screen
        self._keyboards: tuple[list[int], list[int]] = ([0], [0])
        self._titles: list[bytes] = []  # parameters of the titles pushed
        self._cursors: dict[bool, tuple[dict[bytes, bytes], bytes]] = {}
        self._saved_modes: dict[int, bool] = {}
        self._tail = b""
        self._last = b""  # byte of the output so far
        self._utf8 = True  # whether the terminal was always told to read UTF-8
        # Whether there was output that cannot be tracked; whether the user may be locked out
        self._odd = self._locked = False
        if isinstance(saved, str):
            self.feed(saved.encode("latin-1", "ignore"))
        elif isinstance(saved, list):
            for number in saved:
                if number == 0:
                    self.feed(b"\x1b=")
                elif isinstance(number, int):
                    self._set_private(number, number not in _DEFAULT_ON)

    @property
    def saved(self) -> str:
        """The settings as text, for JSON."""
        return self.restored().decode("latin-1")

    @property
    def full_screen(self) -> bool:
        """Whether the program uses the alternate screen, as full-screen editors do."""
        return any(undo in self._settings for undo in _LEAVE_SCREEN)

    @property
    def reports(self) -> bool:
        """Whether the terminal sends input by itself: of the mouse, the focus, colours or size."""
        return self._odd or any(undo in self._settings for undo in _END_REPORTS)

    def feed(self, data: bytes) -> bytes:
        """Process output, which may be split at any byte.

        Returns:
            What to send to the terminal after this output, whose keyboard it may have locked: none
            of its user's keys would be sent, nor those that detach.
        """
        if self._tail or b"\x1b" in data or b"\x0e" in data or b"\x0f" in data:
            self._read(data)
        if has_c1(self._last, data, utf8=self._utf8):
            self._odd = self._locked = True
        self._last = data[-1:] or self._last
        unlock = END + _UNLOCK_KEYBOARD if self._locked else b""
        self._locked = False
        return unlock

    def _read(self, data: bytes) -> None:
        goes_on = len(self._tail) > 2 and GOES_ON.match(self._tail[:2] + self._tail[-1:] + data)
        data = self._tail + data
        if goes_on and len(data) <= LONGEST:  # without reading the tail again for each byte
            self._tail = data
            return
        end = 0
        for match in () if goes_on else SEQUENCE.finditer(data):
            self._render(data, end, match.start())
            end = match.end()
            prefix, params, final, command, slot, charset, single, odd = match.groups()
            if final:
                self._control(prefix + final, params)
            elif command:
                code, _, text = command.partition(b";")
                self._command(code.lstrip(b"0") or b"0", text)
            elif slot:
                self._designate(slot, charset)
            elif odd:
                self._odd = self._locked = True
            else:
                self._escape(single or match.group())
        self._render(data, end, len(data))
        self._tail, too_long = unfinished(data, end)
        self._odd |= too_long

    def _render(self, data: bytes, start: int, end: int) -> None:
        """Apply the graphic renditions in a part of the output, which are most of its sequences."""
        reset = max(data.rfind(b"\x1b[m", start, end), data.rfind(b"\x1b[0m", start, end))
        if reset >= 0:
            self._attributes, start = b"", reset
        params = RENDITION.findall(data, start, end)[-_MOST_RENDITIONS:]
        self._attributes += b"".join([one + b";" for one in params])
        if len(self._attributes) > LONGEST:
            self._attributes = renditions(self._attributes)

    def _control(self, key: bytes, params: bytes) -> None:
        """Apply a control sequence.

        Args:
            key: all of its characters but the parameters.
            params: its parameters.
        """
        alternate = self.full_screen
        if ODD_NUMBER.search(params):
            self._odd = self._locked = True
        if key in _NUMBERED:
            undo, default = _NUMBERED[key]
            if params in (b"", default):
                self._put(undo)
            elif key != b"i" or params == b"5":
                self._put(undo, csi(key, params))
        elif key in (b"?h", b"?l", b"?s", b"?r"):
            for number in numbers(params):
                self._change_private(number, key[1:])
        elif key in (b"h", b"l"):
            for number in numbers(params):
                if number == _LOCK_KEYBOARD:  # not restored
                    self._put(_UNLOCK_KEYBOARD, None if key == b"l" else b"")
                    self._locked |= key == b"h"
                    continue
                default = b"h" if number in _ANSI_DEFAULT_ON else b"l"
                value = b"\x1b[%d%s" % (number, key)
                self._put(b"\x1b[%d%s" % (number, default), None if key == default else value)
        elif key == b"r":
            whole = params.strip(b"0;") in (b"", b"1")
            self._put(_REGION, None if whole else b"\x1b7\x1b[%sr\x1b8" % params)
        elif key == b"s" and params and _MARGINS in self._settings:
            self._put(_MARGINS, b"\x1b[?69h\x1b[%ss" % params)
        elif key in (b"s", b"u"):
            self._cursor(alternate, save=key == b"s")
        elif key in (b">m", b">f", b">n"):  # how keys are sent with modifiers
            self._modify_keys(key, params)
        elif key in (b">u", b"<u", b"=u"):
            flags = [*numbers(params)]
            set_keyboard(self._keyboards[alternate], key[:1], flags, _MOST_KEYBOARDS)
        elif key == b"!p":
            for undo in _SOFT_RESET:
                self._put(undo)
            self._attributes = b""
            self._cursors.clear()
        elif key == b"t":
            if params[:2] == b"22":
                self._titles = [*self._titles, params[2:]][-_MOST_TITLES:]
            elif params[:2] == b"23":
                self._titles = self._titles[:-1]
        elif (key, params) == (b"?W", b"5"):
            self._put(_TABS)
        elif key == b"g":
            self._put(_TABS, b"")

    def _modify_keys(self, key: bytes, params: bytes) -> None:
        resource, _, rest = params.partition(b";")
        if not resource:
            self._reset(self._modified_keys)
            return
        undo = csi(b">m" if key == b">n" else key, resource)
        if key == b">n":
            value: bytes | None = csi(key, resource)
        else:
            value = csi(key, params) if rest.strip(b"0;") else None
        if key != b">f" and resource.isdigit():
            self._put_in(self._modified_keys, undo, value)
        else:
            self._put(undo, value)

    def _command(self, name: bytes, text: bytes) -> None:
        """Apply an operating system command (OSC)."""
        code = int(name) if name.isdigit() and len(name) < 5 else -1
        self._odd |= code < 0
        first, _, rest = text.partition(b";")
        if code in (4, 5):
            fields = text.split(b";")
            for index, colour in zip(fields[::2], fields[1::2], strict=False):
                if colour != b"?" and index.isdigit():
                    undo = osc(100 + code, index)
                    value = osc(code, index + b";" + colour)
                    self._put_in(self._palettes[100 + code], undo, value)
        elif code in (104, 105):
            for index in filter(None, text.split(b";")):
                self._put_in(self._palettes[code], osc(code, index))
            if not text:
                self._reset(self._palettes[code])
        elif code in _COLOURS:
            for number, colour in zip(range(code, 20), text.split(b";"), strict=False):
                if colour != b"?":
                    self._put(osc(number + 100), osc(number, colour))
        elif code - 100 in _COLOURS:
            self._put(osc(code))
        elif code == 8:  # hyperlink
            self._put(_LINK, osc(8, text) if rest else None)
        elif code == 22 and first[:1] not in (b"?", b">"):  # pointer
            self._put(osc(22, b""), osc(22, text) if text[:1] not in (b"", b"<") else None)
        elif code == 9 and first == b"4":  # progress
            self._put(osc(9, b"4;0"), osc(9, text) if rest[:1] != b"0" else None)

    def _designate(self, slot: bytes, charset: bytes) -> None:
        if slot == b" ":
            self._put(b"\x1b F", b"\x1b G" if charset == b"G" else None)  # 8-bit controls
        elif slot == b"%":
            self._put(b"\x1b%G", b"\x1b%@" if charset == b"@" else None)  # not UTF-8
            self._utf8 &= charset == b"G"
        else:
            undo = _CHARSETS[slot.translate(_SLOTS)[0]]
            plain = charset == b"B" and slot in b"()*+"
            self._put(undo, None if plain else b"\x1b" + slot + charset)

    def _escape(self, final: bytes) -> None:
        """Apply a sequence of an escape and one character, or a control character."""
        if final in (b"=", b">"):
            self._put(_KEYPAD, b"\x1b=" if final == b"=" else None)
        elif final == b"\x0f":
            self._put(_SHIFT)
        elif final == b"\x0e":
            self._put(_SHIFT, final)
        elif final in (b"n", b"o"):
            self._put(_SHIFT, b"\x1b" + final)
        elif final in (b"7", b"8"):
            self._cursor(self.full_screen, save=final == b"7")
        elif final == b"H":
            self._put(_TABS, b"")
        elif final == b"<":
            self._put(b"\x1b<")
        else:  # a full reset
            commands = [undo for undo in self._settings if undo.startswith(b"\x1b]")]
            self._before_reset |= dict.fromkeys(commands, b"")
            self._settings = {}
            self._modified_keys.clear()
            self._attributes = b""
            self._keyboards = [0], [0]
            self._cursors.clear()

    def _change_private(self, number: int, action: bytes) -> None:
        if action == b"s":
            changed = _undo(number) in self._settings
            if len(self._saved_modes) < _MOST_SETTINGS:
                self._saved_modes[number] = changed != (number in _DEFAULT_ON)
            else:
                self._odd = True
        elif action == b"r":
            self._set_private(number, self._saved_modes.get(number, number in _DEFAULT_ON))
        else:
            self._set_private(number, action == b"h")

    def _set_private(self, number: int, on: bool) -> None:
        if number in _SAVE_CURSOR and on:
            self._cursor(self.full_screen, save=True)
        if number in SCREENS:
            for undo in _LEAVE_SCREEN:
                self._put(undo)
        if number != 1048:
            value = b"" if number in _NOT_RESTORED else private(number, on)
            self._put(_undo(number), None if on == (number in _DEFAULT_ON) else value)
        if number in _SAVE_CURSOR and not on:
            self._cursor(self.full_screen, save=False)

    def _cursor(self, alternate: bool, *, save: bool) -> None:
        """Save or restore what a terminal saves with the cursor."""
        if save:
            if len(self._attributes) > LONGEST // 2:  # else each restoring makes them long again
                self._attributes = renditions(self._attributes)
            kept = {undo: self._settings[undo] for undo in _CURSOR if undo in self._settings}
            self._cursors[alternate] = kept, self._attributes
            return
        kept, self._attributes = self._cursors.get(alternate, ({}, b""))
        for undo in _CURSOR if kept or self._settings else ():
            if self._settings.get(undo) != kept.get(undo):
                self._put(undo, kept.get(undo))

    def _put(self, undo: bytes, value: bytes | None = None) -> None:
        """Change a setting; without a value it has its default."""
        self._settings.pop(undo, None)
        self._before_reset.pop(undo, None)
        longest = _LONGEST_LINK if undo == _LINK else _LONGEST_VALUE
        count = len(self._settings) + len(self._before_reset)
        if value is not None and len(value) <= longest and count < _MOST_SETTINGS:
            self._settings[undo] = value
        elif value is not None:
            self._odd = True

    def _put_in(self, group: set[bytes], undo: bytes, value: bytes | None = None) -> None:
        """Change a setting of those that are also reset together."""
        self._put(undo, value)
        if undo in self._settings:
            group.add(undo)
        else:
            group.discard(undo)

    def _reset(self, group: set[bytes]) -> None:
        """Give all settings of a group their default."""
        for undo in group:
            self._put(undo)
        group.clear()

    def restored(self) -> bytes:
        """Return the bytes that set all of this on a terminal in its default state."""
        screens = [value for undo, value in self._settings.items() if undo in _LEAVE_SCREEN]
        parts = [*keyboard(self._keyboards[False]), *(b"\x1b[22%st" % one for one in self._titles)]
        parts += [*screens, *on_alternate(keyboard(self._keyboards[True]), used=bool(screens))]
        parts += [value for undo, value in self._settings.items() if undo not in _LEAVE_SCREEN]
        return b"".join(parts) + self._rendition()

    def undone(self) -> bytes:
        """Return the bytes that reset a terminal with these settings to its default state."""
        leave = [undo for undo in self._settings if undo in _LEAVE_SCREEN]
        parts = [*on_alternate(keyboard_undone(self._keyboards[True]), used=bool(leave)), *leave]
        settings = self._before_reset | self._settings
        if private(1049, False) in leave:  # restores what was saved with the cursor
            settings = self._cursors.get(False, ({}, b""))[0] | settings
        parts += [undo for undo in reversed(settings) if undo not in _LEAVE_SCREEN]
        parts += keyboard_undone(self._keyboards[False])
        parts += [b"\x1b[23%st" % one for one in reversed(self._titles)]
        if parts or self._rendition():
            parts.append(_ATTRIBUTES)
        if self._tail or self._odd:
            parts.insert(0, END)
        return b"".join(parts) + RESET * self._odd

    def become(self, other: Modes) -> bytes:
        """Take over the settings of another terminal.

        Returns:
            The bytes that give a terminal with the settings so far those of the other.
        """
        here = (self.full_screen, self._keyboards, self._titles)
        if here == (other.full_screen, other._keyboards, other._titles):
            wanted = other._before_reset | other._settings
            parts = [
                undo
                for undo in reversed(self._before_reset | self._settings)
                if undo not in wanted and undo != _TABS
            ]
            parts += [
                value
                for undo, value in other._settings.items()
                if self._settings.get(undo) != value
            ]
            if self._rendition() != other._rendition():
                parts += [_ATTRIBUTES, other._rendition()]
            kept = {_TABS: b""} if _TABS in self._settings else {}
        else:
            parts, kept = [self.undone(), other.restored()], {}
        self._settings = other._settings | kept
        self._before_reset = dict(other._before_reset)
        self._palettes = {code: set(group) for code, group in other._palettes.items()}
        self._modified_keys = set(other._modified_keys)
        self._attributes, self._titles = other._attributes, list(other._titles)
        main, alternate = other._keyboards
        self._keyboards = list(main), list(alternate)
        return b"".join(parts)

    def _rendition(self) -> bytes:
        self._attributes = renditions(self._attributes)
        return b"\x1b[%sm" % self._attributes[:-1] if self._attributes else b""


_LEAVE_SCREEN = frozenset(private(number, False) for number in SCREENS)
_END_REPORTS = [private(number, False) for number in (9, *range(1000, 1005), 2031, 2048)]
_SLOTS = bytes.maketrans(b"-./", b")*+")


def _undo(number: int) -> bytes:
    """Return the bytes that set a private mode to its default."""
    return {2: b"\x1b<", 6: _ORIGIN}.get(number) or private(number, number in _DEFAULT_ON)
