"""Records a kernel's output, so that it is not lost while no client is connected.

It runs in the container, on the image's Python (3.8 or newer): in the kernel's process, or in the
watcher of a non-Python kernel. Files in the kernel's folder:

    out.0       the newest lines, at most half of the limit
    out.1       the lines before them, at most the other half
    out.2       temporarily, the next out.0

When out.0 is full it becomes out.1, and the old out.1 is overwritten from its beginning, because
existing pages cost a quarter of new ones. A line is valid once the size in the file's first line
includes its end.

A line is one JSON object:

    {"kind": "begin", "number": N, "lost": L, "size": S}
                                                the first of each file, of a fixed length: the first
                                                S bytes are valid; L bytes were dropped before them
    {"kind": "start", "at": T}                  a process of the kernel started
    {"kind": "lost", "parent": ID, "bytes": L}  output that was too long to be recorded
    {"kind": K, "parent": ID, "at": T, "cell": C, "content": {…}}

K is the type of an iopub message, ID its execute_request, T in seconds since the epoch, and the
content that of the message, byte for byte. Lines of the kind execute_input have "cell", the
notebook's cell id, "" if the client did not send it. The execute_input of the running execution is
repeated, with "again": true, at the beginning of each file. Long streams are split into several
lines.
"""

import json
import os
import time

KINDS = {
    b"clear_output",
    b"display_data",
    b"error",
    b"execute_input",
    b"execute_result",
    b"status",
    b"stream",
    b"update_display_data",
}
# A killed process loses at most its output of this time
FLUSH_S = 0.05
BATCH_BYTES = 256 << 10
BATCH_PARTS = 1000  # pwritev accepts 1024
DELIMITER = b"<IDS|MSG>"
LONGEST_PIECE = 1 << 20
SMALLEST_LIMIT = 64 << 10
OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
BEGIN = b'{"kind":"begin","number":%12d,"lost":%18d,"size":%12d}\n'
SIZE_AT = len(BEGIN % (0, 0, 0)) - len(b"%12d}\n" % 0)
BACKSLASH = ord("\\")
ESCAPE_U = ord("u")


class Recorder:
    """Appends messages to the files of one kernel; silently stops at an error like a full disk.

    Args:
        folder: the kernel's.
        limit: of both files together, in bytes; below 64 KiB nothing is recorded.
    """

    def __init__(self, folder, limit):
        self.newest = os.path.join(folder, "out.0")
        self.older = os.path.join(folder, "out.1")
        self.spare = os.path.join(folder, "out.2")
        self.half = limit // 2
        self.piece = min(LONGEST_PIECE, self.half // 4)
        self.cells = {}  # id of an execute_request -> the notebook's id of its cell
        self.current = None  # the running execution, and the line that repeats its execute_input
        self.file = None
        self.number = self.lost = self.size = self.kept = 0
        self.pid = os.getpid()
        self.pending, self.pending_size, self.waiting = [], 0, False
        if limit < SMALLEST_LIMIT:
            return
        try:
            self.open()
            self.put(b'{"kind":"start","at":%.3f}\n' % time.time())
            self.write_pending()
        except OSError:
            self.close()

    def message(self, frames, call_later=None):
        """Record an iopub message if it belongs to an execution.

        Lines are written when a cell ends, and otherwise by a timer, because each system call
        releases the GIL.

        Args:
            frames: the ZeroMQ frames of the message.
            call_later: sets the timer, as call_later(SECONDS, FUNCTION); None to write at once.
        """
        if self.file is None or os.getpid() != self.pid:
            return  # a fork of the kernel sends its output through the kernel
        try:
            first = frames.index(DELIMITER) + 2
            header, parent, content = frames[first], frames[first + 1], frames[first + 3]
        except (ValueError, IndexError):
            return
        kind = value(header, b'"msg_type"')
        if kind not in KINDS or (kind == b"status" and b'"idle"' not in content):
            return
        if kind != b"update_display_data" and value(parent, b'"msg_type"') != b"execute_request":
            return
        if b"\n" in content:  # between tokens: JSON strings contain none
            content = content.replace(b"\n", b" ")
        if content[:1] != b"{":
            return
        try:
            self.write(kind, value(parent, b'"msg_id"'), content)
            if kind == b"status" or call_later is None:
                self.write_pending()
        except OSError:
            self.close()
        if self.pending and not self.waiting:
            self.waiting = True
            call_later(FLUSH_S, self.flush)

    def flush(self):
        """Write the pending lines; called by a timer and at exit."""
        self.waiting = False
        if self.file is None or os.getpid() != self.pid:
            return
        try:
            self.write_pending()
        except OSError:
            self.close()

    def write(self, kind, parent, content):
        """Add the lines of one message; split or drop content that is too long."""
        head = b'{"kind":"%s","parent":"%s","at":%.3f,' % (kind, parent, time.time())
        if kind == b"execute_input":
            head += b'"cell":%s,' % json.dumps(self.cells.pop(parent, "")).encode()
        elif kind == b"status" and self.current and self.current[0] == parent:
            self.current = None
        if len(content) <= self.piece:
            self.put(head, b'"content":', content, b"}\n")
            if kind == b"execute_input":
                self.current = (parent, b'%s"again":true,"content":%s}\n' % (head, content))
            return
        head += b'"content":'
        lost = 0
        bounds = text_bounds(content) if kind == b"stream" else None
        if bounds is None:
            if len(head) + len(content) + 200 <= self.half:
                self.put(head, content, b"}\n")
                return
            lost = len(content)
        else:
            start, end = bounds
            head += content[:start]
            whole = memoryview(content)
            if end - start > 2 * self.half:  # the rest would be overwritten
                begin, start = start, safe_cut(content, start, end - 2 * self.half, end)
                lost = start - begin
        if lost:
            self.lost += lost
            self.put(b'{"kind":"lost","parent":"%s","bytes":%d}\n' % (parent, lost))
        while bounds and start < end:
            stop = safe_cut(content, start, start + self.piece, end)
            self.put(head, whole[start:stop], b'"}}\n')
            start = stop

    # the files

    def open(self):
        newest, older = known(self.newest), known(self.older)
        if older:  # the last process may have died while switching files
            self.number, self.lost, self.kept = older[0] + 1, older[1], older[2]
        if newest:
            self.number, self.lost, self.size = newest
            self.file = os.open(self.newest, OPEN)
        else:
            self.create()

    def create(self):
        self.file = os.open(self.spare, OPEN | os.O_CREAT, 0o600)
        self.size = 0
        self.put(BEGIN % (self.number, self.lost, 0))
        if self.current:
            self.put(self.current[1])
        self.write_pending()
        os.rename(self.spare, self.newest)

    def put(self, *parts):
        size = sum(map(len, parts))
        used = self.size + self.pending_size
        if used + size > self.half and used > len(BEGIN):
            self.rotate()
        self.pending += parts
        self.pending_size += size
        if self.pending_size > BATCH_BYTES or len(self.pending) > BATCH_PARTS:
            self.write_pending()

    def write_pending(self):
        if not self.pending:
            return
        parts, size = self.pending, self.pending_size
        self.pending, self.pending_size = [], 0
        if os.pwritev(self.file, parts, self.size) != size:  # type: ignore[arg-type]
            raise OSError("the disk is full")
        self.size += size
        os.pwrite(self.file, b"%12d" % self.size, SIZE_AT)  # type: ignore[arg-type]

    def rotate(self):
        self.write_pending()
        self.number += 1
        self.lost += self.kept
        self.kept = self.size
        self.shut()
        # never rename onto a file: ext4 would flush it at once
        try:
            os.rename(self.older, self.spare)
        except FileNotFoundError:
            pass
        os.rename(self.newest, self.older)
        self.create()

    def close(self):
        self.shut()
        self.pending = []

    def shut(self):
        if self.file is not None:
            os.close(self.file)
        self.file = None


def known(path):
    """A file's number, the bytes lost before it, and its size; None without a valid file."""
    try:
        file = os.open(path, OPEN)
    except OSError:
        return None
    try:
        first = json.loads(os.pread(file, len(BEGIN % (0, 0, 0)), 0).decode())
        number, lost, size = (int(first[key]) for key in ("number", "lost", "size"))
        return (number, lost, size) if 0 < size <= os.fstat(file).st_size else None
    except (ValueError, KeyError, TypeError):
        return None
    finally:
        os.close(file)


def value(frame, key):
    """The string value of a key in a short JSON object, without parsing it."""
    at = frame.find(key)
    if at < 0:
        return b""
    begin = frame.find(b'"', at + len(key)) + 1
    return frame[begin : frame.find(b'"', begin)]


def text_bounds(content):
    """Start and end of the text in a stream's content; None if not the last key."""
    at = content.find(b'"text"', 0, 100)
    start = content.find(b'"', at + 6) + 1
    end = content.rfind(b'"')
    if at < 0 or content[at + 6 : start - 1].strip() != b":" or content[end + 1 :].strip() != b"}":
        return None
    return start, end


def safe_cut(content, begin, at, end):
    """The first index from ``at`` on that splits a JSON string into two valid ones.

    Args:
        content: bytes with the string.
        begin: such an index before ``at``.
        end: the string's end.
    """
    while at < end and not _is_whole(content, begin, at):
        at += 1
    return min(at, end)


def _is_whole(content, begin, at):
    if content[at] & 0xC0 == 0x80:  # within a character
        return False
    for place in range(max(begin, at - 5), at):
        if _is_escape(content, begin, place):
            length = 6 if content[place + 1] == ESCAPE_U else 2
            if place + length > at:
                return False
    # the second half of a surrogate pair
    half = content[at : at + 4].lower()
    return not (half[:3] == b"\\ud" and half[3:] in b"cdef" and _is_escape(content, begin, at))


def _is_escape(content, begin, at):
    """Whether an escape begins here, after an even number of backslashes."""
    if content[at] != BACKSLASH:
        return False
    before = content[max(begin, at - 64) : at]
    if not before.strip(b"\\"):
        before = content[begin:at]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0
