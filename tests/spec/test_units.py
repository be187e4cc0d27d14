"""Durations, sizes and counts: how they may be written, and how they are printed."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mooring.spec.units import (
    MAX_DURATION_S,
    duration_pattern,
    format_duration,
    format_size,
    parse_cpus,
    parse_duration,
    parse_gpu_count,
    parse_size,
)

#: What humanfriendly 10.0 and pytimeparse2 1.7.1 made of about a thousand texts: a number, or null
#: for one that is refused. Without the few in which pytimeparse2 loses a digit (`2mo30d`).
TABLE = json.loads(Path(__file__).with_name("units.json").read_text())
UNITS = {
    365 * 86400: ["y", "yr", "yrs", "year", "years"],
    30 * 86400: ["mo", "mos", "mth", "mths", "month", "months"],
    7 * 86400: ["w", "wk", "wks", "week", "weeks"],
    86400: ["d", "day", "days"],
    3600: ["h", "hr", "hrs", "hour", "hours"],
    60: ["m", "min", "mins", "minute", "minutes"],
    1: ["s", "sec", "secs", "second", "seconds"],
}


def parsed(parse: Callable[[object], float], text: str) -> float | None:
    try:
        return parse(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30m", 1800),
        ("1h30m", 5400),
        ("8h", 28800),
        ("90s", 90),
        ("2d 3h", 183600),
        ("1.5h", 5400),
        (" 5M ", 300),
        ("off", 0),
        ("Never", 0),
        ("0", 0),
        (0, 0),
        (0.0, 0),
        (False, 0),
        ("10y", 10 * 365 * 86400),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    """Every spelling of a duration is seconds, and off, never, 0 and False are 0."""
    parsed = parse_duration(value)
    assert parsed == seconds
    assert isinstance(parsed, float)


@pytest.mark.parametrize(
    "value",
    ["", " ", "-5m", "+5m", "1:30", "1.1.1w", "soon", "5 parsecs", "11y", "nan", "inf",
     "\uff130m", "m", "1" * 5000, "1h" * 40, -1, math.nan, math.inf, 10**400, True, None,
     [], {}, b"1m"],
)  # fmt: skip
def test_durations_refused(value: object) -> None:
    """What is not clearly a duration is refused, never read as 0, and the message tells what is."""
    with pytest.raises(ValueError, match="such as 90s, 30m"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["8", " 90 ", "1.5", 8, 1.5, 3600.0])
def test_a_duration_has_a_unit(value: object) -> None:
    """A bare number is refused: it is hours to some systems and seconds to others (sbatch: minutes,
    mcli: hours, docker stop: seconds)."""
    with pytest.raises(ValueError, match=r"has no unit: [0-9.]+h is hours, [0-9.]+m minutes"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("16GiB", 16 * 2**30),
        ("512m", 512 * 2**20),
        ("1.5g", 1536 * 2**20),
        ("40 GB", 40 * 2**30),
        ("16Gi", 16 * 2**30),
        ("512", 512),
        ("1e", 2**60),
        (512, 512),
        (1024.0, 1024),
        (0, 0),
    ],
)
def test_sizes(value: object, size: int) -> None:
    """Every spelling of a size is bytes, in powers of 1024, as Docker reads them."""
    parsed = parse_size(value)
    assert parsed == size
    assert isinstance(parsed, int)


@pytest.mark.parametrize(
    "value",
    ["", "big", "-1g", "1.5", "0.5", "0.0001k", "5 mangos", "2e", "1e3g", "g", "1 2", "nan", "inf",
     "9" * 500, "1." + "9" * 500 + "g", -1, 1.5, math.nan, math.inf, 2**60 + 1, True, False, None],
)  # fmt: skip
def test_sizes_refused(value: object) -> None:
    """What is not a size, or not whole bytes, is refused, and the message tells what is."""
    with pytest.raises(ValueError, match="such as 512m"):
        parse_size(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45.9, "45s"), (60, "1m"), (1799, "29m"), (3600, "1h"), (3900, "1h 5m"),
     (28800, "8h"), (183600, "2d 3h"), (172800, "2d"), (-5, "0s")],
)  # fmt: skip
def test_durations_are_written_briefly(seconds: float, text: str) -> None:
    """A duration is shown with its two greatest units, rounded down."""
    assert format_duration(seconds) == text


def test_sizes_are_written_in_binary_units() -> None:
    """A size is shown in the units in which it is read."""
    assert format_size(16 * 2**30) == "16 GiB"
    assert parse_size(format_size(512 * 2**20)) == 512 * 2**20


@given(st.text() | st.floats() | st.integers() | st.booleans() | st.none())
def test_quantities_only_raise_value_error(value: object) -> None:
    """No value makes a quantity's parser fail in any other way than ValueError."""
    for parse in (parse_duration, parse_size, parse_gpu_count, parse_cpus):
        with contextlib.suppress(ValueError):
            assert parse(value) >= 0


def test_recorded_durations() -> None:
    """Durations mean what they meant when a library read them, and no other text is one."""
    texts = TABLE["durations"]
    assert {text: parsed(parse_duration, text) for text in texts} == texts


def test_recorded_sizes() -> None:
    """Sizes mean what they meant when a library read them, and no other text is one."""
    texts = TABLE["sizes"]
    assert {text: parsed(parse_size, text) for text in texts} == texts


def test_recorded_spellings_of_sizes() -> None:
    """Sizes are written as they were when a library wrote them."""
    written = TABLE["written"]
    assert {size: format_size(int(size)) for size in written} == written


@st.composite
def spelled_durations(draw: st.DrawFn) -> tuple[str, int]:
    """A duration of at most some years in any spelling, and its seconds."""
    units = draw(st.sets(st.sampled_from(sorted(UNITS)), min_size=1))
    text, seconds = "", 0
    for unit in sorted(units, reverse=True):
        amount = draw(st.integers(0, 2))
        gap = draw(st.sampled_from(["", " ", "  "]))
        name = draw(st.sampled_from(UNITS[unit]))
        end = draw(st.sampled_from(["", " ", ", ", ","])) if unit >= 60 else ""
        text += f"{amount}{gap}{draw(st.sampled_from([name, name.upper()]))}{end}"
        seconds += amount * unit
    return text, seconds


@given(spelled_durations())
def test_any_spelling_of_a_duration(spelled: tuple[str, int]) -> None:
    """Units in falling order add up, whatever their names, gaps and commas."""
    text, seconds = spelled
    assert parse_duration(text) == seconds


@given(st.integers(0, 1023), st.sampled_from("kmgtp"), st.sampled_from(["", "i"]), st.booleans())
def test_any_spelling_of_a_size(number: int, prefix: str, binary: str, spaced: bool) -> None:
    """Every prefix is a power of 1024, in both cases, with or without i, b and a space."""
    size = number * 1024 ** ("kmgtp".index(prefix) + 1)
    for text in (f"{prefix}{binary}", f"{prefix}{binary}b"):
        assert parse_size(f"{number}{' ' * spaced}{text}") == size
        assert parse_size(f"{number}{' ' * spaced}{text.upper()}") == size


@given(st.integers(0, 2**60))
def test_what_is_written_can_be_read(size: int) -> None:
    """A size that is written out can be read, and is the same to half a hundredth of its unit."""
    assert abs(parse_size(format_size(size)) - size) <= size * 0.005 + 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2mo30d", 90 * 86400), ("1 mth 5 weeks", 65 * 86400), ("1yr2mo", 425 * 86400)],
)
def test_digits_after_months_and_years_count(text: str, seconds: int) -> None:
    """A number that follows months or years without a space is read whole."""
    assert parse_duration(text) == seconds


def test_a_duration_above_zero_is_never_never() -> None:
    """What is less than a microsecond does not become 0, which would mean never."""
    assert parse_duration("0.0000001s") > 0


@given(st.from_regex(duration_pattern(), fullmatch=True))
@example("9.99999 years")
@example("7.9y 9.9mo, 9.9w 99.9d,99.9h 999.9m, 99999.9s 99999999.9ms")
@example("OFF ")
def test_a_duration_of_the_pattern_is_one(text: str) -> None:
    """What the pattern for other programs allows is a duration, and below ten years; what is longer
    than the limit on texts is none."""
    if len(text.strip()) <= 64:
        assert 0 <= parse_duration(text) <= MAX_DURATION_S


@pytest.mark.parametrize(
    "text", ["90s", "30m", "1h30m", "8h", "0", "off", "Never", "1 day, 2 hours", "1.5h", " 2H "]
)
def test_usual_durations_are_in_the_pattern(text: str) -> None:
    """The pattern has what people write."""
    assert re.search(duration_pattern(), text)
