"""GPU requests, the claims that sessions get for them, and their container label.

A claim is a whole device, or a share of one. Shares are counted in thousandths, so that sums such
as ten times 0.1 are exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mooring.gpus.inventory import Gpu

WHOLE = 1000
_CLAIM = re.compile(r"([A-Za-z0-9._/=-]{1,120})(?::(0?\.[0-9]{1,3}))?")


@dataclass(frozen=True)
class Claim:
    """A session's claim to a device.

    Attributes:
        gpu: the device's UUID.
        share: the claimed share of it; 1.0 for all.
    """

    gpu: str
    share: float = 1.0

    @property
    def thousandths(self) -> int:
        return round(self.share * WHOLE)


@dataclass(frozen=True)
class Request:
    """The GPUs that a session requests.

    Attributes:
        count: number of devices; 1 if ``share`` is below 1.
        share: share of each device.
        memory_bytes: minimum memory of each device; 0 for any.
        model: substring of the model's name, ignoring case; empty for any.
        before: UUIDs of the previous devices, which are preferred if all of them are free.
    """

    count: int
    share: float = 1.0
    memory_bytes: int = 0
    model: str = ""
    before: tuple[str, ...] = ()

    @classmethod
    def of(cls, count: float, memory_bytes: int = 0, model: str = "") -> Request | None:
        """Return the request for a number of devices; None for 0.

        Args:
            count: whole devices, or a share of one below 1; shares are rounded to thousandths.
            memory_bytes: minimum memory of each device; 0 for any.
            model: substring of the model's name, ignoring case; empty for any.
        """
        if count == 0:
            return None
        if count < 1:
            return cls(1, max(round(count * WHOLE), 1) / WHOLE, memory_bytes, model)
        return cls(int(count), 1.0, memory_bytes, model)

    def preferring(self, claims: tuple[Claim, ...]) -> Request:
        """Return the same request with a preference for the devices of previous claims."""
        return replace(self, before=tuple(claim.gpu for claim in claims))

    @property
    def amount(self) -> float:
        """The total in devices, as quotas count it."""
        return self.count * self.share

    @property
    def how_many(self) -> str:
        """The number as text, without the kind: ``2 GPUs``, ``0.5 of a GPU``."""
        if self.share < 1:
            return f"{self.share:g} of a GPU"
        return "1 GPU" if self.count == 1 else f"{self.count} GPUs"

    def __str__(self) -> str:
        from mooring.spec.units import format_size

        text = self.how_many
        if self.model:
            text += f" with {self.model} in the model's name"
        if self.memory_bytes:
            text += f" with {format_size(self.memory_bytes)} or more"
        return text

    def suits(self, gpu: Gpu) -> bool:
        """Return whether a device is of the requested kind, free or not.

        An instance of a divided GPU suits a request for a share, or for the instance's model
        (``1g.5gb``); it does not suit a request for whole GPUs.
        """
        if gpu.split:
            return False
        if self.model.lower() not in gpu.model.lower() or gpu.memory_bytes < self.memory_bytes:
            return False
        whole = self.share >= 1
        return not (gpu.parent and whole and "mig" not in self.model.lower() and not _slice(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a JSON-serializable dict."""
        return vars(self) | {"before": list(self.before)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Request:
        """Return the request for which ``to_dict`` returned ``fields``.

        Raises:
            KeyError, TypeError, ValueError: ``fields`` is not valid.
        """
        request = cls(
            int(fields["count"]),
            float(fields["share"]),
            int(fields["memory_bytes"]),
            str(fields["model"]),
            tuple(map(str, fields["before"])),
        )
        if request.count < 1 or not 0 < request.share <= 1:
            raise ValueError(f"not a request: {fields}")
        return request


def _slice(request: Request) -> bool:
    return re.search(r"[0-9]g\.[0-9]+gb", request.model, re.IGNORECASE) is not None


def choose(
    request: Request, gpus: Iterable[Gpu], free: Mapping[str, int]
) -> tuple[Claim, ...] | None:
    """Choose the devices for a request; return None if there are too few.

    Preferred devices are chosen if all of them are free. A share is placed where it leaves least
    unused: on the smallest instance that is large enough, then on a device that is shared already,
    then on a free one.

    Args:
        request: the request.
        gpus: all GPUs of the machine.
        free: the free thousandths of each device, by UUID; 0 for a missing one.
    """
    everything = list(gpus)
    suitable = [gpu for gpu in everything if request.suits(gpu)]
    need = round(request.share * WHOLE)
    preferred = [
        (gpu, WHOLE if gpu.parent else need) for gpu in suitable if gpu.uuid in request.before
    ]
    if len(preferred) == request.count and all(
        free.get(gpu.uuid, 0) >= thousandths for gpu, thousandths in preferred
    ):
        return tuple(Claim(gpu.uuid, thousandths / WHOLE) for gpu, thousandths in preferred)
    if request.share < 1:
        sizes = {gpu.uuid: gpu.memory_bytes for gpu in everything}
        return _place_share(request.share, suitable, free, sizes)
    available = [gpu for gpu in suitable if free.get(gpu.uuid, 0) >= need]
    for kind in dict.fromkeys(gpu.kind for gpu in available):  # never mix vendors
        alike = [gpu for gpu in available if gpu.kind == kind]
        if len(alike) >= request.count:
            return tuple(Claim(gpu.uuid, request.share) for gpu in alike[: request.count])
    return None


def _place_share(
    share: float, suitable: Iterable[Gpu], free: Mapping[str, int], sizes: Mapping[str, int]
) -> tuple[Claim, ...] | None:
    """Choose the device on which a share leaves the least unused; return None if it fits on none.

    Args:
        share: the share, below 1.
        suitable: the devices that suit the request.
        free: the free thousandths of each device, by UUID.
        sizes: the memory of each device in bytes, by UUID, to compute an instance's part of it.
    """
    need = round(share * WHOLE)
    ranked = []
    for gpu in suitable:
        left = free.get(gpu.uuid, 0)
        if gpu.parent:
            part = WHOLE * gpu.memory_bytes // (sizes.get(gpu.parent) or gpu.memory_bytes or 1)
            if left == WHOLE and part + 50 >= need:  # an instance's memory is a little less
                ranked.append((0, part, gpu))
        elif left >= need:
            ranked.append((1 if left < WHOLE else 2, left, gpu))
    if not ranked:
        return None
    _, _, best = min(ranked, key=lambda row: (row[0], row[1], row[2].index))
    return (Claim(best.uuid, 1.0 if best.parent else share),)


def to_label(claims: Iterable[Claim]) -> str:
    """Return claims as a label's value: ``GPU-a,GPU-b`` or ``GPU-a:0.5``."""
    return ",".join(
        claim.gpu if claim.share >= 1 else f"{claim.gpu}:{claim.share:g}" for claim in claims
    )


def in_words(claims: Iterable[Claim]) -> str:
    """Return claims as text for users: ``GPU-a, GPU-b`` or ``0.5 of GPU-a``."""
    return ", ".join(
        claim.gpu if claim.share >= 1 else f"{claim.share:g} of {claim.gpu}" for claim in claims
    )


def from_label(text: str) -> tuple[Claim, ...]:
    """Return the claims in a label's value; parts that are not valid are ignored."""
    claims = []
    for part in text.split(","):
        match = _CLAIM.fullmatch(part)
        if match:
            claims.append(Claim(match.group(1), float(match.group(2) or 1.0)))
    return tuple(claims)
