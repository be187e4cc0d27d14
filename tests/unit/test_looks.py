"""How things look: in 20 to 250 columns, on light and dark, in a pipe, and with hostile texts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mooring.engines.fake import FakeEngine
from mooring.errors import SpecError
from mooring.gpus.claims import Claim
from mooring.gpus.inventory import Gpu
from mooring.gpus.queue import Waiting
from mooring.gpus.usage import GpuUse, Holder
from mooring.service import Mooring
from mooring.sessions.model import Session, State
from mooring.sessions.record import ClockStatus, KernelEntry
from mooring_cli import cells, gpus, look, output, top
from mooring_cli.choosing import choose

ROOT = Path(__file__).parents[2]
SGR = re.compile(r"\033\[[0-9;]*m")


@pytest.fixture(scope="module")
def docs() -> Iterator[tuple[ModuleType, ModuleType]]:
    """``docs/scene.py`` and ``docs/svg.py``."""
    before = list(sys.path)
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import scene
        import svg

        yield scene, svg
    finally:
        sys.path[:] = before
        for name in ("scene", "svg"):
            sys.modules.pop(name, None)


@pytest.fixture
def stage(docs: tuple[ModuleType, ModuleType]) -> Iterator[Any]:
    with docs[0].scene() as found:
        yield found


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Standard output is a terminal with 256 colours."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return monkeypatch


def session(name: str = "train", state: State = State.RUNNING, **changes: Any) -> Session:
    values: dict[str, Any] = {
        "id": "0123456789ab", "name": name, "owner": "ann", "state": state, "image": "host",
        "container": "c" * 64, "created_at": 1.0, "exit_code": None, "spec": {}, "clock": None,
        "end": None, "kernels": (),
    }  # fmt: skip
    return Session(**(values | changes))


def clock(**changes: Any) -> ClockStatus:
    values: dict[str, Any] = {
        "age_s": 1.0, "idle_in_s": 90.0, "max_in_s": None, "active": ("kernel",), "unknown": (),
        "held_for_s": 0.0, "cpu_percent": 250.0, "last_signal": "kernel", "last_signal_ago_s": 1.0,
    }  # fmt: skip
    return ClockStatus(**(values | changes))


# what the docs show


def test_the_pictures_are_what_the_commands_print(docs: tuple[ModuleType, ModuleType]) -> None:
    """Each picture of the docs, drawn again from the same scene, is the one that is there."""
    for path, svg in docs[0].pictures().items():
        assert path.read_text() == svg, f"{path.name}: run python docs/scene.py"


def test_no_line_is_wider_than_the_terminal(stage: Any) -> None:
    """Whatever the terminal's width, a table's lines fit it, and every name is there."""
    for width in (40, 60, 80, 100, 120, 200, 250):
        for command in ("ps", "ps --all-users --all", "ps --dead", "gpus", "top --once"):
            said = SGR.sub("", stage.said(f"mooring {command}", width))
            assert max(map(output.width_of, said.splitlines())) <= width, (command, width)
            if "--all-users" in command:
                for name in ("bert-finetune", "vision-lab", "diffusion-xl", "llama-serve", "viz"):
                    assert re.search(rf"^{name} ", said, re.MULTILINE), (name, width)


def test_what_matters_is_readable_in_80_columns(stage: Any) -> None:
    """Names, states with their reasons, GPUs that are not used, and ends are whole."""
    said = SGR.sub("", stage.said("mooring ps", 80))
    for text in (
        "running (gpu lost)", "0.5, unused 25m", "stopped (idle)", "stopped (exit 3)", "pending",
        "1st in the q", "held 1h 59m", "2h 29m (idle)", "20h (max)",
    ):  # fmt: skip
        assert text in said, text
    said = SGR.sub("", stage.said("mooring gpus", 80))
    for text in (
        "8 x NVIDIA A100-SXM4-80GB (80 GiB), driver 550.54.15; free: 2 MIG instances",
        "71.2 / 80 GiB", "97%", "vision-lab (0.5)", "viz (0.25)", "kept (0.25)", "process 48213",
        "waiting: sweep-07 (alice, 4 GPUs)",
        "dana", "draining", "split", "7:0", "2h 10m", "19:55",
    ):  # fmt: skip
        assert text in said, text


def test_the_newest_change_comes_first(stage: Any) -> None:
    """ps sorts by the last change of state, not by the creation; other people's too."""
    said = stage.said("mooring ps -q", 80).split()
    assert said == [
        "genome", "sweep-07", "bert-finetune", "data-prep", "vision-lab", "eval-nightly",
        "diffusion-xl", "notes",
    ]  # fmt: skip
    assert stage.said("mooring ps -q -n 2", 80).split() == ["genome", "sweep-07"]
    everybody = stage.said("mooring ps -q --all-users", 80).split()
    assert everybody[2:4] == ["viz", "tutorial"]
    table = SGR.sub("", stage.said("mooring ps --all-users", 200))
    assert re.search(r"^llama-serve +bob +running +2 +- +- +- +7h ago", table, re.MULTILINE)
    assert table.endswith("1 more: mooring ps --all-users --all\n")


def test_filters(stage: Any) -> None:
    """Patterns on JSON fields: any of one key's, all of the keys."""
    for arguments, names in (
        ("--state pending,starting", "genome sweep-07"),
        ("--state stopped", "data-prep eval-nightly"),
        ("--filter name=d*", "data-prep diffusion-xl"),
        ("--filter name=d* --filter name=g*", "genome data-prep diffusion-xl"),
        ("--filter name=d* --filter degraded=?*", "diffusion-xl"),
        ("--filter gpus=0.5", "vision-lab"),
        ("--filter exit_code=3", "eval-nightly"),
        ("--filter active=gpu", "bert-finetune"),
        ("--running --filter image=*pytorch*", "bert-finetune vision-lab diffusion-xl"),
    ):
        assert stage.said(f"mooring ps -q {arguments}", 80).split() == names.split(), arguments


def test_without_a_terminal_nothing_is_cut_or_coloured(stage: Any) -> None:
    """In a pipe every column is there, whole, whatever COLUMNS says, and NO_COLOR is kept to."""
    for command in ("ps", "gpus", "top", "describe bert-finetune", "events bert-finetune"):
        piped = stage.said(f"mooring {command}", 40, terminal=False)
        assert "\033" not in piped
        assert "…" not in piped
        assert "\033" not in stage.said(f"mooring {command} ".replace("top", "top --once"), 80,
                                        NO_COLOR="1")  # fmt: skip
    assert "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime" in stage.said(
        "mooring ps", 40, terminal=False
    )


def test_describe_tells_all(stage: Any) -> None:
    """What it holds, with model and UUID; deadlines, kernels, place, events; also as JSON."""
    said = stage.said("mooring describe bert-finetune sweep-07 diffusion-xl", 120, terminal=False)
    for text in (
        "NVIDIA A100-SXM4-80GB, 80 GiB, GPU-5f1c0de1-7a3b-41c8-9d2e-0b5a6c7d8e91",
        "idle timeout    30m", "max duration    8h", "memory        61.4 / 128 GiB",
        "7d1fe2a90c34  busy, 214 requests", "granted    alice", "1st in the queue for 4 GPUs",
        "priority        10", "which is not on this machine now", "running (gpu lost)",
    ):  # fmt: skip
        assert text in said, text
    (one, other) = json.loads(stage.said("mooring describe --json bert-finetune vision-lab", 80))
    assert [gpu["index"] for gpu in one["gpu_list"]] == [0, 1]
    assert other["gpu_list"][0]["share"] == 0.5
    assert one["events"][0]["kind"] == "requested"
    assert json.loads(stage.said("mooring describe --json notes", 80))["name"] == "notes"


def test_why_tells_what_is_waited_for_and_what_is_unused(stage: Any) -> None:
    """A pending session's wait, a lost GPU, and an unused one."""
    assert "waits    1st in the queue for 4 GPUs; held by bert-finetune (alice)" in stage.said(
        "mooring why sweep-07", 200
    )
    assert "diffusion-xl is running (gpu lost)" in stage.said("mooring why diffusion-xl", 80)
    assert "0.5, unused for 25m" in stage.said("mooring why vision-lab", 80)


@pytest.mark.parametrize(
    ("said", "message"),
    [("foo=1", "--filter: no field 'foo'"), ("running", "--filter: 'running' is not KEY=VALUE")],
)
def test_a_filter_that_is_none(said: str, message: str) -> None:
    """It is told whether the field or the form is wrong, and which fields there are."""
    with pytest.raises(SpecError) as caught:
        look._wanted([said], [])
    assert caught.value.message == message
    assert caught.value.hint.startswith("there is: name, id, ")


def test_commands_are_called_as_they_are_typed(state: Path) -> None:
    """What removes is rm."""
    with pytest.raises(SpecError, match=r"^rm needs the name of a session"):
        choose(Mooring(FakeEngine()), None, verb="remove")


def test_gpus_as_json(stage: Any) -> None:
    """Each GPU with its state and its holders, in the shape of the library's values."""
    rows = json.loads(stage.said("mooring gpus --json", 80))
    assert [row["state"] for row in rows] == [
        "held", "held", "shared", "held", "held", "outside", "draining", "split", "held", "free",
        "free",
    ]  # fmt: skip
    assert rows[0]["holders"][0]["session"] == "bert-finetune"
    assert rows[2]["free_share"] == 0.25
    assert [row["kept_for"] for row in rows[2:4]] == ["sweep-07", ""]
    assert rows[8]["parent"] == rows[7]["uuid"]


def test_a_machine_without_gpus(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and where to look."""
    monkeypatch.delenv("MOORING_FAKE_NVML")
    said = stage.said("mooring gpus", 80, terminal=False)
    assert said == "no GPUs on this machine\nif there should be: mooring doctor\n"


# colours


@pytest.mark.parametrize(
    "background",
    ["#ffffff", "#fdf6e3", "#fafafa", "#000000", "#0d1117", "#1e1e1e", "#002b36"],
    ids=["white", "solarized-light", "atom-light", "black", "github", "vs-code", "solarized-dark"],
)
def test_every_colour_is_readable_on_light_and_dark(
    docs: tuple[ModuleType, ModuleType], background: str
) -> None:
    """Each colour has a contrast of 2.7 to what terminals have behind it, and 3.9 to white."""
    svg = docs[1]
    for name, number in output.COLOURS.items():
        least = 3.9 if background == "#ffffff" else 2.7
        assert svg.contrast(svg.rgb(number), background) >= least, name


def test_colours_of_terminals(terminal: pytest.MonkeyPatch) -> None:
    """256 fixed colours where they are known, the theme's elsewhere, none for who wants none."""
    assert output.paint("x", "good") == "\033[38;5;28mx\033[0m"
    assert output.paint("x", "") == "x"
    terminal.setenv("TERM", "screen")
    terminal.delenv("COLORTERM", raising=False)
    assert output.paint("x", "bad") == "\033[31mx\033[0m"
    assert output.paint("x", "quiet") == "x"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        terminal.setenv(name, value)
        assert output.paint("x", "bad") == "x"
        terminal.setenv(name, "")


# widths


@pytest.mark.parametrize(
    ("text", "width"),
    [("abc", 3), ("实验", 4), ("é", 1), ("e\u0301", 1), ("\uff46\uff47", 4), ("", 0)],
)
def test_widths(text: str, width: int) -> None:
    """Wide characters take two columns, accents none, and what is fitted is as wide as asked."""
    assert output.width_of(text) == width
    for room in range(1, 12):
        assert output.width_of(output.fitted(text, room)) == room


def test_wide_and_hostile_texts_keep_the_columns(terminal: pytest.MonkeyPatch) -> None:
    """Other people's texts neither drive the terminal nor shift what stands beside them."""
    terminal.setenv("COLUMNS", "40")
    rows = [["实验实验", "x"], ["a\033[2J\nb\tc", "y"], ["z" * 60, "w"]]
    lines = [SGR.sub("", line) for line in output.lines_of(["NAME", "B"], rows, width=40)]
    assert len(lines) == 4
    assert all("\033" not in line and "\n" not in line for line in lines)
    assert {output.width_of(line) for line in lines[1:]} == {40}


def test_names_give_way_last(terminal: pytest.MonkeyPatch) -> None:
    """In a narrow terminal a long name is whole as long as another column can be shortened."""
    terminal.setenv("COLUMNS", "80")
    name = "a-name-of-forty-characters-at-the-most-x"
    said = look.table(
        [session(name, waiting="w" * 90, claims=(Claim("GPU-1"),), clock=clock())],
        cells.DEFAULT_COLUMNS,
    )
    assert name in said
    assert "running" in said
    assert max(map(len, SGR.sub("", said).splitlines())) <= 80


def test_chosen_columns_are_never_left_out(terminal: pytest.MonkeyPatch) -> None:
    """--format is kept to: columns are shortened, and all of them are there."""
    terminal.setenv("COLUMNS", "60")
    columns = ("name", "image", "activity", "stops_in", "created")
    said = SGR.sub("", look.table([session(image="i" * 90, clock=clock())], columns, cut=False))
    assert said.split("\n")[0].split() == ["NAME", "IMAGE", "ACTIVITY", "STOPS", "IN", "CREATED"]


# cells


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "-"),
        ({"claims": (Claim("a"), Claim("b"))}, "2"),
        ({"claims": (Claim("a", 0.25),)}, "0.25"),
        ({"claims": (Claim("a"),), "clock": clock(gpu_unused_s=1500.0)}, "1, unused 25m"),
        ({"claims": (Claim("a"),), "clock": clock(gpu_unused_s=30.0)}, "1"),
        ({"claims": (Claim("a"),), "clock": clock(gpu_unused_s=None)}, "1"),
        ({"claims": (Claim("a"),), "state": State.STOPPED}, "-"),
        ({"claims": (), "state": State.PENDING, "spec": {"gpus": 2}}, "2"),
        ({"claims": (), "state": State.PENDING, "spec": {"gpus": {"count": 3}}}, "3"),
    ],
)
def test_the_gpus_of_a_session(changes: dict[str, Any], said: str) -> None:
    """How many it holds or waits for, and for how long it has not used them."""
    assert cells.gpus(session(**changes)) == said


def test_what_top_shows() -> None:
    """CPU of one core, memory of its limit, GPU use and what is lost, in a line each."""
    used = clock(memory_bytes=3 << 30, gpu_percent=88.0)
    kernels = (KernelEntry("k", busy=True, requests=1, exit=None),)
    said = top.lines(
        [
            session(clock=used, spec={"memory": 8 << 30}, claims=(Claim("a"),), kernels=kernels),
            session("broken", degraded="gpu lost", clock=clock(), claims=(Claim("b"),)),
        ],
        0,
    )
    assert said[0].split() == [
        "NAME", "STATE", "CPU", "MEMORY", "GPUS", "GPU", "KERNELS", "ACTIVITY", "STOPS", "IN",
    ]  # fmt: skip
    assert said[1].split() == [
        "train", "running", "250%", "3", "/", "8", "GiB", "1", "88%", "1,", "1", "busy", "kernel",
        "1m", "(idle)",
    ]  # fmt: skip
    assert "gpu lost" in said[2]


def test_numbers_of_gpus_and_their_parts() -> None:
    """A GPU is called by its index, an instance by its GPU's and its own."""
    gpu = Gpu("GPU-2", 2, "nvidia", "A", 1, "d", split=True)
    parts = [Gpu(f"MIG-{i}", 2, "nvidia", "A MIG", 1, "d", parent="GPU-2") for i in range(2)]
    every = [gpu, *parts]
    assert [gpus.number_of(one, every) for one in every] == ["2", "2:0", "2:1"]


def test_gpus_of_which_little_is_known() -> None:
    """Without memory, use or driver there are dashes, and no error."""
    gpu = Gpu("nvidia0", 0, "nvidia", "GPU", 0, "")
    holder = Holder("", "", "", "", "container \033[2Jweb", 0.0, 1.0, None, False)
    use = GpuUse(gpu, "outside", 0.0, (holder,))
    assert gpus.summary([use]) == "1 x GPU; free: none"
    (row,) = gpus._rows(use, [gpu])
    assert row[3:5] == ["-", "-"]


def test_free_gpus_that_are_kept_for_who_waits() -> None:
    """The summary says how many of the free ones are, their lines for whom, and who waits."""
    every = [Gpu(f"GPU-{i}", i, "nvidia", "A", 0, "") for i in range(3)]
    kept = [GpuUse(gpu, "free", 1.0, (), kept_for="big") for gpu in every]
    free = GpuUse(every[2], "free", 1.0, ())
    assert gpus.summary([*kept[:2], free]).endswith("free: 3, 2 of them kept for who waits")
    assert gpus.summary(kept).endswith("free: 3, kept for who waits")
    assert gpus._rows(kept[0], every)[0][5] == "kept for big"
    line = [Waiting(f"s{n}", "bob", "1 GPU", ()) for n in range(6)]
    assert gpus.in_line(line[:1]) == ["waiting: s0 (bob, 1 GPU)"]
    assert gpus.in_line(line)[0].endswith("s3 (bob, 1 GPU) and 2 more")
    assert gpus.in_line([]) == []


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (1023, "1 KiB"), (512 << 20, "512 MiB"), (80 << 30, "80 GiB"),
     (int(61.25 * (1 << 30)), "61.2 GiB"), (1 << 40, "1 TiB"), (None, "-")],
)  # fmt: skip
def test_sizes(size: int | None, said: str) -> None:
    """Three digits, and the unit that suits."""
    assert output.size_text(size) == said


@pytest.mark.parametrize("value", [float("inf"), 10**400, -1, "x", True])
def test_a_strangers_spec_holds_anything(value: object) -> None:
    """A label may say any number; telling it is no error."""
    for key in ("idle_timeout", "memory"):
        assert output.value_text(key, value)


# pages


def test_a_long_list_goes_through_the_pager(
    capfd: pytest.CaptureFixture[str], terminal: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Longer than the terminal: $PAGER gets it; shorter, or with PAGER= : it is printed."""
    for stream in (sys.stdin, sys.stdout):
        terminal.setattr(stream, "isatty", lambda: True, raising=False)
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged $LESS; cat\n")
    pager.chmod(0o755)
    terminal.setenv("PAGER", str(pager))
    terminal.setenv("LINES", "5")
    terminal.setenv("COLUMNS", "80")
    output.in_pages("a\nb\n")
    assert capfd.readouterr().out == "a\nb\n"
    output.in_pages("a\n" * 9)
    assert capfd.readouterr().out == "paged FRX\n" + "a\n" * 9
    for pager_ in ("", "cat", "no-such-pager-here"):
        terminal.setenv("PAGER", pager_)
        output.in_pages("a\n" * 9)
        assert capfd.readouterr().out == "a\n" * 9
