"""The exception hierarchy of mooring.

MooringError
├── SpecError            the spec is invalid (exit code 2 on the command line)
│   └── CommandError         its command is not found or not executable (exit code 127 or 126)
├── TrustRequired        a spec file uses something outside its folder and is not trusted yet
├── PolicyError          refused for every user, by mooring or by the administrator's policy
├── NotSupported         a key or flag that this version or this engine does not support
├── EngineError          the engine refused the request
│   ├── EngineUnavailable    the engine does not answer; the state of its sessions is unknown
│   ├── PortTaken            a port to be published is in use
│   └── ImageError           no such image, or its pull or import failed
├── NoCapacity           more GPUs than the machine has, or than the user may have
├── SessionNotFound
├── SessionExists        the name is in use
├── SessionStateError    the session is not in a state that allows the request
├── SessionTimeout       a timeout expired (exit code 3)
├── Cancelled            a session was stopped or removed while it was being created
└── KernelError          a kernel did not start, died, or cannot be reached
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType


class MooringError(Exception):
    """Base class of mooring's exceptions.

    Args:
        message: one line that describes the problem, without a trailing full stop.
        hint: one line that suggests a remedy; empty if there is none.

    Attributes:
        mistakes: if there are several, an error for each; the message is that of the first one.
    """

    exit_code = 1
    mistakes: tuple[MooringError, ...] = ()

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def code(self) -> str:
        """A stable identifier for programs: the class name in snake case."""
        name = type(self).__name__
        return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class SpecError(MooringError):
    """The spec is invalid: a key, a value or a file."""

    exit_code = 2


class CommandError(SpecError):
    """The session's command is not found or not executable.

    Args:
        found: True if it exists but cannot be executed (exit code 126); False gives 127.
    """

    exit_code = 127

    def __init__(self, message: str, hint: str = "", *, found: bool = False) -> None:
        super().__init__(message, hint)
        self.exit_code = 126 if found else 127


class TrustRequired(MooringError):
    """A spec file uses something outside its folder, and the user has not allowed that."""

    code = "consent_required"  # clients of the REST API depend on this name


class PolicyError(MooringError):
    """Refused for every user: it would expose the host, or the administrator's policy denies it."""


class NotSupported(MooringError):
    """A known feature that this version or this engine does not support."""

    exit_code = 2


class EngineError(MooringError):
    """The engine refused a request."""


class EngineUnavailable(EngineError):
    """The engine did not answer; the state of its sessions is unknown."""


class PortTaken(EngineError):
    """A port of this machine that is to be published is in use.

    Args:
        port: the port number; 0 if unknown.
    """

    def __init__(self, message: str, hint: str = "", *, port: int = 0) -> None:
        super().__init__(message, hint)
        self.port = port


class ImageError(EngineError):
    """The image does not exist, or cannot be pulled, imported or used for the session."""


class NoCapacity(MooringError):
    """The request exceeds the machine's or the user's limits, so waiting cannot satisfy it."""


class SessionNotFound(MooringError):
    """No session of this installation has that name or id."""


class SessionExists(MooringError):
    """Another session already has that name."""


class SessionStateError(MooringError):
    """The session is in a state that does not allow the request."""


class SessionTimeout(MooringError):
    """A timeout expired before the awaited event."""

    exit_code = 3


class Cancelled(MooringError):
    """A session was stopped or removed before it ran; nothing remains of it."""


class KernelError(MooringError):
    """A kernel did not start, died, or cannot be reached."""


class Mistakes:
    """Collects the errors of checks that do not depend on each other, and raises them together.

    A check is the block of a ``with`` statement, which ends at its first error.
    """

    def __init__(self) -> None:
        self._found: list[MooringError] = []

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(error, MooringError):
            self._found += error.mistakes or (error,)
            return True
        return False

    def report(self) -> None:
        """Raise what was collected: an error of the first one's class, with all as ``mistakes``."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise together(self._found)


def together(mistakes: Sequence[MooringError], more: int = 0) -> MooringError:
    """Return one error for several.

    Args:
        mistakes: the errors, of which the first gives the class, the message and the hint.
        more: how many others there are, which the message counts too.
    """
    first, count = mistakes[0], len(mistakes) - 1 + more
    error = type(first)(f"{first.message} (and {count} more)", first.hint)
    error.mistakes = tuple(mistakes)
    return error
