"""Keys of other systems' files, and what each is called in a spec."""

from __future__ import annotations

import difflib
import types
from collections.abc import Collection, Mapping

_MOUNTS = "inputs are read-only folders and files, outputs are writable"
_WORKDIR = "leave it out: it is the folder that the session is created in"
_LIMITS = "did you mean gpus, cpus, memory or shm? they are keys of the spec itself"
_OMIT = "leave it out: a spec has no such key, and a comment begins with #"
_SETUP = "install it in the image, or write it as a part of command"
_ONE_MACHINE = "leave it out: a session runs on this machine"
_USER = "leave it out: a session runs as you, with few privileges"

#: Hints by key: of docker compose, devcontainer.json, Kubernetes, Azure ML, SkyPilot and dstack.
HINTS: Mapping[str, str] = types.MappingProxyType(
    {
        **dict.fromkeys(("volumes", "mounts", "file_mounts", "volumeMounts", "datasets"), _MOUNTS),
        **dict.fromkeys(("working_dir", "workdir", "code", "workspaceFolder"), _WORKDIR),
        **dict.fromkeys(("resources", "deploy", "limits", "hostRequirements"), _LIMITS),
        **dict.fromkeys(("setup", "postCreateCommand", "requirements", "python"), _SETUP),
        **dict.fromkeys(("compute", "region", "zone", "cloud", "nodes", "num_nodes"), _ONE_MACHINE),
        **dict.fromkeys(("user", "privileged", "cap_add", "security_opt", "identity"), _USER),
        **dict.fromkeys(("type", "description", "tags", "labels", "version", "metadata"), _OMIT),
        **dict.fromkeys(("mem", "mem_limit", "ram"), "did you mean memory?"),
        **dict.fromkeys(("cpu", "cores"), "did you mean cpus?"),
        **dict.fromkeys(("gpu", "accelerators"), "did you mean gpus?"),
        **dict.fromkeys(("entrypoint", "run", "commands", "args", "cmd"), "did you mean command?"),
        **dict.fromkeys(("services", "expose", "forwardPorts"), "did you mean ports?"),
        **dict.fromkeys(("timeout", "max_run_duration"), "did you mean max_duration?"),
        **dict.fromkeys(
            ("container_name", "display_name", "experiment_name", "hostname"), "did you mean name?"
        ),
        **dict.fromkeys(
            ("environment_variables", "envs", "env_vars", "variables", "containerEnv"),
            "did you mean env?",
        ),
        "$schema": "leave it out; an editor gets the schema from: mooring config schema",
        "devices": "did you mean gpus? other devices are not available",
        "env_file": "did you mean env? or extends, for a file with a key env",
        "group_add": "did you mean groups?",
        "pids": "did you mean pids_limit?",
        "restart": "leave it out; a session that has stopped starts with: mooring start NAME",
        "shm_size": "did you mean shm?",
    }
)
# The least similarity, by the length of the key; difflib's own default suggests idle_timeout for
# file_mounts
_SIMILAR, _SIMILAR_SHORT, _SHORT = 0.72, 0.65, 4


def nearest(key: str, valid: Collection[str]) -> str:
    """Return the valid key that a misspelt one probably means; empty if none is close."""
    cutoff = _SIMILAR if len(key) > _SHORT else _SIMILAR_SHORT
    close = difflib.get_close_matches(key[:100].lower(), valid, n=1, cutoff=cutoff)
    return close[0] if close else ""
