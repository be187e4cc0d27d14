"""How things look: in 20 to 250 columns, on light and dark, in a pipe, and with hostile texts."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mooring.errors import MooringError
from mooring_cli import output
from tests.support.cli import plain

# tables in terminals of any width


def test_no_line_is_wider_than_the_terminal(stage: Any) -> None:
    """Whatever the terminal's width, a table's lines fit it, and every name is there."""
    for width in (40, 60, 80, 100, 120, 200, 250):
        for command in ("ps", "ps --all-users --all", "ps --dead", "gpus", "top --once"):
            said = plain(stage.said(f"mooring {command}", width))
            assert max(map(output.width_of, said.splitlines())) <= width, (command, width)
            if "--all-users" in command:
                for name in ("bert-finetune", "vision-lab", "diffusion-xl", "llama-serve", "viz"):
                    assert re.search(rf"^{name} ", said, re.MULTILINE), (name, width)


def test_what_matters_is_readable_in_80_columns(stage: Any) -> None:
    """Names, states with their reasons, GPUs that are not used, and ends are whole."""
    said = plain(stage.said("mooring ps", 80))
    for text in (
        "running (gpu lost)", "0.5, unused 25m", "stopped (idle)", "stopped (exit 3)", "pending",
        "1st in the q", "held 1h 59m", "2h 29m (idle)", "20h (max)",
    ):  # fmt: skip
        assert text in said, text
    said = plain(stage.said("mooring gpus", 80))
    for text in (
        "8 x NVIDIA A100-SXM4-80GB (80 GiB), driver 550.54.15; free: 2 MIG instances",
        "71.2 / 80 GiB", "97%", "vision-lab (0.5)", "viz (0.25)", "reserved (0.25)",
        "process 48213",
        "waiting: sweep-07 (alice, 4 GPUs)",
        "dana", "draining", "split", "7:0", "2h 10m", "19:55",
    ):  # fmt: skip
        assert text in said, text


def test_without_a_terminal_nothing_is_cut_or_coloured(stage: Any) -> None:
    """In a pipe every column is there, whole, whatever COLUMNS says, and NO_COLOR is kept to."""
    for command in ("ps", "gpus", "top", "describe bert-finetune", "events bert-finetune"):
        piped = stage.said(f"mooring {command}", 40, terminal=False)
        assert "\033" not in piped
        assert "…" not in piped
        assert "\033" not in stage.said(f"mooring {command} ".replace("top", "top --once"), 80,
                                        NO_COLOR="1")  # fmt: skip
    assert "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime" in stage.said(
        "mooring ps", 40, terminal=False
    )


# colours


@pytest.mark.parametrize(
    "background",
    ["#ffffff", "#fdf6e3", "#fafafa", "#000000", "#0d1117", "#1e1e1e", "#002b36"],
    ids=["white", "solarized-light", "atom-light", "black", "github", "vs-code", "solarized-dark"],
)
def test_every_colour_is_readable_on_light_and_dark(
    docs: tuple[ModuleType, ModuleType], background: str
) -> None:
    """Each colour has a contrast of 2.7 to what terminals have behind it, and 3.9 to white."""
    svg = docs[1]
    for name, number in output.COLOURS.items():
        least = 3.9 if background == "#ffffff" else 2.7
        assert svg.contrast(svg.rgb(number), background) >= least, name


def test_colours_of_terminals(terminal: pytest.MonkeyPatch) -> None:
    """256 fixed colours where they are known, the theme's elsewhere, none for who wants none."""
    assert output.paint("x", "good") == "\033[38;5;28mx\033[0m"
    assert output.paint("x", "") == "x"
    terminal.setenv("TERM", "screen")
    terminal.delenv("COLORTERM", raising=False)
    assert output.paint("x", "bad") == "\033[31mx\033[0m"
    assert output.paint("x", "quiet") == "x"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        terminal.setenv(name, value)
        assert output.paint("x", "bad") == "x"
        terminal.setenv(name, "")


# widths


def test_names_of_others_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in what others wrote are shown, not obeyed."""
    assert output.clean("a\x1b[2Jb\x07\x9bc") == "a�[2Jb��c"
    output.print_error(MooringError("bad \x1b]0;x\x07 name"))
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "width"),
    [("abc", 3), ("实验", 4), ("é", 1), ("e\u0301", 1), ("\uff46\uff47", 4), ("", 0)],
)
def test_widths(text: str, width: int) -> None:
    """Wide characters take two columns, accents none, and what is fitted is as wide as asked."""
    assert output.width_of(text) == width
    for room in range(1, 12):
        assert output.width_of(output.fitted(text, room)) == room


def test_wide_and_hostile_texts_keep_the_columns(terminal: pytest.MonkeyPatch) -> None:
    """Other people's texts neither drive the terminal nor shift what stands beside them."""
    terminal.setenv("COLUMNS", "40")
    rows = [["实验实验", "x"], ["a\033[2J\nb\tc", "y"], ["z" * 60, "w"]]
    lines = [plain(line) for line in output.lines_of(["NAME", "B"], rows, width=40)]
    assert len(lines) == 4
    assert all("\033" not in line and "\n" not in line for line in lines)
    assert {output.width_of(line) for line in lines[1:]} == {40}


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (1023, "1 KiB"), (512 << 20, "512 MiB"), (80 << 30, "80 GiB"),
     (int(61.25 * (1 << 30)), "61.2 GiB"), (1 << 40, "1 TiB"), (None, "-")],
)  # fmt: skip
def test_sizes(size: int | None, said: str) -> None:
    """Three digits, and the unit that suits."""
    assert output.size_text(size) == said


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(36 << 20, 1 << 30, "36 MiB / 1 GiB"), (1, 1 << 30, "1 B / 1 GiB"), (0, 1 << 30, "0 / 1 GiB"),
     (800 << 20, 1 << 30, "800 MiB / 1 GiB"), (5 << 29, 80 << 30, "2.5 / 80 GiB"),
     (80 << 30, 80 << 30, "80 / 80 GiB")],
)  # fmt: skip
def test_parts_of_sizes(part: int, whole: int, text: str) -> None:
    """What is used is never rounded to nothing: it has a unit of its own where it needs one."""
    assert output.part_text(part, whole) == text


@pytest.mark.parametrize("value", [float("inf"), 10**400, -1, "x", True])
def test_a_strangers_spec_holds_anything(value: object) -> None:
    """A label may say any number; telling it is no error."""
    for key in ("idle_timeout", "memory"):
        assert output.value_text(key, value)


# pages


def test_a_long_list_goes_through_the_pager(
    capfd: pytest.CaptureFixture[str], terminal: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Longer than the terminal: $PAGER gets it; shorter, or with PAGER= : it is printed."""
    for stream in (sys.stdin, sys.stdout):
        terminal.setattr(stream, "isatty", lambda: True, raising=False)
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged $LESS; cat\n")
    pager.chmod(0o755)
    terminal.setenv("PAGER", str(pager))
    terminal.setenv("LINES", "5")
    terminal.setenv("COLUMNS", "80")
    output.print_in_pages("a\nb\n")
    assert capfd.readouterr().out == "a\nb\n"
    output.print_in_pages("a\n" * 9)
    assert capfd.readouterr().out == "paged FRX\n" + "a\n" * 9
    for pager_ in ("", "cat", "no-such-pager-here"):
        terminal.setenv("PAGER", pager_)
        output.print_in_pages("a\n" * 9)
        assert capfd.readouterr().out == "a\n" * 9
