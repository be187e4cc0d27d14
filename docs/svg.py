"""A terminal's text as a picture: SVG that fetches nothing and has the reader's own colours.

One file serves light and dark pages: it has both themes, and the reader's setting chooses.
"""

from __future__ import annotations

import re
from html import escape

from mooring_cli.output import COLOURS, width_of

# Background, text, and what the xterm colours below 16 are not used for
LIGHT, DARK = ("#ffffff", "#1f2328"), ("#0d1117", "#e6edf3")
ADVANCE, LINE, SIZE, MARGIN = 8.4, 19, 14, 14
_SGR = re.compile(r"\033\[([0-9;]*)m")
_RUN = re.compile(r"\S+(?: \S+)*")  # two blanks and more part columns


def rgb(colour: int) -> str:
    """One of xterm's fixed colours, those above 15."""
    if colour >= 232:
        return "#" + f"{8 + 10 * (colour - 232):02x}" * 3
    steps = (0, 95, 135, 175, 215, 255)
    index = colour - 16
    return "#" + "".join(f"{steps[index // part % 6]:02x}" for part in (36, 6, 1))


def luminance(colour: str) -> float:
    """Of ``#rrggbb``, as https://www.w3.org/TR/WCAG22/#dfn-relative-luminance has it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """From 1 for the same to 21 for black on white."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def picture(text: str, columns: int) -> str:
    """The SVG of a text with the colours that ``mooring_cli.output.paint`` gives it."""
    names = {f"38;5;{number}": name for name, number in COLOURS.items()} | {"1": "bold"}
    lines = text.rstrip("\n").split("\n")
    width, height = columns * ADVANCE + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    body = []
    for number, line in enumerate(lines):
        y = MARGIN + (number + 0.75) * LINE
        at, style = 0, ""
        parts = _SGR.split(line)
        for even, part in enumerate(parts):
            if even % 2:
                style = names.get(part, "")
                continue
            for run in _RUN.finditer(part):
                x = MARGIN + (at + width_of(part[: run.start()])) * ADVANCE
                long = width_of(run.group()) * ADVANCE
                name = f' class="{style}"' if style else ""
                body.append(
                    f'<text{name} x="{x:.1f}" y="{y:.1f}" textLength="{long:.1f}">'
                    f"{escape(run.group())}</text>"
                )
            at += width_of(part)
    colours = "".join(f".{name}{{fill:{rgb(number)}}}" for name, number in COLOURS.items())
    style = (
        f"text{{font:{SIZE}px Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:{LIGHT[1]};"
        f"white-space:pre}}rect{{fill:{LIGHT[0]};stroke:#8b949e}}.bold{{font-weight:bold}}{colours}"
        f"@media(prefers-color-scheme:dark){{text{{fill:{DARK[1]}}}rect{{fill:{DARK[0]}}}{colours}}}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"'
    return "\n".join(
        [
            f'{head} width="{width:.0f}">',
            f"<style>{style}</style>",
            f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="6"/>',
            *body,
            "</svg>\n",
        ]
    )
