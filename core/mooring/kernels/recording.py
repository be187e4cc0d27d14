"""What a session's kernels published, as ``guest/recorder.py`` wrote it down beside them.

The files lie where the container can write, so nothing in them is trusted: what is read is bounded
in bytes, lines, executions and nested values, and a line that is not what it should be is skipped.
What is kept of them is bounded too: a line may be meant for many outputs.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mooring.guest import shared
from mooring.kernels.kernel import host_lives
from mooring.sessions.record import Folder

#: Of each of a kernel's two files at most so much is read: half of the largest ``record``.
MAX_FILE_BYTES = 32 << 20
MAX_EXECUTIONS = 10_000
MAX_OUTPUTS = 50_000
# A longer line may be refused for what its JSON would take in memory
LONG_LINE = 1 << 20
MAX_VALUES = 500_000
# Of all that is kept, as JSON; fewer where the session's ``record`` is small
MAX_BYTES = 64 << 20
MAX_TRACEBACK_LINES = 1000
MAX_MIME_TYPES = 100
OUTPUTS = frozenset({"stream", "display_data", "execute_result", "error"})
BUNDLES = frozenset({"display_data", "execute_result", "update_display_data"})

_SHORT_ID = re.compile(r"[A-Za-z0-9-]{1,40}")


@dataclass(frozen=True)
class Message:
    """One recorded line.

    Attributes:
        kind: a message type of the iopub channel, or ``start`` and ``lost``, see the recorder.
        parent: the id of the execute_request that it belongs to; "" for ``start``.
        at: seconds since the epoch.
        cell: the notebook's id of the cell, in an ``execute_input``; else "".
        again: an ``execute_input`` that was recorded before, and may be lost there.
        values: how many values its JSON has, at most.
        size: how many bytes it takes as ASCII JSON, about.
    """

    kind: str
    parent: str
    at: float
    content: dict[str, Any]
    cell: str = ""
    again: bool = False
    values: int = 0
    size: int = 0


@dataclass
class Execution:
    """What one request to execute printed, so far.

    Attributes:
        msg_id: the request's.
        cell_id: the notebook's id of the cell; "" where the client told none.
        code: "" where the beginning of the execution is not recorded any more.
        status: ``running``, ``ok`` or ``error``; the last too if the kernel ended meanwhile.
        started: seconds since the epoch.
        outputs: nbformat 4.
        truncated: whether output of it is missing.
    """

    msg_id: str
    cell_id: str = ""
    code: str = ""
    execution_count: int | None = None
    status: str = "running"
    started: float = 0.0
    outputs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    truncated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for the REST API."""
        return vars(self).copy()


@dataclass(frozen=True)
class Recording:
    """What is known of a kernel's executions, the oldest first, and how many bytes are not."""

    executions: tuple[Execution, ...] = ()
    lost_bytes: int = 0


def read(folder: Folder, short_id: str) -> Recording:
    """All that is recorded of a kernel; empty where there is nothing, or no such kernel.

    Args:
        folder: the session's; it may run or not.
        short_id: names the kernel's own folder.
    """
    if not _SHORT_ID.fullmatch(short_id):
        return Recording()
    reader = Reader(folder, short_id)
    book = _Book(_most(folder))
    for message in reader.messages():
        book.add(message)
    alive = host_lives(folder) and not shared.exists(folder.run, f"k/{short_id}/exit")
    return Recording(
        tuple(book.finish(alive=alive, lost=bool(reader.lost_bytes))), reader.lost_bytes
    )


class Reader:
    """Reads a kernel's lines in order, those that are new at each call of ``messages``."""

    def __init__(self, folder: Folder, short_id: str) -> None:
        self.folder = folder
        self.id = short_id
        self.lost_bytes = 0
        self._number = -1  # of the file that was read last
        self._offset = 0

    def messages(self) -> Iterator[Message]:
        """What was recorded since the last call. A line that is still being written is left."""
        if not _SHORT_ID.fullmatch(self.id):
            return
        for data in self._unread():
            begin = 0
            while (end := data.find(b"\n", begin)) >= 0:
                line, begin = data[begin:end], end + 1
                message = _parse(line)
                if message is None:
                    self.lost_bytes += len(line)
                elif message.kind == "begin":
                    self.lost_bytes = max(self.lost_bytes, _count(message.content.get("lost")))
                else:
                    if message.kind == "lost":
                        self.lost_bytes += _count(message.content.get("bytes"))
                    yield message

    def _unread(self) -> list[bytes]:
        """The rest of the file that was read last, and the newer one."""
        found: list[bytes] = []
        for _ in range(3):
            newest, older = self._file("out.0"), self._file("out.1")
            if newest.number != older.number:
                break  # else the recorder went on to the next file between the two
        last = self._number
        for file in (older, newest):
            if not file.data or file.number < last:
                continue  # read already
            begin = self._offset if file.number == last else 0
            found.append(file.data[begin:])
            self._number = file.number
            self._offset = max(begin, file.data.rfind(b"\n") + 1)
        return found

    def _file(self, name: str) -> _File:
        try:
            with shared.opened(self.folder.run, f"k/{self.id}/{name}") as descriptor:
                number, size = _begin(descriptor)
                data = os.pread(descriptor, size, 0)
                # its recorder may have begun to write it over meanwhile, from its first line on
                return _File(number, data if _begin(descriptor)[0] == number else b"")
        except OSError:
            return _File(-1, b"")


@dataclass(frozen=True)
class _File:
    number: int
    data: bytes


def _begin(descriptor: int) -> tuple[int, int]:
    """A file's number, and how many bytes of it are lines, as its first line says."""
    message = _parse(os.pread(descriptor, 200, 0).partition(b"\n")[0])
    content = message.content if message and message.kind == "begin" else {}
    return _count(content.get("number")), min(_count(content.get("size")), MAX_FILE_BYTES)


@dataclass(frozen=True)
class _Display:
    """An output that may be changed: by what name, since which message, and whose it is."""

    key: str
    number: int
    execution: Execution
    output: dict[str, Any]


@dataclass(frozen=True)
class _Update:
    """What the displays of a name show from a message on."""

    number: int
    bundle: dict[str, Any]
    size: int


class _Book:
    """Executions in the making."""

    def __init__(self, most: int) -> None:
        self.room = most  # bytes of JSON that may still be kept
        self.executions: dict[str, Execution] = {}
        self.running: set[str] = set()
        self.to_clear: set[str] = set()
        self.streams: dict[int, list[str]] = {}  # id of an output -> pieces of its text
        self.displays: dict[int, _Display] = {}  # by the id of their output
        self.names: set[str] = set()  # of displays, those that are gone too
        self.updates: dict[str, _Update] = {}
        self.outputs = 0
        self.values = 0
        self.number = 0

    def add(self, message: Message) -> None:
        self.number += 1
        kind, content = message.kind, message.content
        if kind == "start":
            self._ended()
            return
        if kind == "update_display_data":
            key = _display_id(content)
            if key in self.names:
                self.updates[key] = _Update(self.number, self._bundle(message), message.size)
            return
        execution = self.executions.get(message.parent)
        if execution is None:
            if kind == "status":
                return
            execution = Execution(message.parent, started=message.at, truncated=message.again)
            self.executions[message.parent] = execution
            self.running.add(message.parent)
            if len(self.executions) > MAX_EXECUTIONS:
                self._drop(next(iter(self.executions)))
        if kind == "execute_input":
            if self._keeps(execution, message.size):
                execution.code = _text(content.get("code"))
            execution.cell_id = message.cell
            execution.execution_count = _number(content.get("execution_count"))
        elif kind == "status":
            self.running.discard(message.parent)
            if execution.status == "running":
                execution.status = "ok"
        elif kind == "lost":
            execution.truncated = True
        elif kind == "clear_output" and content.get("wait") is True:
            self.to_clear.add(message.parent)
        elif kind == "clear_output":
            self._clear(execution)
        elif kind in OUTPUTS:
            self._output(execution, message)

    def finish(self, *, alive: bool, lost: bool) -> list[Execution]:
        """The executions. Silent ones, a client's own, are there if they printed something."""
        if not alive:
            self._ended()
        for display in self.displays.values():
            update = self.updates.get(display.key)
            if update is None or update.number < display.number:
                continue
            if self._keeps(display.execution, update.size):
                display.output.update(update.bundle)
        found = []
        for execution in self.executions.values():
            if execution.code or execution.outputs:
                execution.truncated |= lost and not execution.code
                for output in execution.outputs:
                    if id(output) in self.streams:
                        output["text"] = "".join(self.streams[id(output)])
                found.append(execution)
        return found

    def _output(self, execution: Execution, message: Message) -> None:
        kind, content = message.kind, message.content
        if execution.msg_id in self.to_clear:
            self._clear(execution)
        if not self._keeps(execution, message.size):
            return
        output: dict[str, Any] = {"output_type": kind}
        if kind == "stream":
            output |= {"name": "stderr" if content.get("name") == "stderr" else "stdout"}
            last = execution.outputs[-1] if execution.outputs else {}
            if last.get("output_type") == kind and last["name"] == output["name"]:
                self.streams[id(last)].append(_text(content.get("text")))
                return
        if self.outputs >= MAX_OUTPUTS:
            execution.truncated = True
            return
        self.outputs += 1
        execution.outputs.append(output)
        if kind == "stream":
            self.streams[id(output)] = [_text(content.get("text"))]
        elif kind == "error":
            execution.status = "error"
            output |= {
                "ename": _text(content.get("ename")),
                "evalue": _text(content.get("evalue")),
                "traceback": self._traceback(execution, content.get("traceback")),
            }
        else:
            if kind == "execute_result":
                output["execution_count"] = _number(content.get("execution_count"))
            output |= self._bundle(message)
            if key := _display_id(content):
                self.names.add(key)
                self.displays[id(output)] = _Display(key, self.number, execution, output)

    def _keeps(self, execution: Execution, size: int) -> bool:
        """Whether there is room for so much more; else the execution is not whole."""
        self.room -= size
        execution.truncated |= self.room < 0
        return self.room >= 0

    def _bundle(self, message: Message) -> dict[str, Any]:
        """What is displayed; only the texts of it, where there are too many values already."""
        self.values += message.values
        found = _bundle(message.content)
        if self.values > MAX_VALUES:
            return {"data": _texts(found["data"]), "metadata": {}}
        return found

    def _traceback(self, execution: Execution, lines: object) -> list[str]:
        """Its first lines and its last ones, of one that is too long."""
        if not isinstance(lines, list):
            return []
        if len(lines) > MAX_TRACEBACK_LINES:
            half = MAX_TRACEBACK_LINES // 2
            lines = lines[:half] + lines[-half:]
            execution.truncated = True
        self.values += len(lines)
        if self.values > MAX_VALUES:
            execution.truncated = True
            return []
        return [_text(line) for line in lines]

    def _clear(self, execution: Execution) -> None:
        self.to_clear.discard(execution.msg_id)
        for output in execution.outputs:
            self.streams.pop(id(output), None)
            self.displays.pop(id(output), None)
        self.outputs -= len(execution.outputs)
        execution.outputs = []

    def _drop(self, msg_id: str) -> None:
        self._clear(self.executions.pop(msg_id))
        self.running.discard(msg_id)

    def _ended(self) -> None:
        """The kernel's process is gone, and what ran in it."""
        for msg_id in self.running:
            self.executions[msg_id].status = "error"
        self.running.clear()


def _parse(line: bytes) -> Message | None:
    """A line, or None for one that no recorder writes."""
    values = sum(map(line.count, (b",", b"[", b"{")))
    if len(line) > LONG_LINE and values > MAX_VALUES:
        return None
    text = line.decode(errors="replace")
    try:
        found = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
        kind, parent, at = found["kind"], found.get("parent", ""), found.get("at", 0.0)
        cell, content = found.get("cell", ""), found.get("content", found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    fits = isinstance(at, (int, float)) and abs(at) < 1e12 and isinstance(content, dict)
    texts = all(isinstance(text, str) and len(text) <= 200 for text in (kind, parent, cell))
    if not fits or not texts:
        return None
    again = found.get("again") is True
    return Message(kind, parent, float(at), content, cell, again, values, _size(text, line))


def _size(text: str, line: bytes) -> int:
    """How many bytes a line has at most once it is written in ASCII: six for half a letter."""
    return len(text) + 5 * (len(line) - len(text) if "\ufffd" not in text else len(text))


def _most(folder: Folder) -> int:
    """How many bytes of JSON are kept of a recording: what it may be, with room for escapes."""
    spec = folder.record().get("spec")
    record = _number(spec.get("record")) if isinstance(spec, dict) else None
    return min(4 * record, MAX_BYTES) if record else MAX_BYTES


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return value
    return None


def _count(value: object) -> int:
    return min(max(_number(value) or 0, 0), 1 << 60)


def _bundle(content: dict[str, Any]) -> dict[str, Any]:
    """The data and metadata of something that is displayed."""
    data, metadata = content.get("data"), content.get("metadata")
    return {
        "data": data if isinstance(data, dict) else {},
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


def _finite(text: str) -> float | None:
    """A number that JSON can say again."""
    number = float(text)
    return number if math.isfinite(number) else None


def _texts(data: dict[str, Any]) -> dict[str, Any]:
    texts = ((kind, value) for kind, value in data.items() if isinstance(value, str))
    return dict(itertools.islice(texts, MAX_MIME_TYPES))


def _display_id(content: dict[str, Any]) -> str:
    transient = content.get("transient")
    return _text(transient.get("display_id")) if isinstance(transient, dict) else ""
