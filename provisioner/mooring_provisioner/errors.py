"""The error of a kernel that did not start, as Jupyter Server passes it on."""

from __future__ import annotations

from tornado.web import HTTPError

from mooring import MooringError


class LaunchFailed(HTTPError):
    """A kernel did not start; the client's own dialog shows the message and the hint.

    It is an HTTP error because Jupyter Server passes only those to its clients unchanged.
    """

    def __init__(self, error: MooringError) -> None:
        self.text = f"{error.message}\nhint: {error.hint}" if error.hint else error.message
        super().__init__(500, self.text, reason=type(error).__name__)

    def __str__(self) -> str:
        return _Readable(self.text)


class _Readable(str):
    """A text that is its own ``repr``, which is what a PATCH of a Jupyter session shows of it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str.__str__(self)
