"""What a terminal printed, on disk, bounded: the newest bytes, by their offset from the first.

A folder of segment files, each named after the offset of its first byte. The oldest goes first.
Where nothing can be written (the disk is full) the newest bytes stay in memory, a little of them.
"""

from __future__ import annotations

import contextlib
import os

LIMIT_BYTES = 256 << 20
SEGMENT_BYTES = 8 << 20
# Of what cannot be written, so much is kept
MEMORY_BYTES = 1 << 20


class Spool:
    """One terminal's output. Offsets count from its first byte, also of what is gone.

    Args:
        folder: made if it is not there; what an earlier spool left in it is taken over.
        limit, segment: bytes of all segments, and of each.
    """

    def __init__(self, folder: str, limit: int = LIMIT_BYTES, segment: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._limit, self._segment = limit, segment
        self._starts: list[int] = []
        self._writing = -1
        self._memory = b""  # of the bytes just before the end; empty while the disk takes them
        self.end = 0
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        for name in sorted(os.listdir(folder)):
            if not name.isdigit():
                continue
            size = os.stat(self._path(int(name))).st_size
            if int(name) != self.end:  # what came before has a gap behind it
                self._forget(len(self._starts))
            self._starts.append(int(name))
            self.end = int(name) + size

    @property
    def start(self) -> int:
        """The offset of the oldest byte that is still there."""
        return self._starts[0] if self._starts else self.end - len(self._memory)

    def append(self, data: bytes) -> None:
        """Add to the end. Never raises for a disk that takes no more: the oldest goes then."""
        while data:
            try:
                written = self._write(data)
            except OSError:
                if len(self._starts) > 1 and not self._memory:
                    self._forget(1)
                    continue
                self._keep_in_memory(data)
                return
            self._memory = b""
            self.end += written
            data = data[written:]

    def read(self, offset: int, most: int) -> bytes:
        """Up to ``most`` bytes from an offset on; none at the end.

        Raises:
            LookupError: they are gone; ``start`` tells what is there.
        """
        if offset >= self.end:
            return b""
        if self._memory:
            begin = self.end - len(self._memory)
            if offset >= begin:
                return self._memory[offset - begin : offset - begin + most]
        for number in range(len(self._starts) - 1, -1, -1):
            first = self._starts[number]
            if first <= offset:
                file = os.open(self._path(first), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    found = os.pread(file, most, offset - first)
                finally:
                    os.close(file)
                if found:
                    return found
                break
        raise LookupError(offset)

    def remove(self) -> None:
        """Delete all of it."""
        self._forget(len(self._starts))
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
                self._forget(1)
        return os.write(self._writing, data)

    def _keep_in_memory(self, data: bytes) -> None:
        """Segments and memory have no gap between them: the segments go."""
        self._forget(len(self._starts))
        self._memory = (self._memory + data)[-MEMORY_BYTES:]
        self.end += len(data)

    def _forget(self, count: int) -> None:
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
