"""What the SDK raises, and what its transport does, as mooring's own errors."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

from mooring.errors import EngineError, EngineUnavailable, MooringError

_IMPORTING = threading.Lock()
_TOO_MANY_CPUS = re.compile(r"Range of CPUs is from [\d.]+ to ([\d.]+)")


@contextlib.contextmanager
def mapped(doing: str, address: str, timeout_s: float) -> Iterator[None]:
    """The one place where the SDK's exceptions, and its transport's, become mooring's.

    Args:
        doing: what is asked of the engine, for a refusal's message.
        address: the engine's, for the message where it does not answer; ``unix:///path``.
        timeout_s: how long it is waited for, for that message.

    Raises:
        EngineError: it refuses.
        EngineUnavailable: it does not answer, or its answer cannot be read.
    """
    with _IMPORTING:  # threads that import parts of it at once may see it half done
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
        why = one_line(str(error.explanation or error))
        if error.response is not None:
            error.response.close()  # the SDK leaves a refused stream's connection open
        raise _refusal(doing, why) from error
    except (
        DockerException,
        StreamParseError,
        SocketError,
        requests.exceptions.RequestException,
        # what is read while an answer streams in is not requests' own any more
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
            "its sessions go on; try again, or look at the engine's own log",
        )
    return EngineUnavailable(
        f"the engine at {path} does not answer",
        "start it (sudo systemctl start docker); its sessions' state is unknown until then",
    )


def _refusal(doing: str, why: str) -> EngineError:
    """A refusal of the engine's own, with what helps against it."""
    if found := _TOO_MANY_CPUS.search(why):
        most = f"{float(found.group(1)):g}"
        return EngineError(
            f"more CPUs than there are: the engine's machine has {most}", f"ask for {most} at most"
        )
    hint = ""
    if "could not select device driver" in why:
        hint = "it gives no GPUs: install the NVIDIA container toolkit, then restart the engine"
    return EngineError(f"{doing}: {why}", hint)


def one_line(text: str) -> str:
    """What the engine says, for a message."""
    return " ".join(text.split())
