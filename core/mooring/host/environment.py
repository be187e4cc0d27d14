"""The environment of processes that outlive the one that starts them.

Any process of the user can read it in ``/proc/PID/environ``, for as long as the process lives. So
it has what they need, and none of the caller's other variables, such as tokens.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

# By name, because a prefix such as DOCKER_ also begins DOCKER_PASSWORD and DOCKER_AUTH_CONFIG
_USER = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TZ",
    "TERM",
    "LANG",
    "LANGUAGE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
)
_PYTHON = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSAFEPATH",
    "PYTHONNOUSERSITE",
    "PYTHONUSERBASE",
    "PYTHONPLATLIBDIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUTF8",
    "PYTHONWARNINGS",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "LD_LIBRARY_PATH",
)
_ENGINE_AND_GPUS = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "DOCKER_API_VERSION",
    "CONTAINER_HOST",
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_MPS_LOG_DIRECTORY",
)
_KEPT = frozenset((*_USER, *_PYTHON, *_ENGINE_AND_GPUS))
_KEPT_PREFIXES = ("MOORING_", "LC_")


def minimal_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that a process which stays may have.

    Args:
        environ: the caller's environment variables.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
