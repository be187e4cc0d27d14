"""Durations, sizes and counts as people write them, and back.

Durations are seconds (float, 0 means never); sizes are bytes (int, binary multiples, as Docker
reads them: `512m` is 512 MiB). The parsing libraries are imported on first use.
"""

from __future__ import annotations

import re

MAX_DURATION_S = 10 * 365 * 86400
MAX_SIZE_BYTES = 2**60

DURATION_ACCEPTS = (
    "must be a duration such as 90s, 30m, 1h30m or 8h, a number of seconds, or off for never; "
    "at most 10 years"
)
SIZE_ACCEPTS = (
    "must be a size such as 512m, 1.5g or 16GiB, or a whole number of bytes; at most 1 EiB"
)

_NEVER = frozenset({"off", "never"})
_DURATION_CHARACTERS = re.compile(r"[0-9][0-9A-Za-z ,.]{0,63}")
_DECIMAL = re.compile(r"[0-9]+\.[0-9]+")
_NUMBER = re.compile(r"[0-9]{0,24}\.?[0-9]{1,24}")
_SIZE = re.compile(r"([0-9]{1,24}(?:\.[0-9]{1,24})?) ?(?:[kmgtpe]i?b?|b|bytes?)?", re.IGNORECASE)


def parse_duration(value: object) -> float:
    """Read a duration.

    Args:
        value: a number of seconds, or text: `30m`, `1h30m`, `8h`, `90s`, `90`. `off`, `never`, 0
            and `False` (which is how YAML 1.1 reads `off`) mean never.

    Returns:
        Seconds, 0.0 for never.

    Raises:
        ValueError: anything else, and more than ten years; the message reads on from a key's name
            ("idle_timeout" + " must be …").
    """
    if value is False:
        return 0.0
    seconds: object = None if value is True else value
    if isinstance(value, str):
        seconds = _duration_text(value.strip())
    if isinstance(seconds, (int, float)) and 0 <= seconds <= MAX_DURATION_S:
        return float(seconds)
    raise ValueError(DURATION_ACCEPTS)


def _duration_text(text: str) -> float | None:
    if text.lower() in _NEVER:
        return 0.0
    # The library also reads clock times ("1:30"), signs and, in weeks and years, skips numbers
    # that it cannot read ("1.1.1w" is 0): here 0 means never, so none of these may pass.
    if not _DURATION_CHARACTERS.fullmatch(text) or "." in _DECIMAL.sub("", text):
        return None
    import pytimeparse2  # type: ignore[import-untyped, unused-ignore]  # it ships no types

    parsed = pytimeparse2.parse(text)
    return float(parsed) if isinstance(parsed, (int, float)) else None


def parse_size(value: object) -> int:
    """Read a size.

    Args:
        value: a whole number of bytes, or text: `16GiB`, `512m`, `1.5g`, `40gb`. Every unit is
            a power of 1024, with or without the `i`.

    Returns:
        Bytes.

    Raises:
        ValueError: anything else, a fraction of a byte, and more than 1 EiB; the message reads on
            from a key's name.
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
    import humanfriendly

    size = int(humanfriendly.parse_size(text, binary=True))
    fraction_lost = size == 0 and float(match.group(1)) > 0
    bare_fraction = text[-1].isdigit() and "." in text
    return None if fraction_lost or bare_fraction else size


def parse_gpu_count(value: object) -> int | float:
    """Read a number of GPUs: a whole number (int), or a share of one (float below 1).

    Raises:
        ValueError: anything else, a share finer than a thousandth, and more than 1024; the message
            reads on from a key's name.
    """
    count = _number(value)
    if count is not None and 0 <= count <= 1024:
        if 0 < count < 1:
            if abs(count * 1000 - round(count * 1000)) > 1e-6:
                raise ValueError("must be a share in thousandths at the finest, such as 0.333")
            return float(count)
        if count == int(count):
            return int(count)
    raise ValueError("must be a whole number of GPUs, or a share such as 0.5 of one; at most 1024")


def parse_cpus(value: object) -> float:
    """Read a number of cores, from 0.01 to 4096.

    Raises:
        ValueError: anything else; the message reads on from a key's name.
    """
    cpus = _number(value)
    if cpus is not None and 0.01 <= cpus <= 4096:
        return float(cpus)
    raise ValueError("must be a number of cores such as 4 or 0.5, from 0.01 to 4096")


def _number(value: object) -> int | float | None:
    """A number, or a number's text as the command line gives it; None for anything else."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def format_duration(seconds: float) -> str:
    """Write a duration briefly, rounded down: `45s`, `29m`, `1h 5m`, `8h`, `2d 3h`.

    Args:
        seconds: a finite number; below zero counts as zero.
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
    """Write a size in binary units: `16 GiB`, `1.5 GiB`, `512 MiB`.

    Args:
        size_bytes: bytes, zero or more.
    """
    import humanfriendly

    return str(humanfriendly.format_size(size_bytes, binary=True))
