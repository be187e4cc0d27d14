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


class MooringError(Exception):
    """Base class of mooring's exceptions.

    Args:
        message: one line that describes the problem, without a trailing full stop.
        hint: one line that suggests a remedy; empty if there is none.
    """

    exit_code = 1

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
    """The spec is invalid: a key, a value or a file.

    Attributes:
        mistakes: if it has several, an error for each; the message is that of the first one.
    """

    exit_code = 2
    mistakes: tuple[SpecError, ...] = ()


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
