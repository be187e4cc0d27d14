"""Find the keys that detach this process's terminal from a terminal in a session."""

from __future__ import annotations


class DetachKeys:
    """Finds the detach keys in the input, and holds back a possible prefix of them.

    Args:
        keys: the bytes of the keys, see ``mooring.terminals.pump.key_codes``; empty for none.

    Attributes:
        pending: the bytes held back.
        pending_since: the time that was passed to the ``feed`` that held them back.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self.pending = b""
        self.pending_since = 0.0

    def feed(self, data: bytes, now: float) -> tuple[bytes, bool]:
        """Process input.

        Args:
            data: the new input.
            now: the current time in seconds, of any clock.

        Returns:
            The bytes to forward, and whether the detach keys follow them.
        """
        data, self.pending = self.pending + data, b""
        if not self._keys:
            return data, False
        at = data.find(self._keys)
        if at >= 0:
            return data[:at], True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self.pending, self.pending_since = data[-length:], now
                return data[:-length], False
        return data, False

    def flush(self) -> bytes:
        """Return the bytes held back, which are to be forwarded after a timeout."""
        data, self.pending = self.pending, b""
        return data
