"""Map every exception of a request to one of mooring's errors."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from mooring.engines.docker import messages
from mooring.engines.docker.client import ApiError
from mooring.errors import EngineError, EngineUnavailable, PortTaken
from mooring.host.text import one_line

log = logging.getLogger(__name__)


@contextlib.contextmanager
def mapped(doing: str, address: str, timeout_s: float) -> Iterator[None]:
    """Context manager that maps the exceptions of a request to mooring's errors.

    Args:
        doing: the request in words, ``starting the container``, for the message of EngineError.
        address: the engine's, ``unix:///path``, for the message of EngineUnavailable.
        timeout_s: the request's timeout in seconds, for the same message.

    Raises:
        EngineError: the engine refused the request.
        EngineUnavailable: the engine did not answer, or its response cannot be parsed.
    """
    try:
        yield
    except ApiError as error:
        raise _refusal(doing, collapsed(error.why)) from error
    except (OSError, ValueError) as error:
        log.debug("%s: %r", doing, error)
        raise _unavailable(error, address.removeprefix("unix://"), timeout_s) from error


def _unavailable(error: Exception, path: str, timeout_s: float) -> EngineUnavailable:
    if isinstance(error, PermissionError):
        return EngineUnavailable(
            f"no permission to use the engine at {path}",
            'add yourself to its group: sudo usermod -aG docker "$USER", then log in again',
        )
    if isinstance(error, FileNotFoundError):
        return EngineUnavailable(
            f"no container engine: {path} does not exist",
            "install Docker (sudo apt install docker.io) or start it; see: mooring doctor",
        )
    if isinstance(error, TimeoutError):
        return EngineUnavailable(
            f"the engine at {path} did not answer within {timeout_s:g} s",
            "its sessions continue; try again, or check the engine's log",
        )
    return EngineUnavailable(
        f"the engine at {path} does not answer",
        "start it (sudo systemctl start docker); its sessions' state is unknown until then",
    )


def _refusal(doing: str, why: str) -> EngineError:
    """The error for a refused request, with a hint if the cause is known."""
    if taken := messages.PORT_TAKEN.search(why):
        port = int(taken.group(1))
        return PortTaken(f"port {port} of this machine is taken", port=port)
    if limit := messages.TOO_MANY_CPUS.search(why):
        most = f"{float(limit.group(1)):g}"
        return EngineError(f"the engine's machine has only {most} CPUs", f"request at most {most}")
    if unreadable := messages.UNREADABLE.search(why):
        return EngineError(
            f"the engine may not read {one_line(unreadable.group(1))}",
            "its file system is for its owner alone (FUSE, or NFS with root_squash): mount it with "
            "-o allow_other, or use a folder on a local disk",
        )
    if absent := messages.ABSENT.search(why):
        path = absent.group(1) or absent.group(2)
        hint = "create it, or correct the path"
        if os.path.lexists(path):
            hint = "it has other files than this program: run mooring where the engine runs, and "
            hint += "not in a container that has its socket"
        return EngineError(f"the engine does not see {one_line(path)}", hint)
    hint = ""
    if messages.NO_GPU_DRIVER.search(why):
        hint = "for GPUs, install the NVIDIA Container Toolkit, then restart the engine"
    return EngineError(f"{doing}: {why}", hint)


def collapsed(text: str) -> str:
    """Collapse whitespace in a message of the engine, so that it fits on one line."""
    return " ".join(text.split())
