"""What a kernel publishes, recorded beside it: nothing is lost while no client listens.

It runs in the container, on the image's Python (3.8 or newer), in the kernel's own process or in
the one that watches a kernel of another kind. In the kernel's folder:

    out.0       the newest lines, at most half of the limit
    out.1       the lines before them, at most the other half; what was there before is dropped
    out.2       for a moment, what out.0 is to be next

A file that is full takes the other name, and the one that had it is written over from its
beginning: pages that are there already cost a quarter of new ones. What a line's end is not yet in
the file's size is not to be read.

A line is one JSON object:

    {"kind": "begin", "number": N, "lost": L, "size": S}
                                                a file's first, of a fixed length: the S bytes from
                                                its beginning are lines; L were dropped before
    {"kind": "start", "at": T}                  a process of the kernel's began
    {"kind": "lost", "parent": ID, "bytes": L}  output that is not here: it was too long
    {"kind": K, "parent": ID, "at": T, "cell": C, "content": {…}}

K is the type of a message on the iopub channel, ID the execute_request that it belongs to, T in
seconds since the epoch, and the content that of the message, byte for byte; "cell" is in lines of
the kind execute_input, "" where the client told none. The execute_input of an execution that goes
on is said again, with "again": true, at the beginning of each file. Long streams are several lines.
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
# A process that is killed takes along what it said in this time, if no cell ended in it
FLUSH_S = 0.05
BATCH_BYTES = 256 << 10
BATCH_PARTS = 1000  # of the 1024 that one call takes
DELIMITER = b"<IDS|MSG>"
LONGEST_PIECE = 1 << 20
SMALLEST_LIMIT = 64 << 10
OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
BEGIN = b'{"kind":"begin","number":%12d,"lost":%18d,"size":%12d}\n'
SIZE_AT = len(BEGIN % (0, 0, 0)) - len(b"%12d}\n" % 0)
BACKSLASH = ord("\\")
ESCAPE_U = ord("u")


class Recorder:
    """Appends messages to the files of one kernel. An error (a full disk) ends it, silently.

    Args:
        folder: the kernel's.
        limit: bytes, both files together; below 64 KiB nothing is recorded.
    """

    def __init__(self, folder, limit):
        self.newest = os.path.join(folder, "out.0")
        self.older = os.path.join(folder, "out.1")
        self.spare = os.path.join(folder, "out.2")
        self.half = limit // 2
        self.piece = min(LONGEST_PIECE, self.half // 4)
        self.cells = {}  # id of an execute_request -> the notebook's id of its cell
        self.current = None  # the execution that goes on, and its execute_input once more
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
        """Record a message of the iopub channel, if it is about an execution.

        Each call of the system costs this thread its turn among the process's others. So a cell's
        end writes what there is, and else ``call_later`` (SECONDS, FUNCTION); None: at once.
        """
        if self.file is None or os.getpid() != self.pid:
            return  # what a fork of the kernel says comes once more, through the kernel
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
        if b"\n" in content:  # space between tokens: a JSON text has none in its strings
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
        """Write down what waits for it; for a timer, and for the process's end."""
        self.waiting = False
        if self.file is None or os.getpid() != self.pid:
            return
        try:
            self.write_pending()
        except OSError:
            self.close()

    def write(self, kind, parent, content):
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
            if end - start > 2 * self.half:  # what would be dropped again is not written
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
        if older:  # the last process may have ended between the two
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
        # no name takes a file's place: ext4 would write the other out at once
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
    """A file's number, the bytes lost before it, and its size; None where there is none."""
    try:
        file = os.open(path, OPEN)
    except OSError:
        return None
    try:
        found = json.loads(os.pread(file, len(BEGIN % (0, 0, 0)), 0).decode())
        number, lost, size = (int(found[key]) for key in ("number", "lost", "size"))
        return (number, lost, size) if 0 < size <= os.fstat(file).st_size else None
    except (ValueError, KeyError, TypeError):
        return None
    finally:
        os.close(file)


def value(frame, key):
    """The text of a key in a JSON object that is short, without reading all of it."""
    at = frame.find(key)
    if at < 0:
        return b""
    begin = frame.find(b'"', at + len(key)) + 1
    return frame[begin : frame.find(b'"', begin)]


def text_bounds(content):
    """Where the text of a stream's content begins and ends; None if it is not the last key."""
    at = content.find(b'"text"', 0, 100)
    start = content.find(b'"', at + 6) + 1
    end = content.rfind(b'"')
    if at < 0 or content[at + 6 : start - 1].strip() != b":" or content[end + 1 :].strip() != b"}":
        return None
    return start, end


def safe_cut(content, begin, at, end):
    """The first place from ``at`` on where a JSON string can be cut in two that are whole.

    ``begin`` is such a place, before ``at``; ``end`` is one, too.
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
    # the second half of a character outside the basic plane
    half = content[at : at + 4].lower()
    return not (half[:3] == b"\\ud" and half[3:] in b"cdef" and _is_escape(content, begin, at))


def _is_escape(content, begin, at):
    """Whether an escape begins here: an even number of backslashes is before it."""
    if content[at] != BACKSLASH:
        return False
    before = content[max(begin, at - 64) : at]
    if not before.strip(b"\\"):
        before = content[begin:at]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0
