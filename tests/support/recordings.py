"""Files as ``guest/recorder.py`` writes them, of a kernel "a", line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def line(kind: str, parent: str = "m1", at: float = 1.0, **content: Any) -> str:
    return json.dumps({"kind": kind, "parent": parent, "at": at, "content": content})


def cell(code: str = "x", parent: str = "m1", count: int = 1, cell: str = "") -> str:
    content = {"code": code, "execution_count": count}
    return json.dumps(
        {"kind": "execute_input", "parent": parent, "at": 5.5, "cell": cell, "content": content}
    )


def out(text: str, name: str = "stdout", parent: str = "m1") -> str:
    return line("stream", parent, name=name, text=text)


def show(text: str, display_id: str = "", kind: str = "display_data", parent: str = "m1") -> str:
    transient = {"display_id": display_id} if display_id else {}
    return line(kind, parent, data={"text/plain": text}, metadata={}, transient=transient)


def idle(parent: str = "m1") -> str:
    return line("status", parent, execution_state="idle")


def begin(size: int, number: int = 0, lost: int = 0) -> str:
    return f'{{"kind":"begin","number":{number:12},"lost":{lost:18},"size":{size:12}}}'


def write(
    run: Path, *lines: str, name: str = "out.0", number: int = 0, lost: int = 0, more: str = ""
) -> None:
    """Write a file as the recorder leaves it; ``more`` is left behind its end."""
    text = "".join(f"{text}\n" for text in (begin(0), *lines))
    size = len(text.encode())
    text = text.replace(begin(0), begin(size, number, lost), 1)
    (run / "k" / "a" / name).write_text(text + more)


#: Lines that no recorder writes
HOSTILE = [
    "",
    "null",
    "[]",
    "7",
    '"kind"',
    "{",
    "\0\0\0",
    "[" * 100_000,
    '{"kind":' + '{"a":' * 50_000,
    '{"kind":null}',
    '{"kind":["stream"],"parent":{}}',
    '{"kind":"stream","parent":7}',
    '{"kind":"stream","parent":"m1","at":NaN,"content":{"text":"x"}}',
    '{"kind":"stream","parent":"m1","at":1e999,"content":{"text":"x"}}',
    '{"kind":"stream","parent":"m1","at":"x","content":{"text":"x"}}',
    '{"kind":"stream","parent":"m1","at":1,"content":[]}',
    '{"kind":"stream","parent":"' + "m" * 10_000 + '","content":{"text":"x"}}',
    '{"kind":"begin","lost":' + "9" * 10_000 + "}",
    '{"kind":"begin","lost":-5}',
    '{"kind":"begin","lost":true}',
    '{"kind":"nothing known","parent":"m1"}',
    line("stream"),
    line("stream", name=7, text=7),
    line("stream", name={}, text=[]),
    line("display_data"),
    line("display_data", data=[], metadata=7, transient=[]),
    line(
        "display_data", data={"text/plain": {"a": [1]}}, metadata={}, transient={"display_id": []}
    ),
    line("update_display_data"),
    line("update_display_data", transient={"display_id": {}}),
    line("execute_result", execution_count="x"),
    line("execute_input"),
    line("execute_input", code=7, execution_count=True),
    line("error"),
    line("error", ename=1, evalue=2, traceback="x"),
    line("error", traceback=[1, [], "x"]),
    line("clear_output", wait=7),
    line("status"),
    line("lost", bytes=-1),
    '{"kind":"lost","parent":"m1","bytes":-1}',
    '{"kind":"lost","parent":"m1","bytes":"x"}',
]
