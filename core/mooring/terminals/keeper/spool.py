"""Store the newest part of a terminal's output on disk, addressed by offset.

A spool is a folder of segment files, each named after the offset of its first byte; the oldest
segments are deleted first. While the disk is full, the last ``MEMORY_BYTES`` are kept in memory.
"""

from __future__ import annotations

import contextlib
import os

LIMIT_BYTES = 256 << 20
SEGMENT_BYTES = 1 << 20
MEMORY_BYTES = 1 << 20


class Spool:
    """One terminal's output; offsets count from its first byte and include deleted bytes.

    Args:
        folder: created if it does not exist; existing segments of an earlier spool are reused.
        limit: maximum size of the older segments together, in bytes; the newest one is extra.
        segment: size at which a new segment is started, in bytes.
    """

    def __init__(self, folder: str, limit: int = LIMIT_BYTES, segment: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._limit, self._segment = limit, segment
        self._starts: list[int] = []
        self._writing = -1
        self._memory = b""  # the bytes before ``end`` that could not be written to disk
        self.end = 0
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        for name in sorted(os.listdir(folder)):
            if not name.isdigit():
                continue
            size = os.stat(self._path(int(name))).st_size
            if int(name) != self.end:  # there is a gap before this segment
                self._delete(len(self._starts))
            self._starts.append(int(name))
            self.end = int(name) + size

    @property
    def start(self) -> int:
        """The offset of the oldest byte that can be read."""
        return self._starts[0] if self._starts else self.end - len(self._memory)

    @property
    def size(self) -> int:
        """The number of bytes that can be read."""
        return self.end - self.start

    def shorten(self) -> int:
        """Delete the oldest segment; return its bytes, 0 if the newest one is all there is."""
        if len(self._starts) < 2:
            return 0
        first, second = self._starts[:2]
        self._delete(1)
        return second - first

    def append(self, data: bytes) -> None:
        """Append data. Never raises OSError: on a full disk the oldest segments are deleted."""
        while data:
            try:
                written = self._write(data)
            except OSError:
                if len(self._starts) > 1 and not self._memory:
                    self._delete(1)
                    continue
                self._keep_in_memory(data)
                return
            self._memory = b""
            self.end += written
            data = data[written:]

    def read(self, offset: int, limit: int) -> bytes:
        """Return up to ``limit`` bytes from an offset on, or none at the end.

        Args:
            offset: of the first byte to read.
            limit: maximum number of bytes; fewer may be returned before the end.

        Raises:
            LookupError: the bytes were deleted; ``start`` is the first offset that can be read.
            OSError: a segment cannot be read.
        """
        if offset >= self.end:
            return b""
        if self._memory:
            begin = self.end - len(self._memory)
            if offset >= begin:
                return self._memory[offset - begin : offset - begin + limit]
        for number in range(len(self._starts) - 1, -1, -1):
            first = self._starts[number]
            if first <= offset:
                file = os.open(self._path(first), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    data = os.pread(file, limit, offset - first)
                finally:
                    os.close(file)
                if data:
                    return data
                break
        raise LookupError(offset)

    def remove(self) -> None:
        """Delete the spool's files and its folder."""
        self._delete(len(self._starts))
        self._memory = b""
        with contextlib.suppress(OSError):
            os.rmdir(self._folder)

    def _path(self, start: int) -> str:
        return f"{self._folder}/{start:015d}"

    def _write(self, data: bytes) -> int:
        first = self._starts[-1] if self._starts else -1
        if self._writing < 0 or self.end - first >= self._segment:
            self._close()
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._writing = os.open(self._path(self.end), flags, 0o600)
            self._starts.append(self.end)
            while len(self._starts) > 1 and self.end - self._starts[1] >= self._limit:
                self._delete(1)
        return os.write(self._writing, data)

    def _keep_in_memory(self, data: bytes) -> None:
        """Keep data in memory, and delete the segments, which could leave a gap before it."""
        self._delete(len(self._starts))
        self._memory = (self._memory + data)[-MEMORY_BYTES:]
        self.end += len(data)

    def _delete(self, count: int) -> None:
        for start in self._starts[:count]:
            with contextlib.suppress(OSError):
                os.unlink(self._path(start))
        del self._starts[:count]
        if not self._starts:
            self._close()

    def _close(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
