"""Map every exception of Docker's SDK and its transport to one of mooring's errors."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

from mooring.errors import EngineError, EngineUnavailable, MooringError, PortTaken

_IMPORTING = threading.Lock()
# In use by another container, or by another program
_PORT_TAKEN = re.compile(
    r"\b[\d.]+:(\d+)(?: failed: port is already allocated|: bind: address already in use)"
)
_TOO_MANY_CPUS = re.compile(r"Range of CPUs is from [\d.]+ to ([\d.]+)")


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
    with _IMPORTING:  # concurrent imports could expose a partially initialized SDK
        import docker.api.client
        import docker.utils.socket  # noqa: F401
    from http.client import HTTPException

    import requests
    from docker.errors import APIError, DockerException, StreamParseError
    from docker.utils.socket import SocketError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except MooringError:
        raise
    except APIError as error:
        why = collapsed(str(error.explanation or error))
        if error.response is not None:
            error.response.close()  # the SDK leaves a refused stream's connection open
        raise _refusal(doing, why) from error
    except (
        DockerException,
        StreamParseError,
        SocketError,
        requests.exceptions.RequestException,
        # requests does not wrap these while a response is streamed
        HTTPError,
        HTTPException,
        OSError,
        ValueError,
    ) as error:
        raise _unavailable(error, address.removeprefix("unix://"), timeout_s) from error


def _unavailable(error: Exception, path: str, timeout_s: float) -> EngineUnavailable:
    text = str(error)
    if "PermissionError" in text or "Permission denied" in text:
        return EngineUnavailable(
            f"no permission to use the engine at {path}",
            'add yourself to its group: sudo usermod -aG docker "$USER", then log in again',
        )
    if "FileNotFoundError" in text or "No such file" in text:
        return EngineUnavailable(
            f"no container engine: {path} does not exist",
            "install Docker (sudo apt install docker.io) or start it; see: mooring doctor",
        )
    if "timed out" in text.lower():
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
    if taken := _PORT_TAKEN.search(why):
        port = int(taken.group(1))
        return PortTaken(f"port {port} of this machine is taken", port=port)
    if limit := _TOO_MANY_CPUS.search(why):
        most = f"{float(limit.group(1)):g}"
        return EngineError(f"the engine's machine has only {most} CPUs", f"request at most {most}")
    hint = ""
    if "could not select device driver" in why:
        hint = "for GPUs, install the NVIDIA Container Toolkit, then restart the engine"
    return EngineError(f"{doing}: {why}", hint)


def collapsed(text: str) -> str:
    """Collapse whitespace in a message of the engine, so that it fits on one line."""
    return " ".join(text.split())
