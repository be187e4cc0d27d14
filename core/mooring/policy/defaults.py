"""Resolve a spec with the administrator's defaults."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from mooring.policy import limits
from mooring.spec import resolve as sources
from mooring.spec.resolve import NO_DEFAULTS, ResolvedSpec, flag_of

# A busy kernel keeps its session from idling out, and perhaps nobody knows of it any more
_KERNEL_MAX_DURATION_S = 7 * 86400.0


def resolve(
    *,
    flags: Mapping[str, object],
    file: Path | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] = os.environ,
    user_config: Path | None = None,
    profiles: Path | None = None,
    flag: Callable[[str], str] = flag_of,
    defaults: bool = True,
) -> ResolvedSpec:
    """Resolve a spec from all its sources; every frontend calls this.

    Args:
        flags: keys as in a spec file; None for a flag that was not given.
        file: the spec file; None to read no file, even if there is a ./session.yml.
        profile: the name of one of the user's profiles; None for the profile that the environment
            names, if any.
        environ: the environment variables; those of `ENVIRONMENT` and `MOORING_PROFILE` are used.
        user_config: the user's configuration, which need not exist; None for the default path.
        profiles: the folder of the user's profiles; None for the one beside the configuration.
        flag: returns the name of a key of `flags` for errors, for frontends without flags.
        defaults: use the administrator's defaults, which rank below all other sources.

    Raises:
        SpecError: the first problem, with the flag, the variable or the `file:line:column`.
        PolicyError: the administrator's policy is not valid.
    """
    return sources.resolve(
        flags=flags,
        file=file,
        profile=profile,
        environ=environ,
        user_config=user_config,
        profiles=profiles,
        flag=flag,
        defaults=limits.load().defaults if defaults else NO_DEFAULTS,
    )


def for_kernelspec(resolved: ResolvedSpec) -> ResolvedSpec:
    """Return the spec of a session that a kernelspec creates: with a maximum duration.

    Without one of its own, the session ends after seven days, or the policy's maximum if that is
    shorter.

    Raises:
        PolicyError: the administrator's policy is not valid.
    """
    if "max_duration" in resolved.spec.model_fields_set:
        return resolved
    longest_s = min(
        _KERNEL_MAX_DURATION_S, limits.load().limits.max_duration or _KERNEL_MAX_DURATION_S
    )
    spec = resolved.spec.model_copy(update={"max_duration": longest_s})
    return dataclasses.replace(resolved, spec=spec)
