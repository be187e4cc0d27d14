"""Parse and format durations, sizes and counts.

Durations are seconds (float, 0 means never); sizes are bytes (int, with binary units as in Docker:
`512m` is 512 MiB). A duration is written with its unit, wherever it is written: a bare number is
hours to other systems, and minutes or seconds to others.
"""

from __future__ import annotations

import re

MAX_DURATION_S = 10 * 365 * 86400
MAX_SIZE_BYTES = 2**60

DURATION_ACCEPTS = (
    "must be a duration such as 90s, 30m, 1h30m or 8h, or off for never; at most 10 years"
)
SIZE_ACCEPTS = (
    "must be a size such as 512m, 1.5g or 16GiB, or a whole number of bytes; at most 1 EiB"
)

_NEVER = frozenset({"off", "never"})
_SECONDS = {
    name: seconds
    for seconds, names in (
        (365 * 86400, "y ys yr yrs year years"),
        (30 * 86400, "mo mos mon mth mths month months"),
        (7 * 86400, "w wk wks week weeks"),
        (86400, "d dy dys day days"),
        (3600, "h hr hrs hour hours"),
        (60, "m min mins minute minutes"),
        (1, "s sec secs second seconds"),
        (0.001, "ms msec msecs millis millisecond milliseconds"),
    )
    for name in names.split()
}
_MAX_TEXT = 64
# The digits of an amount alone, and of one of several, by unit; see duration_pattern
_DIGITS = {
    "y": ("[0-9]", "[0-7]"),
    "mo": ("[0-9]{1,2}", "[0-9]"),
    "w": ("[0-9]{1,2}", "[0-9]"),
    "d": ("[0-9]{1,3}", "[0-9]{1,2}"),
    "h": ("[0-9]{1,4}", "[0-9]{1,2}"),
    "m": ("[0-9]{1,6}", "[0-9]{1,3}"),
    "s": ("[0-9]{1,8}", "[0-9]{1,5}"),
    "ms": ("[0-9]{1,11}", "[0-9]{1,8}"),
}
_NO_UNIT = re.compile(r"[0-9]{1,24}(?:\.[0-9]{1,24})?")
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([a-z]+) *(,?) *")
_NUMBER = re.compile(r"[0-9]{0,24}\.?[0-9]{1,24}")
_PREFIXES = "kmgtpe"
_SIZE = re.compile(r"([0-9]{1,24}(?:\.[0-9]{1,24})?) ?(?:([kmgtpe])i?b?|b|bytes?)?", re.IGNORECASE)


def parse_duration(value: object) -> float:
    """Parse a duration.

    Args:
        value: text: `30m`, `1h30m`, `8h`, `90s`. `off`, `never`, 0, `0` and `False` mean never.

    Returns:
        Seconds, 0.0 for never.

    Raises:
        ValueError: it is not a duration, has no unit, or exceeds ten years; the message is a
            predicate for the key's name ("idle_timeout" + " must be …").
    """
    if value is False or (isinstance(value, (int, float)) and value == 0):
        return 0.0
    text = value.strip().lower() if isinstance(value, str) else ""
    if isinstance(value, (int, float)) and value is not True and 0 < value <= MAX_DURATION_S:
        text = f"{value:.12g}"
    if _NO_UNIT.fullmatch(text) and float(text):
        raise ValueError(f"has no unit: {text}h is hours, {text}m minutes, {text}s seconds")
    seconds = _duration_text(text)
    if seconds is None or seconds > MAX_DURATION_S:
        raise ValueError(DURATION_ACCEPTS)
    return seconds


def duration_pattern() -> str:
    """A regular expression for texts that are durations, as in a JSON Schema.

    It has fewer than `parse_duration` accepts: the amounts have so few digits that the sum, which
    an expression cannot bound, is below ten years. A lone amount may have more than one of several.
    """
    fraction = r"(?:\.[0-9]+)?"
    alone, several = ["0"], ""
    for unit, (digits, digits_of_several) in _DIGITS.items():
        names = (name for name in _SECONDS if _SECONDS[name] == _SECONDS[unit])
        name = "(?:" + "|".join(_any_case(name) for name in names) + ")"
        alone.append(f"{digits}{fraction} *{name}")
        comma = ",? *" if _SECONDS[unit] >= 60 else ""
        several += f"(?:{digits_of_several}{fraction} *{name} *{comma})?"
    never = "|".join(_any_case(name) for name in sorted(_NEVER))
    return f"^ *(?:{never}|{'|'.join(alone)}|(?=[0-9]){several}) *$"


def _any_case(word: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" for letter in word)


def _duration_text(text: str) -> float | None:
    """Parse amounts in descending units, with optional commas after minutes or more; or 0.

    Returns None for invalid text.
    """
    if text in _NEVER or _NO_UNIT.fullmatch(text):
        return 0.0
    if len(text) > _MAX_TEXT:
        return None
    total, last_unit, at = 0.0, float("inf"), 0
    while at < len(text):
        amount = _AMOUNT.match(text, at)
        unit = _SECONDS.get(amount.group(2)) if amount else None
        if amount is None or unit is None or unit >= last_unit or (amount.group(3) and unit < 60):
            return None
        total += float(amount.group(1)) * unit
        last_unit, at = unit, amount.end()
    return _microseconds(total) if text else None


def _microseconds(seconds: float) -> float:
    """Round to microseconds, but never a positive number to 0, which would mean never."""
    return max(round(seconds, 6), 1e-6) if seconds else 0.0


def parse_size(value: object) -> int:
    """Parse a size.

    Args:
        value: a whole number of bytes, or text: `16GiB`, `512m`, `1.5g`, `40gb`. Every unit is
            a power of 1024, with or without the `i`.

    Returns:
        Bytes, rounded down.

    Raises:
        ValueError: it is not a size, is a fraction of a byte, or exceeds 1 EiB; the message is a
            predicate for the key's name.
    """
    size: object = None if isinstance(value, bool) else value
    if isinstance(value, str):
        size = _size_text(value.strip())
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    if isinstance(size, int) and 0 <= size <= MAX_SIZE_BYTES:
        return size
    raise ValueError(SIZE_ACCEPTS)


def _size_text(text: str) -> int | None:
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    digits, prefix = match.groups()
    number = float(digits) if "." in digits else int(digits)
    size = int(number * 1024 ** (_PREFIXES.index(prefix.lower()) + 1 if prefix else 0))
    fraction_lost = size == 0 and number > 0
    bare_fraction = text[-1].isdigit() and "." in text
    return None if fraction_lost or bare_fraction else size


def parse_gpu_count(value: object) -> int | float:
    """Parse a number of GPUs: a whole number (int), or a share of one GPU (float below 1).

    Raises:
        ValueError: it is neither, has more than three decimals, or exceeds 1024; the message is a
            predicate for the key's name.
    """
    count = _number(value)
    if count is not None and 0 <= count <= 1024:
        if 0 < count < 1:
            if abs(count * 1000 - round(count * 1000)) > 1e-6:
                raise ValueError("must be a share with at most three decimals, such as 0.333")
            return float(count)
        if count == int(count):
            return int(count)
    raise ValueError("must be a whole number of GPUs, at most 1024, or a share of one such as 0.5")


def parse_cpus(value: object) -> float:
    """Parse a number of CPU cores, from 0.01 to 4096.

    Raises:
        ValueError: it is not such a number; the message is a predicate for the key's name.
    """
    cpus = _number(value)
    if cpus is not None and 0.01 <= cpus <= 4096:
        return float(cpus)
    raise ValueError("must be a number of cores such as 4 or 0.5, from 0.01 to 4096")


def _number(value: object) -> int | float | None:
    """Convert a number, or its text from the command line; None for anything else."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def format_duration(seconds: float) -> str:
    """Format a duration in its largest units, rounded down: `45s`, `29m`, `1h 5m`, `2d 3h`.

    Args:
        seconds: a finite number; negative numbers count as zero.
    """
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}d {hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    return f"{minutes}m" if minutes else f"{rest}s"


def format_size(size_bytes: int) -> str:
    """Format a size in binary units: `16 GiB`, `1.5 GiB`, `512 MiB`, `1 byte`.

    Args:
        size_bytes: bytes, zero or more.
    """
    power = min(max(size_bytes.bit_length() - 1, 0) // 10, len(_PREFIXES))
    if power == 0:
        return f"{size_bytes} byte" if size_bytes == 1 else f"{size_bytes} bytes"
    number = f"{size_bytes / 1024**power:.2f}".rstrip("0").rstrip(".")
    return f"{number} {_PREFIXES[power - 1].upper()}iB"
