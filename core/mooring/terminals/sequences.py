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
# The sequences that change a terminal, other than graphic renditions
SEQUENCE = re.compile(
    rb"[\x1b\x0e\x0f](?:(?<!\x1b)"
    rb"|\[(?![0-9;:]*[@-LMPXa-dm])([<=>?]?)([0-9;:]{0,500})([Wf-ilmnpr-u]| q|\"q|\$}|!p)"
    rb"|\]([0-9]{1,4});?([ -~\x80-\xff]*)(?:\x07|\x1b\\)"
    rb"|([ %()*+\-./])([ -/]?[0-~])"
    rb"|([78=>Hcno<]))"
)
RENDITION = re.compile(rb"\x1b\[([0-9;:]*)m")
UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[ -/]+|[P\]X^_][^\x07\x1b]*\x1b?)?\Z")

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
    return (int(text) for text in params.split(b";") if text.isdigit() and len(text) < 6)


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


def unfinished(data: bytes, start: int) -> bytes:
    """Return the sequence that data ends in the middle of; of a long string only its beginning.

    Args:
        data: the output.
        start: the end of the last sequence that was recognized.
    """
    last = data.rfind(b"\x1b", start)
    if last < 0:
        return b""
    before = data.rfind(b"\x1b", start, last) if last == len(data) - 1 else -1
    match = (before >= 0 and UNFINISHED.match(data, before)) or UNFINISHED.match(data, last)
    tail = match.group() if match else b""
    if len(tail) <= LONGEST:
        return tail
    is_string = tail[1] in b"P]X^_"
    return tail[:2] + b"!" + b"\x1b" * tail.endswith(b"\x1b") if is_string else b""
