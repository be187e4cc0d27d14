"""Read and write the control sequences of terminals."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# The longest sequence that is read, in bytes
LONGEST = 4096
# The longest graphic rendition that is kept, in bytes; a colour takes 20
_LONGEST_RENDITION = 100
# The sequences that change a terminal, other than graphic renditions; the last group is the
# beginning of one that is not read, though terminals may: with a control character in it, which
# they execute, too long, set together differently, or for the palette of Linux's console
SEQUENCE = re.compile(
    rb"[\x1b\x0e\x0f](?:(?<!\x1b)"
    rb"|\[(?![0-9;:]*[@-LMPXa-dm])([<=>?]?)([0-9;:]{0,500})([Wf-ilmnpr-u]| q|\"q|\$}|!p)"
    rb"|\]([0-9][ -~\x80-\xff]*)(?:\x07|\x1b\\)"
    rb"|([ %()*+\-./])([ -/]?[0-~])"
    rb"|([78=>Hcno<])"
    rb"|(\[[ -?]*[hlu\x00-\x17\x19\x1c-\x1f\x7f]|[ -/]*[\x00-\x17\x19\x1c-\x1f\x7f]|\]P"
    rb"|\[(?![0-9;:]*(?:m|\Z))[ -?]{501}"
    rb"|\][0-9][ -~\x80-\xff]*[\x00-\x06\x08-\x17\x19\x1c-\x1f\x7f]))"
)
RENDITION = re.compile(rb"\x1b\[([0-9;:]*)m")
UNFINISHED = re.compile(rb"\x1b(?:\[[ -?]*|[ -/]+|[P\]X^_][^\x07\x1b]*\x1b?)?\Z")
# An unfinished sequence's first two bytes and last one, and output that does not end it
GOES_ON = re.compile(rb"\x1b(?:[P\]X^_][^\x00-\x1f\x7f]*|\[\[?[ -?]*|[ -/]+)\Z")
# Numbers that terminals may read differently
ODD_NUMBER = re.compile(rb"[1-9][0-9]{5}|:")
# Control characters of eight bits, in UTF-8 or on their own; the same across two pieces of output
_C1 = re.compile(rb"\xc2[\x80-\x9f]|(?<![\x80-\xff])[\x80-\x9f]")
_SPLIT_C1 = re.compile(rb"[\x00-\x7f\xc2]?[\x80-\x9f]\Z")
_ANY_C1 = re.compile(rb"[\x80-\x9f]")
# Commands that set what is tracked; others may be long
_TRACKED_COMMAND = re.compile(rb"\x1b\]0*(?:[458]|1[0-9]|22)(?![0-9])")

# Graphic renditions: the attribute that each changes, and those that each switches off
_RENDITIONS = {
    1: 1, 2: 2, 3: 3, 20: 3, 4: 4, 21: 4, 5: 5, 6: 5, 7: 7, 8: 8, 9: 9, 26: 26, 51: 51, 52: 51,
    53: 53, 73: 73, 74: 73,
    **dict.fromkeys(range(11, 20), 10),
    **dict.fromkeys([*range(30, 39), *range(90, 98)], 38),
    **dict.fromkeys([*range(40, 49), *range(100, 108)], 48),
    58: 58,
}  # fmt: skip
_OFF = {
    22: (1, 2), 23: (3,), 24: (4,), 25: (5,), 27: (7,), 28: (8,), 29: (9,), 10: (10,), 39: (38,),
    49: (48,), 50: (26,), 54: (51,), 55: (53,), 59: (58,), 75: (73,),
}  # fmt: skip


def csi(key: bytes, params: bytes) -> bytes:
    """Return a control sequence; the key is all of its characters but the parameters."""
    prefix = key[:1] if key[:1] in b"<=>?" else b""
    return b"\x1b[" + prefix + params + key[len(prefix) :]


def osc(code: int, text: bytes | None = None) -> bytes:
    """Return an operating system command."""
    return b"\x1b]%d%s\x1b\\" % (code, b"" if text is None else b";" + text)


def private(number: int, on: bool) -> bytes:
    """Return the sequence that sets or resets a private mode (DECSET, DECRST)."""
    return b"\x1b[?%d%c" % (number, b"h" if on else b"l")


def numbers(params: bytes) -> Iterator[int]:
    """Yield the numbers of a sequence's parameters; empty ones and other text are omitted."""
    texts = (text.lstrip(b"0") or text[:1] for text in params.split(b";"))
    return (int(text) for text in texts if text.isdigit() and len(text) < 6)


def has_c1(before: bytes, data: bytes, *, utf8: bool) -> bool:
    """Return whether output has control characters of eight bits.

    Args:
        before: the last byte of the output before it.
        data: the output.
        utf8: whether the terminal reads UTF-8, whose characters contain the same bytes.
    """
    if data.isascii():
        return False
    if not utf8:
        return _ANY_C1.search(data) is not None
    return bool(
        _SPLIT_C1.match(before + data[:1]) or _C1.search(data, b"\x80" <= data[:1] < b"\xc0")
    )


def renditions(params: bytes) -> bytes:
    """Reduce parameters of graphic renditions, each followed by a semicolon, to those in force."""
    in_force: dict[int, bytes] = {}
    fields = iter(params.split(b";")[:-1])
    for field in fields:
        head, _, below = field.partition(b":")
        number = int(head) if head.isdigit() and len(head) < 6 else 0
        if number in (38, 48, 58) and not below:  # a colour in fields of its own
            kind = next(fields, b"")
            count = {b"5": 1, b"2": 3}.get(kind, 0)
            field = b";".join([field, kind, *(next(fields, b"") for _ in range(count))])
        if number == 0:
            in_force.clear()
        elif number in _OFF or (number == 4 and below == b"0"):
            for attribute in _OFF.get(number, (4,)):
                in_force.pop(attribute, None)
        elif number in _RENDITIONS and len(field) <= _LONGEST_RENDITION:
            in_force[_RENDITIONS[number]] = field
    return b"".join(field + b";" for field in in_force.values())


def unfinished(data: bytes, start: int) -> tuple[bytes, bool]:
    """Return the sequence that data ends in the middle of; of a long string only its beginning.

    Args:
        data: the output.
        start: the end of the last sequence that was recognized.

    Returns:
        The sequence, and whether what it sets can no longer be read as it is too long.
    """
    last = data.rfind(b"\x1b", start)
    if last < 0:
        return b"", False
    before = data.rfind(b"\x1b", start, last) if last == len(data) - 1 else -1
    match = (before >= 0 and UNFINISHED.match(data, before)) or UNFINISHED.match(data, last)
    tail = match.group() if match else b""
    if len(tail) <= LONGEST:
        return tail, False
    if tail[1] not in b"P]X^_":
        return b"", True
    return tail[:2] + b"!" + b"\x1b" * tail.endswith(b"\x1b"), bool(_TRACKED_COMMAND.match(tail))


def set_keyboard(stack: list[int], action: bytes, numbers: list[int], most: int) -> None:
    """Change a stack of flags of the kitty keyboard protocol in place.

    Args:
        stack: the stack, its last element in force.
        action: ``>`` pushes, ``<`` pops, ``=`` changes the flags in force.
        numbers: the sequence's parameters.
        most: how many flags are kept.
    """
    number = numbers[0] if numbers else int(action == b"<")
    if action == b">":
        stack.append(number)
        del stack[:-most]
    elif action == b"<":
        del stack[max(0, len(stack) - number) :]
        if not stack:
            stack.append(0)
    else:
        how = numbers[1] if len(numbers) > 1 else 1
        now = stack[-1]
        stack[-1] = {2: now | number, 3: now & ~number}.get(how, number)


def keyboard(stack: list[int]) -> list[bytes]:
    """Return the sequences that make a stack of keyboard flags."""
    base = [b"\x1b[=%du" % stack[0]] if stack[0] else []
    return base + [b"\x1b[>%du" % flags for flags in stack[1:]]


def keyboard_undone(stack: list[int]) -> list[bytes]:
    """Return the sequences that empty a stack of keyboard flags."""
    pop = [b"\x1b[<%du" % (len(stack) - 1)] if len(stack) > 1 else []
    return pop + [b"\x1b[=0u"] * (stack[0] != 0)


def on_alternate(parts: list[bytes], *, used: bool) -> list[bytes]:
    """Return sequences for the alternate screen, for a terminal that uses it or does not."""
    return parts if used or not parts else [private(47, True), *parts, private(47, False)]


# Ends the sequence that a terminal is waiting for the end of
END = b"\x18\x1b\\"
_KEYBOARD = b"\x1b[<99u\x1b[=0u"
# Resets a terminal that was changed in unknown ways, and changes nothing on one in its default
# state. The screen stays as it is; the cursor is saved as leaving the alternate screen restores it.
RESET = b"".join(
    [
        b"\x1b<", b"\x1b[4i", b"\x1b[0$}",  # VT52, printing and the status line hide the rest
        _KEYBOARD, b"\x1b[!p", b"\x1b7\x1b[?1049l", _KEYBOARD,
        *(private(mode, False) for mode in (1, 5, 9, 45, 66, 69, *range(1000, 1007), 1015, 1016)),
        *(private(mode, False) for mode in (2004, 2026, 2031, 2048, 9001)),
        *(private(mode, True) for mode in (7, 8, 25)),
        b"\x1b[>m\x1b[>4m", b"\x1b[2l\x1b[4l\x1b[12h\x1b[20l", b"\x1b>", b"\x1b7\x1b[r\x1b8",
        b"\x0f\x1b(B\x1b)B\x1b*B\x1b+B\x1b F", b'\x1b[0"q', b"\x1b[0 q", b"\x1b[?5W",
        osc(8, b";"), *(osc(code) for code in (104, 105, *range(110, 120))), b"\x1b]R\x1b\\",
        b"\x1b[0m",
    ]
)  # fmt: skip
