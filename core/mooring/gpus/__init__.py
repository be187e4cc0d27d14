"""GPUs: which there are, who holds them, and whose turn it is.

``machine`` tells what there is, ``holders`` who holds it, ``claims`` what is asked for
and how that is written down, ``gate`` and ``queue`` whose turn it is, ``devices`` what a container
is given for them, and ``dispatcher`` is the process that starts what was left to wait.
"""

from __future__ import annotations

from mooring.gpus.claims import Claim, Request, from_label, to_label
from mooring.gpus.inventory import Gpu, GpuProcess, inventory
from mooring.gpus.usage import GpuUse, Holder

__all__ = [
    "Claim",
    "Gpu",
    "GpuProcess",
    "GpuUse",
    "Holder",
    "Request",
    "from_label",
    "inventory",
    "to_label",
]
