"""Every failure that mooring explains, in one tree.

MooringError
├── SpecError            the declaration is wrong (exit code 2 on the command line)
│   └── CommandError         its command is not there, or cannot be run (127 or 126, as a shell's)
├── ConsentRequired      the declaration asks for something that its reader must allow first
├── PolicyError          refused whatever the user says: by mooring, or by the administrator
├── NotSupported         a key or a flag that this version cannot honour yet
├── EngineError          the engine said no
│   ├── EngineUnavailable    no engine answers; nothing is known of its sessions
│   ├── PortTaken            a port that was to be published is held by somebody
│   └── ImageError           no such image, a pull or an import that failed
├── NoCapacity           more GPUs than there are, or than one may have
├── SessionNotFound
├── SessionExists        the name is taken
├── SessionStateError    the session is not in a state that allows this
├── SessionTimeout       waited too long (exit code 3)
├── Cancelled            somebody stopped a session while it was being created
└── KernelError          a kernel did not start, or died
"""

from __future__ import annotations


class MooringError(Exception):
    """Something mooring can explain.

    Args:
        message: one line, without a trailing full stop, that says what is wrong.
        hint: one line that says what to do about it; empty when there is nothing to do.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def code(self) -> str:
        """A stable name for programs: the class's own name in snake case."""
        name = type(self).__name__
        return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class SpecError(MooringError):
    """The declaration is wrong: a key, a value, a file."""

    exit_code = 2


class CommandError(SpecError):
    """The session's command is not there, or is nothing that can be run.

    Args:
        found: whether there is something of that name.
    """

    exit_code = 127

    def __init__(self, message: str, hint: str = "", *, found: bool = False) -> None:
        super().__init__(message, hint)
        self.exit_code = 126 if found else 127


class ConsentRequired(MooringError):
    """The declaration grants more than its own folder, and nobody has allowed that yet."""


class PolicyError(MooringError):
    """Refused for everyone: it would give the host away, or the administrator's policy says no."""


class NotSupported(MooringError):
    """Known, named, and not in this version or on this engine."""

    exit_code = 2


class EngineError(MooringError):
    """The engine answered, and refused."""


class EngineUnavailable(EngineError):
    """The engine did not answer: the state of its sessions is unknown."""


class PortTaken(EngineError):
    """A port of this machine that was to be published is held by somebody.

    Args:
        port: its number.
    """

    def __init__(self, message: str, hint: str = "", *, port: int = 0) -> None:
        super().__init__(message, hint)
        self.port = port


class ImageError(EngineError):
    """No such image, or it cannot be pulled, imported or used for this."""


class NoCapacity(MooringError):
    """What was asked for can never be had here, however long one waits."""


class SessionNotFound(MooringError):
    """No session of this installation has that name or id."""


class SessionExists(MooringError):
    """Another session has that name."""


class SessionStateError(MooringError):
    """The session is in a state that does not allow the request."""


class SessionTimeout(MooringError):
    """What was waited for did not happen in time."""

    exit_code = 3


class Cancelled(MooringError):
    """A session was stopped or removed before it ran; nothing of it is left."""


class KernelError(MooringError):
    """A kernel did not start or cannot be reached."""
