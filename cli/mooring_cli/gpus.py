"""gpus: the host's GPUs, and the sessions and processes that hold them."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from mooring import format_duration
from mooring_cli import options as opt
from mooring_cli.output import (
    ShrinkOrder,
    note,
    one_line,
    part_text,
    print_json,
    print_rows,
    size_text,
    terminal_width,
    width_of,
    wrapped,
)

if TYPE_CHECKING:
    from mooring import Gpu, GpuUse, Holder, Waiting

HEADS = ("GPU", "MODEL", "STATE", "USE", "MEMORY", "HELD BY", "USER", "FOR", "ENDS BY")
# If all GPUs are of one model, it is printed above the table and the column is omitted
SHRINK_ORDER: ShrinkOrder = (
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
MOST_WAITING = 4  # maximum number of queued sessions to name
STYLES = {
    "free": "good",
    "held": "",
    "shared": "",
    "draining": "busy",
    "outside": "odd",
    "split": "quiet",
}


def gpus(json_: opt.Json = False) -> None:
    """List GPUs: their use, their holders, and the queue.

    GPUs that other containers and processes hold are listed too.
    """
    from mooring import Mooring

    uses, waiting = Mooring().gpus.list_with_waiting()
    if json_:
        print_json([use.to_dict() for use in uses])
        return
    if not uses:
        print("no GPUs on this machine")
        note("if this machine has GPUs, see: mooring doctor")
        return
    for line in map(one_line, [summary(uses), *queue_lines(waiting)]):
        wrap = sys.stdout.isatty() and width_of(line) > terminal_width()
        print("\n".join(wrapped(line, terminal_width())) if wrap else line)
    _print_table(uses)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(gpus)


def summary(uses: Sequence[GpuUse]) -> str:
    """Return a summary: ``8 x NVIDIA A100-SXM4-80GB (80 GiB), driver 550.54.15; free: 3``."""
    whole = [use for use in uses if not use.gpu.parent]
    kinds = Counter((use.gpu.model, use.gpu.memory_bytes) for use in whole)
    models = [
        f"{count} x {model}{f' ({size_text(memory)})' if memory else ''}"
        for (model, memory), count in kinds.items()
    ]
    drivers = sorted({use.gpu.driver for use in whole if use.gpu.driver})
    driver = f", driver {', '.join(drivers)}" if drivers else ""
    gpus = sum(use.state == "free" for use in whole)
    instances = sum(use.state == "free" and bool(use.gpu.parent) for use in uses)
    free = [f"{gpus}"] if gpus else []
    free += [f"{instances} MIG instance{'s' * (instances != 1)}"] if instances else []
    reserved = sum(use.state == "free" and bool(use.kept_for) for use in uses)
    some = "" if reserved == gpus + instances else f"{reserved} of them "
    reservation = f", {some}reserved for a queued session" if reserved else ""
    return f"{', '.join(models)}{driver}; free: {' and '.join(free) or 'none'}{reservation}"


def queue_lines(waiting: Sequence[Waiting]) -> list[str]:
    """Return ``["waiting: big (alice, 8 GPUs) and 3 more"]``, or no line for an empty queue."""
    if not waiting:
        return []
    more = f" and {len(waiting) - MOST_WAITING} more" if len(waiting) > MOST_WAITING else ""
    return [f"waiting: {', '.join(map(str, waiting[:MOST_WAITING]))}{more}"]


def number_of(gpu: Gpu, gpus: Sequence[Gpu]) -> str:
    """Return a GPU's number on the host: ``3``, or ``3:0`` for the first MIG instance of GPU 3.

    Args:
        gpu: the GPU or MIG instance.
        gpus: all GPUs of the host.
    """
    if not gpu.parent:
        return str(gpu.index)
    siblings = [other.uuid for other in gpus if other.parent == gpu.parent]
    parent = next((other.index for other in gpus if other.uuid == gpu.parent), gpu.index)
    return f"{parent}:{siblings.index(gpu.uuid)}"


def until(at: float | None) -> str:
    """Format a future time briefly: ``14:05``, ``Fri 14:05``, or a date.

    Args:
        at: in seconds since the epoch; None is formatted as ``-``.
    """
    if at is None:
        return "-"
    then, now = time.localtime(at), time.localtime(time.time())
    if then[:3] == now[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%a %H:%M" if at - time.time() < 6 * 86400 else "%F", then)


def _print_table(uses: Sequence[GpuUse]) -> None:
    gpus = [use.gpu for use in uses]
    rows: list[list[str]] = []
    styles: list[str] = []
    for use in uses:
        for row in rows_of(use, gpus):
            rows.append(row)
            styles.append(STYLES.get(use.state, ""))
    same_model = len({gpu.model for gpu in gpus}) == 1
    shown = [i for i, head in enumerate(HEADS) if not (same_model and head == "MODEL")]
    print_rows(
        [HEADS[i] for i in shown],
        [[row[i] for i in shown] for row in rows],
        lambda row, column: styles[row] if HEADS[shown[column]] == "STATE" else "",
        shrink=SHRINK_ORDER,
        right=("USE",),
    )


def rows_of(use: GpuUse, gpus: Sequence[Gpu]) -> list[list[str]]:
    """Return a GPU's row, and another row for each further holder."""
    gpu = use.gpu
    number = number_of(gpu, gpus)
    head = [
        f" {number}" if gpu.parent else number,
        gpu.model.removeprefix("NVIDIA "),
        use.state,
        "-" if gpu.use_percent is None else f"{gpu.use_percent}%",
        _memory(gpu),
    ]
    holders = [_holder(holder) for holder in use.holders]
    if use.state == "shared":
        rest = "reserved" if use.kept_for else "free"
        holders.append([f"{rest} ({use.free_share:g})", "", "", ""])
    free = f"reserved for {use.kept_for}" if use.kept_for else "-"
    nobody = [[free if use.state == "free" else "", "", "", ""]]
    rows = [[*("" for _ in head), *cells] for cells in holders or nobody]
    rows[0][: len(head)] = head
    return rows


def _memory(gpu: Gpu) -> str:
    if not gpu.memory_bytes:
        return "-"
    if gpu.memory_used_bytes is None:
        return size_text(gpu.memory_bytes)
    return part_text(gpu.memory_used_bytes, gpu.memory_bytes)


def _holder(holder: Holder) -> list[str]:
    """Return the cells HELD BY, USER, FOR and ENDS BY."""
    in_session = bool(holder.session)
    share = f" ({holder.share:g})" if in_session and holder.share < 1 else ""
    return [
        (holder.session or holder.what) + share,
        holder.user or "-",
        format_duration(max(0.0, time.time() - holder.since)) if holder.since else "-",
        until(holder.ends_at) if in_session else "-",
    ]
