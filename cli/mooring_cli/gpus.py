"""gpus: which GPUs this machine has, and who holds them."""

from __future__ import annotations

import sys
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from mooring.spec.units import format_duration
from mooring_cli import options as opt
from mooring_cli.output import (
    Giving,
    columns,
    note,
    one_line,
    part_text,
    print_json,
    print_rows,
    size_text,
    width_of,
)

if TYPE_CHECKING:
    from mooring.gpus.inventory import Gpu
    from mooring.gpus.queue import Waiting
    from mooring.gpus.usage import GpuUse, Holder

HEADS = ("GPU", "MODEL", "STATE", "USE", "MEMORY", "HELD BY", "USER", "FOR", "ENDS BY")
# Several GPUs of one model are told above the table
GIVE: Giving = (
    ("MODEL", 16),
    ("HELD BY", 22),
    ("MODEL", 0),
    ("HELD BY", 18),
    ("HELD BY", 14),
    ("ENDS BY", 0),
    ("FOR", 0),
    ("HELD BY", 8),
    ("USER", 6),
)
WAITING = 4  # so many are named
STYLES = {
    "free": "good",
    "held": "",
    "shared": "",
    "draining": "busy",
    "outside": "odd",
    "split": "quiet",
}


def gpus(json_: opt.Json = False) -> None:
    """List GPUs: what each is, its use, who holds it, and who waits.

    Also those that are held by what is not a session: other containers, and processes.
    """
    from mooring.service import Mooring

    uses, waiting = Mooring().gpus_and_waiting()
    if json_:
        print_json([use.to_dict() for use in uses])
        return
    if not uses:
        print("no GPUs on this machine")
        note("if there should be: mooring doctor")
        return
    every = [use.gpu for use in uses]
    for told in map(one_line, [summary(uses), *in_line(waiting)]):
        cut = sys.stdout.isatty() and width_of(told) > columns()
        print("\n".join(textwrap.wrap(told, columns(), break_on_hyphens=False)) if cut else told)
    rows: list[list[str]] = []
    styles: list[str] = []
    for use in uses:
        for cells in _rows(use, every):
            rows.append(cells)
            styles.append(STYLES.get(use.state, ""))
    same = len({gpu.model for gpu in every}) == 1
    shown = [i for i, head in enumerate(HEADS) if not (same and head == "MODEL")]
    print_rows(
        [HEADS[i] for i in shown],
        [[row[i] for i in shown] for row in rows],
        lambda row, column: styles[row] if HEADS[shown[column]] == "STATE" else "",
        give=GIVE,
        right=("USE",),
    )


def summary(uses: Sequence[GpuUse]) -> str:
    """``8 x NVIDIA A100-SXM4-80GB (80 GiB), driver 550.54.15; free: 3, kept for who waits``."""
    whole = [use for use in uses if not use.gpu.parent]
    kinds = Counter((use.gpu.model, use.gpu.memory_bytes) for use in whole)
    told = [
        f"{count} x {model}{f' ({size_text(memory)})' if memory else ''}"
        for (model, memory), count in kinds.items()
    ]
    drivers = sorted({use.gpu.driver for use in whole if use.gpu.driver})
    driver = f", driver {', '.join(drivers)}" if drivers else ""
    free = sum(use.state == "free" for use in whole)
    parts = sum(use.state == "free" and bool(use.gpu.parent) for use in uses)
    left = [f"{free}"] if free else []
    left += [f"{parts} MIG instance{'s' * (parts != 1)}"] if parts else []
    back = sum(use.state == "free" and bool(use.kept_for) for use in uses)
    some = "" if back == free + parts else f"{back} of them "
    keeps = f", {some}kept for who waits" if back else ""
    return f"{', '.join(told)}{driver}; free: {' and '.join(left) or 'none'}{keeps}"


def in_line(waiting: Sequence[Waiting]) -> list[str]:
    """``waiting: big (alice, 8 GPUs), small (bob, 1 GPU) and 3 more``; nothing without."""
    if not waiting:
        return []
    more = f" and {len(waiting) - WAITING} more" if len(waiting) > WAITING else ""
    return [f"waiting: {', '.join(map(str, waiting[:WAITING]))}{more}"]


def number_of(gpu: Gpu, every: Sequence[Gpu]) -> str:
    """What a GPU is called on its machine: ``3``; ``3:0`` for the first instance of one."""
    if not gpu.parent:
        return str(gpu.index)
    siblings = [other.uuid for other in every if other.parent == gpu.parent]
    parent = next((other.index for other in every if other.uuid == gpu.parent), gpu.index)
    return f"{parent}:{siblings.index(gpu.uuid)}"


def register(app: typer.Typer) -> None:
    """Put this command on the command line."""
    app.command()(gpus)


def _rows(use: GpuUse, every: Sequence[Gpu]) -> list[list[str]]:
    """A GPU's line, and one more for each further holder."""
    gpu = use.gpu
    number = number_of(gpu, every)
    head = [
        f" {number}" if gpu.parent else number,
        gpu.model.removeprefix("NVIDIA "),
        use.state,
        "-" if gpu.use_percent is None else f"{gpu.use_percent}%",
        _memory(gpu),
    ]
    held = [_holder(holder) for holder in use.holders]
    if use.state == "shared":
        held.append([f"{'kept' if use.kept_for else 'free'} ({use.free_share:g})", "", "", ""])
    free = f"kept for {use.kept_for}" if use.kept_for else "-"
    nobody = [[free if use.state == "free" else "", "", "", ""]]
    rows = [[*("" for _ in head), *cells] for cells in held or nobody]
    rows[0][: len(head)] = head
    return rows


def _memory(gpu: Gpu) -> str:
    if not gpu.memory_bytes:
        return "-"
    if gpu.memory_used_bytes is None:
        return size_text(gpu.memory_bytes)
    return part_text(gpu.memory_used_bytes, gpu.memory_bytes)


def _holder(holder: Holder) -> list[str]:
    """HELD BY, USER, FOR, ENDS BY."""
    inside = bool(holder.session)
    share = f" ({holder.share:g})" if inside and holder.share < 1 else ""
    return [
        (holder.session or holder.what) + share,
        holder.user or "-",
        format_duration(max(0.0, time.time() - holder.since)) if holder.since else "-",
        until(holder.ends_at) if inside else "-",
    ]


def until(at: float | None) -> str:
    """A time to come as a clock on the wall shows it: ``14:05``, ``Fri 14:05``; ``-`` for none."""
    if at is None:
        return "-"
    then, now = time.localtime(at), time.localtime(time.time())
    if then[:3] == now[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%a %H:%M" if at - time.time() < 6 * 86400 else "%F", then)
