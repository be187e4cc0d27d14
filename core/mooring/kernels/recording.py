"""Read the output of a session's kernels as ``guest/recorder.py`` recorded it.

Programs in the container can write the files, so nothing in them is trusted: bytes, executions,
outputs and nested values are limited, and invalid lines are skipped. The size of the result is
limited too, because one line may change many outputs.

``guest`` is the session's run folder, /run/mooring in its container.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mooring.guest.channel import Guest
from mooring.host.untrusted import parse_json
from mooring.kernels.kernelhost import host_lives
from mooring.kernels.listing import KERNEL_ID

#: How many bytes are read of each of a kernel's two files: half of the largest ``record``.
MAX_FILE_BYTES = 32 << 20
MAX_EXECUTIONS = 10_000
MAX_OUTPUTS = 50_000
# A longer line is skipped if its JSON may have more than ``MAX_VALUES`` values
LONG_LINE = 1 << 20
MAX_VALUES = 500_000
# Limit for the whole result as JSON; lower if the session's ``record`` is small
MAX_BYTES = 64 << 20
MAX_TRACEBACK_LINES = 1000
MAX_MIME_TYPES = 100
OUTPUTS = frozenset({"stream", "display_data", "execute_result", "error"})
BUNDLES = frozenset({"display_data", "execute_result", "update_display_data"})

# How many bytes are enough for the first line of a file
_FIRST_LINE = 200


@dataclass(frozen=True)
class Message:
    """One recorded line.

    Attributes:
        kind: a message type of the iopub channel, or ``begin``, ``start`` or ``lost``, see the
            recorder.
        parent: the id of the execute_request; "" for ``start``.
        at: in seconds since the epoch.
        content: the content of the message, or the line's fields.
        cell: the cell's id in the notebook for an ``execute_input``, otherwise "".
        again: whether this ``execute_input`` was recorded before, in a file that may be deleted.
        values: upper bound for the number of values in its JSON.
        size: upper bound for its size as ASCII JSON, in bytes.
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
    """The output of one execute_request so far.

    Attributes:
        msg_id: the request's message id.
        cell_id: the cell's id in the notebook; "" if the client did not send it.
        code: the executed code; "" if the recording does not include the start of the execution.
        execution_count: the number in the cell's prompt; None if it is not known.
        status: ``running``, ``ok`` or ``error``; also ``error`` if the kernel ended meanwhile.
        started: in seconds since the epoch.
        outputs: in nbformat 4.
        truncated: whether some of its output is missing.
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
        """Return the attributes by name, as JSON for the REST API."""
        return vars(self).copy()


@dataclass(frozen=True)
class Recording:
    """A kernel's executions, oldest first, and the number of recorded bytes that are lost."""

    executions: tuple[Execution, ...] = ()
    lost_bytes: int = 0


def read(guest: Guest, short_id: str, record_bytes: int | None = None) -> Recording:
    """Return everything recorded for a kernel; empty if there is no recording or no such kernel.

    Args:
        guest: the run folder of a session, running or ended.
        short_id: the name of the kernel's own folder.
        record_bytes: the session's ``record``, in bytes; the result is limited to four times this
            size, even if the session has enlarged its files. None for the default limit.
    """
    if not KERNEL_ID.fullmatch(short_id):
        return Recording()
    reader = Reader(guest, short_id)
    # ASCII JSON takes more bytes than the recorder's lines, because of escapes
    book = _Book(min(4 * record_bytes, MAX_BYTES) if record_bytes else MAX_BYTES)
    for message in reader.messages():
        book.add(message)
    alive = not guest.exists(f"k/{short_id}/exit") and host_lives(guest)
    executions = book.finish(alive=alive, lost=bool(reader.lost_bytes))
    return Recording(tuple(executions), reader.lost_bytes)


class Reader:
    """Reads a kernel's recorded lines in order; each call of ``messages`` reads the new ones.

    Args:
        guest: the session's run folder.
        short_id: the name of the kernel's own folder.
    """

    def __init__(self, guest: Guest, short_id: str) -> None:
        self.guest = guest
        self.id = short_id
        self.lost_bytes = 0
        self._number = -1  # number of the file that was read last
        self._offset = 0

    def messages(self) -> Iterator[Message]:
        """Yield the messages recorded since the last call, except for an incomplete last line."""
        if not KERNEL_ID.fullmatch(self.id):
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
        """Return the unread rest of the file that was read last, and all newer data."""
        unread: list[bytes] = []
        for _ in range(3):
            newest, older = self._file("out.0"), self._file("out.1")
            if newest.number != older.number:
                break  # otherwise the recorder switched files between the two reads
        last = self._number
        for file in (older, newest):
            if not file.data or file.number < last:
                continue
            begin = self._offset if file.number == last else 0
            unread.append(file.data[begin:])
            self._number = file.number
            self._offset = max(begin, file.data.rfind(b"\n") + 1)
        return unread

    def _file(self, name: str) -> _File:
        path = f"k/{self.id}/{name}"
        try:
            number, size = _begin(self.guest.read_bytes(path, _FIRST_LINE))
            data = self.guest.read_bytes(path, size)
            # the recorder may have renamed the file meanwhile, or started to overwrite it
            whole = _begin(data)[0] == number == _begin(self.guest.read_bytes(path, _FIRST_LINE))[0]
            return _File(number, data if whole else b"")
        except OSError:
            return _File(-1, b"")


@dataclass(frozen=True)
class _File:
    number: int
    data: bytes


def _begin(data: bytes) -> tuple[int, int]:
    """Return a file's number and how many of its bytes are valid, from its first line."""
    message = _parse(data[:_FIRST_LINE].partition(b"\n")[0])
    content = message.content if message and message.kind == "begin" else {}
    return _count(content.get("number")), min(_count(content.get("size")), MAX_FILE_BYTES)


@dataclass(frozen=True)
class _Display:
    """An output that ``update_display_data`` can change; updates change ``output`` in place."""

    key: str  # its display id
    number: int  # the position of its message in the recording
    execution: Execution
    output: dict[str, Any]


@dataclass(frozen=True)
class _Update:
    """The latest update of all displays with one id."""

    number: int  # the position of its message in the recording
    bundle: dict[str, Any]
    size: int  # of the message as ASCII JSON, in bytes


class _Book:
    """Builds executions from messages.

    Args:
        limit: how much JSON may be kept, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self.room = limit  # bytes of JSON that may still be kept
        self.executions: dict[str, Execution] = {}
        self.running: set[str] = set()
        self.to_clear: set[str] = set()
        self.streams: dict[int, list[str]] = {}  # parts of the text, by id() of the output
        self.displays: dict[int, _Display] = {}  # by id() of the output
        self.display_ids: set[str] = set()  # including those of cleared outputs
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
            if key in self.display_ids:
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
        """Return the executions, without those that have neither code nor output.

        Args:
            alive: whether the kernel still runs.
            lost: whether part of the recording is lost.
        """
        if not alive:
            self._ended()
        for display in self.displays.values():
            update = self.updates.get(display.key)
            if update is None or update.number < display.number:
                continue
            if self._keeps(display.execution, update.size):
                display.output.update(update.bundle)
        executions = []
        for execution in self.executions.values():
            if execution.code or execution.outputs:
                execution.truncated |= lost and not execution.code
                for output in execution.outputs:
                    if id(output) in self.streams:
                        output["text"] = "".join(self.streams[id(output)])
                executions.append(execution)
        return executions

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
                self.display_ids.add(key)
                self.displays[id(output)] = _Display(key, self.number, execution, output)

    def _keeps(self, execution: Execution, size: int) -> bool:
        """Return whether ``size`` more bytes may be kept; if not, mark the execution truncated."""
        self.room -= size
        execution.truncated |= self.room < 0
        return self.room >= 0

    def _bundle(self, message: Message) -> dict[str, Any]:
        """Return a display's data and metadata, or only texts once there are too many values."""
        self.values += message.values
        bundle = _bundle(message.content)
        if self.values > MAX_VALUES:
            return {"data": _texts(bundle["data"]), "metadata": {}}
        return bundle

    def _traceback(self, execution: Execution, lines: object) -> list[str]:
        """Return a traceback, or the first and last lines of one that is too long."""
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
        """Mark all running executions as failed: the kernel's process has ended."""
        for msg_id in self.running:
            self.executions[msg_id].status = "error"
        self.running.clear()


def _parse(line: bytes) -> Message | None:
    """Parse a recorded line; return None if it is invalid."""
    values = sum(map(line.count, (b",", b"[", b"{")))
    if len(line) > LONG_LINE and values > MAX_VALUES:
        return None
    text = line.decode(errors="replace")
    try:
        fields = parse_json(text, parse_constant=lambda _: None, parse_float=_finite)
        kind, parent, at = fields["kind"], fields.get("parent", ""), fields.get("at", 0.0)
        cell, content = fields.get("cell", ""), fields.get("content", fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    fits = isinstance(at, (int, float)) and abs(at) < 1e12 and isinstance(content, dict)
    texts = all(isinstance(text, str) and len(text) <= 200 for text in (kind, parent, cell))
    if not fits or not texts:
        return None
    again = fields.get("again") is True
    return Message(kind, parent, float(at), content, cell, again, values, _size(text, line))


def _size(text: str, line: bytes) -> int:
    """Return an upper bound for a line's size as ASCII JSON, in bytes, where escapes take six."""
    return len(text) + 5 * (len(line) - len(text) if "\ufffd" not in text else len(text))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return value
    return None


def _count(value: object) -> int:
    return min(max(_number(value) or 0, 0), 1 << 60)


def _bundle(content: dict[str, Any]) -> dict[str, Any]:
    """Return the data and metadata of a display."""
    data, metadata = content.get("data"), content.get("metadata")
    return {
        "data": data if isinstance(data, dict) else {},
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


def _finite(text: str) -> float | None:
    """Parse a number; return None if it is not finite, which JSON cannot represent."""
    number = float(text)
    return number if math.isfinite(number) else None


def _texts(data: dict[str, Any]) -> dict[str, Any]:
    texts = ((kind, value) for kind, value in data.items() if isinstance(value, str))
    return dict(itertools.islice(texts, MAX_MIME_TYPES))


def _display_id(content: dict[str, Any]) -> str:
    transient = content.get("transient")
    return _text(transient.get("display_id")) if isinstance(transient, dict) else ""
