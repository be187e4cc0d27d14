"""What a session asks for, what it gets, and how that is written on its container.

A claim is a whole device, or a share of one. Shares are counted in thousandths, so that three
times 0.333 and ten times 0.1 add up as people expect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mooring.gpus.inventory import Gpu

if TYPE_CHECKING:
    from mooring.spec.model import Gpus

WHOLE = 1000
_CLAIM = re.compile(r"([A-Za-z0-9._/=-]{1,120})(?::(0?\.[0-9]{1,3}))?")


@dataclass(frozen=True)
class Claim:
    """A session's hold on a device: its UUID, and how much of it (1.0 for all)."""

    gpu: str
    share: float = 1.0

    @property
    def thousandths(self) -> int:
        return round(self.share * WHOLE)


@dataclass(frozen=True)
class Request:
    """GPUs that a session wants.

    Attributes:
        count: whole devices; 1 where ``share`` is below 1.
        share: of each device.
        memory_bytes: at least so much on each device.
        model: text that the model's name contains, in any case.
        before: devices that it had before, taken if they are all free.
    """

    count: int
    share: float = 1.0
    memory_bytes: int = 0
    model: str = ""
    before: tuple[str, ...] = ()

    @classmethod
    def from_spec(cls, gpus: Gpus) -> Request | None:
        """What ``gpus:`` of a spec asks for; None for nothing."""
        memory, model = 0, ""
        if not isinstance(gpus, (int, float)):
            memory, model, gpus = gpus.memory or 0, gpus.model or "", gpus.count
        if gpus == 0:
            return None
        if gpus < 1:
            return cls(1, max(round(gpus * WHOLE), 1) / WHOLE, memory, model)
        return cls(int(gpus), 1.0, memory, model)

    def again(self, claims: tuple[Claim, ...]) -> Request:
        """The same for a session that had devices: it would rather have those."""
        return replace(self, before=tuple(claim.gpu for claim in claims))

    @property
    def amount(self) -> float:
        """In devices: what a quota counts."""
        return self.count * self.share

    @property
    def how_many(self) -> str:
        """``2 GPUs``, ``0.5 of a GPU``; not of which kind."""
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
        """Whether a device is of the kind that is asked for, whoever holds it.

        An instance of a divided GPU is a device like others to who asks for a share, or for
        its model (``1g.5gb``); who asks for whole GPUs does not mean it.
        """
        if gpu.split:
            return False
        if self.model.lower() not in gpu.model.lower() or gpu.memory_bytes < self.memory_bytes:
            return False
        whole = self.share >= 1
        return not (gpu.parent and whole and "mig" not in self.model.lower() and not _slice(self))

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"before": list(self.before)}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Request:
        """Raises KeyError, TypeError or ValueError for what ``to_dict`` does not write."""
        found = cls(
            int(said["count"]),
            float(said["share"]),
            int(said["memory_bytes"]),
            str(said["model"]),
            tuple(map(str, said["before"])),
        )
        if found.count < 1 or not 0 < found.share <= 1:
            raise ValueError(f"no request: {said}")
        return found


def _slice(request: Request) -> bool:
    return re.search(r"[0-9]g\.[0-9]+gb", request.model, re.IGNORECASE) is not None


def choose(
    request: Request, gpus: Iterable[Gpu], free: Mapping[str, int]
) -> tuple[Claim, ...] | None:
    """Devices for a request, or None when there are too few.

    Args:
        gpus: all of the machine.
        free: thousandths that are left of each device, by UUID; 0 for one that is not listed.

    A session that had devices gets those, if all of them are free. A share goes where it leaves
    the least unused: to the smallest instance that is as large, then
    to a device that others share already, then to a free one.
    """
    everything = list(gpus)
    suitable = [gpu for gpu in everything if request.suits(gpu)]
    need = round(request.share * WHOLE)
    had = [gpu for gpu in suitable if gpu.uuid in request.before]
    wanted = [(gpu, WHOLE if gpu.parent else need) for gpu in had]
    if len(had) == request.count and all(free.get(gpu.uuid, 0) >= some for gpu, some in wanted):
        return tuple(Claim(gpu.uuid, some / WHOLE) for gpu, some in wanted)
    if request.share < 1:
        sizes = {gpu.uuid: gpu.memory_bytes for gpu in everything}
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
        best = min(ranked, key=lambda row: (row[0], row[1], row[2].index))
        return (Claim(best[2].uuid, 1.0 if best[2].parent else request.share),)
    chosen = [gpu for gpu in suitable if free.get(gpu.uuid, 0) >= need]
    kinds = {gpu.kind: [one for one in chosen if one.kind == gpu.kind] for gpu in chosen}
    enough = [same for same in kinds.values() if len(same) >= request.count]
    if not enough:
        return None
    return tuple(Claim(gpu.uuid, request.share) for gpu in enough[0][: request.count])


def to_label(claims: Iterable[Claim]) -> str:
    """``GPU-a,GPU-b`` or ``GPU-a:0.5``."""
    return ",".join(
        claim.gpu if claim.share >= 1 else f"{claim.gpu}:{claim.share:g}" for claim in claims
    )


def in_words(claims: Iterable[Claim]) -> str:
    """``GPU-a, GPU-b`` or ``0.5 of GPU-a``."""
    return ", ".join(
        claim.gpu if claim.share >= 1 else f"{claim.share:g} of {claim.gpu}" for claim in claims
    )


def from_label(text: str) -> tuple[Claim, ...]:
    """Read ``to_label`` back; what has another form is left out."""
    found = []
    for part in text.split(","):
        match = _CLAIM.fullmatch(part)
        if match:
            found.append(Claim(match.group(1), float(match.group(2) or 1.0)))
    return tuple(found)
