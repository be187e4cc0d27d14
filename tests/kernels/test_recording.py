"""Reading what is recorded of a kernel: notebook outputs out of lines that nobody can trust."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from mooring.guest.shared import SharedGuest
from mooring.kernels import recording
from mooring.kernels.recording import Execution, Reader
from tests.support.recordings import HOSTILE, begin, cell, idle, line, out, show, write


@pytest.fixture(autouse=True)
def kernel(run: Path, start_host: Callable[..., Any]) -> None:
    """A kernel "a", and a kernel host that lives."""
    (run / "k" / "a").mkdir()
    start_host()


def executions(run: Path, *lines: str) -> tuple[Execution, ...]:
    write(run, *lines)
    return recording.read(SharedGuest(run), "a").executions


def shown(execution: Execution) -> list[str]:
    return [
        output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
        for output in execution.outputs
    ]


def test_messages_become_a_cells_outputs(run: Path) -> None:
    """Streams that follow each other are one output; all of them are what nbformat wants."""
    (found,) = executions(
        run,
        cell("print(1)", cell="c1", count=3),
        out("a"),
        out("b\n"),
        out("e", "stderr"),
        out("c"),
        line("display_data", data={"text/plain": "p", "image/png": "x"}, metadata={"a": 1}),
        line("execute_result", data={"text/plain": "1"}, metadata={}, execution_count=3),
        line("error", ename="E", evalue="v", traceback=["t1", "t2"]),
        idle(),
    )
    assert found.outputs == [
        {"output_type": "stream", "name": "stdout", "text": "ab\n"},
        {"output_type": "stream", "name": "stderr", "text": "e"},
        {"output_type": "stream", "name": "stdout", "text": "c"},
        {
            "output_type": "display_data",
            "data": {"text/plain": "p", "image/png": "x"},
            "metadata": {"a": 1},
        },
        {
            "output_type": "execute_result",
            "data": {"text/plain": "1"},
            "metadata": {},
            "execution_count": 3,
        },
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t1", "t2"]},
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(execution_count=3, outputs=found.outputs)]
    )
    nbformat.validate(notebook)
    assert found.to_dict() == {
        "msg_id": "m1",
        "cell_id": "c1",
        "code": "print(1)",
        "execution_count": 3,
        "status": "error",
        "started": 5.5,
        "outputs": found.outputs,
        "truncated": False,
    }
    json.dumps(found.to_dict())


def test_clear_output_clears_at_once_or_with_the_next(run: Path) -> None:
    """``wait`` keeps what is there until something takes its place."""
    (found,) = executions(run, cell(), out("a"), line("clear_output", wait=False), out("b"))
    assert shown(found) == ["b"]
    (found,) = executions(run, cell(), out("a"), line("clear_output", wait=True))
    assert shown(found) == ["a"]
    (found,) = executions(run, cell(), out("a"), line("clear_output", wait=True), out("b"))
    assert shown(found) == ["b"]
    (found,) = executions(run, cell(), out("a"), line("clear_output"), idle())
    assert shown(found) == []


def test_a_display_is_updated_wherever_it_is(run: Path) -> None:
    """A later cell changes what an earlier one showed, but not what is shown afterwards."""
    found = executions(
        run,
        cell(),
        show("one", "d"),
        show("other", "e"),
        idle(),
        cell("y", "m2"),
        show("two", "d", "update_display_data", "m2"),
        show("three", "d", parent="m2"),
        show("nobody's", "z", "update_display_data", "m2"),
    )
    assert [shown(execution) for execution in found] == [["two", "other"], ["three"]]


def test_the_state_of_an_execution(run: Path) -> None:
    """It runs until the kernel is idle again; one that was cut short by the kernel's end failed."""
    lines = [cell("a", "m1"), idle("m1"), cell("b", "m2")]
    assert [e.status for e in executions(run, *lines)] == ["ok", "running"]
    lines += ['{"kind":"start","at":2}', cell("c", "m3")]
    assert [e.status for e in executions(run, *lines)] == ["ok", "error", "running"]
    (run / "k" / "a" / "exit").write_text('{"code": 0}')
    assert [e.status for e in executions(run, *lines)] == ["ok", "error", "error"]


def test_silent_requests_are_there_for_what_they_printed(run: Path) -> None:
    """A client's own requests have no input: without output they are no executions."""
    found = executions(run, out("s", parent="m1"), idle("m1"), idle("m2"))
    assert [(e.msg_id, e.code, shown(e), e.status) for e in found] == [("m1", "", ["s"], "ok")]


def test_the_older_file_comes_first(run: Path) -> None:
    """Both files are one text; an input that is said again begins no second execution."""
    write(run, cell(cell="c"), out("a"), name="out.1")
    again = json.dumps(json.loads(cell(cell="c")) | {"again": True})
    write(run, again, out("b"), idle(), number=1)
    (found,) = recording.read(SharedGuest(run), "a").executions
    assert (shown(found), found.truncated) == (["ab"], False)
    write(run, out("late", parent="m2"), name="out.1", number=1)
    write(run, again, out("b"), idle(), number=2, lost=70)
    found2 = recording.read(SharedGuest(run), "a")
    assert [(e.code, e.truncated) for e in found2.executions] == [("", True), ("x", True)]
    assert found2.lost_bytes == 70


def test_nothing_there_is_an_empty_recording(run: Path) -> None:
    """No kernel, no file, no name: nothing is recorded."""
    for name in ("a", "b", "../k/a", "a/../a", "", "x" * 1000, "\0"):
        assert recording.read(SharedGuest(run), name) == recording.Recording()
    assert recording.read(SharedGuest(run / "gone"), "a") == recording.Recording()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_files_are_read(run: Path, kind: str) -> None:
    """What runs in the session can show no file of this machine, nor keep the reader waiting."""
    secret = run.parent / "secret"
    path = run / "k" / "a" / "out.0"
    write(run, cell(), out("secret"))
    path.rename(secret)
    {
        "link": lambda: path.symlink_to(secret),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }[kind]()
    assert recording.read(SharedGuest(run), "a") == recording.Recording()


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_line_that_no_recorder_writes_disturbs_nothing(run: Path, number: int) -> None:
    """Whatever is written there, the other lines are read, and the answer is JSON."""
    found = executions(run, cell(), HOSTILE[number], out("after", parent="m9"), idle("m9"))
    assert found[-1].outputs[-1]["text"] == "after"
    for execution in found:
        json.dumps(execution.to_dict(), allow_nan=False)
        for output in execution.outputs:
            assert output["output_type"] in recording.OUTPUTS


def test_any_bytes_are_read(run: Path) -> None:
    """Noise is no recording, and no error."""
    path = run / "k" / "a" / "out.0"
    noise = os.urandom(200_000)
    for start in (b"", begin(200_000).encode() + b"\n", begin(10**12).encode() + b"\n"):
        path.write_bytes(start + noise)
        assert recording.read(SharedGuest(run), "a").executions == ()


def test_what_is_still_written_is_left(run: Path) -> None:
    """Behind a file's end may be half a line, and what was there before: neither is read."""
    old = f"{cell('old', 'm0')}\n"
    write(run, cell(), more=out("whole")[:20] + "\n" + old)
    reader = Reader(SharedGuest(run), "a")
    assert [(m.kind, m.parent) for m in reader.messages()] == [("execute_input", "m1")]
    assert list(reader.messages()) == []
    write(run, cell(), out("whole"), more=old)
    assert [m.content["text"] for m in reader.messages()] == ["whole"]
    assert list(reader.messages()) == []
    assert reader.lost_bytes == 0


def test_a_reader_follows_over_a_change_of_files(run: Path) -> None:
    """Nothing is read twice and nothing is missed while the recorder goes from file to file."""
    path = run / "k" / "a"
    reader = Reader(SharedGuest(run), "a")
    seen: list[str] = []
    for number in range(4):
        for part in range(3):
            write(run, *(out(f"{number}.{n}") for n in range(part + 1)), number=number)
            if (number + part) % 2:
                seen += [m.content["text"] for m in reader.messages()]
        os.rename(path / "out.0", path / "out.1")
        if number % 2:  # between the two there is no newest file
            seen += [m.content["text"] for m in reader.messages()]
    assert seen == [f"{number}.{part}" for number in range(4) for part in range(3)]


def test_a_file_that_is_written_over_meanwhile_is_not_read(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of it may be of two times, and is left."""
    write(run, out("new"), number=5)
    write(run, out("dropped"), name="out.1", number=4)
    pread, number = os.pread, iter(range(4, 100))

    def changing(descriptor: int, size: int, offset: int) -> bytes:
        data = pread(descriptor, size, offset)
        if b"dropped" in data and size == 200:
            return begin(900, number=next(number)).encode()
        return data

    monkeypatch.setattr(os, "pread", changing)
    assert [m.content["text"] for m in Reader(SharedGuest(run), "a").messages()] == ["new"]


@pytest.mark.alone  # it measures time
def test_a_huge_recording_is_read_within_bounds(run: Path) -> None:
    """Files of any size, and JSON that would fill the memory, cost little."""
    path = run / "k" / "a"
    with open(path / "out.1", "w") as file:
        file.truncate(1 << 40)
    bomb = '{"kind":"display_data","parent":"m1","content":{"data":{"a":['
    lines = [bomb + "[]," * 300_000 + "[]]}}}"] * 30
    write(run, cell(), *lines, bomb + "[]," * 1_000_000 + "[]]}}}")
    began = time.process_time()
    (found,) = recording.read(SharedGuest(run), "a").executions
    assert time.process_time() - began < 20
    kept = sum(len(output["data"].get("a", [])) for output in found.outputs)
    assert kept <= recording.MAX_VALUES


def test_executions_and_outputs_are_bounded(run: Path) -> None:
    """The newest executions are kept, and of their outputs so many."""
    lines = [cell("x", f"m{n}") for n in range(recording.MAX_EXECUTIONS + 10)]
    lines += [show("d", parent="last")] * (recording.MAX_OUTPUTS + 10)
    found = executions(run, *lines)
    assert len(found) == recording.MAX_EXECUTIONS
    assert found[-1].msg_id == "last"
    assert len(found[-1].outputs) == recording.MAX_OUTPUTS
    assert found[-1].truncated


def weight(found: tuple[Execution, ...]) -> int:
    return len(json.dumps([execution.to_dict() for execution in found]))


def peak(run: Path) -> tuple[tuple[Execution, ...], int]:
    """What is read, and how many bytes of memory it takes at most beside the two files."""
    files = sum(path.stat().st_size for path in (run / "k" / "a").iterdir())
    tracemalloc.start()
    try:
        found = recording.read(SharedGuest(run), "a").executions
        return found, tracemalloc.get_traced_memory()[1] - files
    finally:
        tracemalloc.stop()


HUGE = {
    "tracebacks": [line("error", f"m{n}", traceback=["a"] * 180_000) for n in range(20)],
    "types": [line("display_data", data={f"{n}": "" for n in range(50_000)}) for _ in range(20)],
    "updates": [
        line("update_display_data", data={}, more=["a"] * 90_000, transient={"display_id": f"{n}"})
        for n in range(20)
    ],
    "cleared": [show("x" * 200_000, "d"), line("clear_output")] * 50,
    "codes": [line("execute_input", f"m{n}", code="x", more=["a"] * 180_000) for n in range(20)],
}


@pytest.mark.parametrize("lines", HUGE.values(), ids=HUGE)
def test_no_kind_of_message_costs_much_memory(run: Path, lines: list[str]) -> None:
    """Values are counted wherever they stand, and what is not shown is not kept."""
    write(run, cell(), *lines)
    found, cost = peak(run)
    assert cost < 60 << 20
    assert weight(found) < 8 << 20


def test_a_traceback_is_cut_in_the_middle(run: Path) -> None:
    """Of a longer one the first and the last lines are kept, and it is said to be cut."""
    many = [str(number) for number in range(recording.MAX_TRACEBACK_LINES * 2)]
    cut, whole = executions(
        run,
        line("error", "m1", traceback=many),
        line("error", "m2", traceback=many[: recording.MAX_TRACEBACK_LINES]),
    )
    traceback = cut.outputs[0]["traceback"]
    assert len(traceback) == recording.MAX_TRACEBACK_LINES
    assert (traceback[0], traceback[-1]) == (many[0], many[-1])
    assert (cut.truncated, whole.truncated) == (True, False)


def test_one_update_of_many_displays_is_not_paid_for_by_each(run: Path) -> None:
    """What a line grows to by standing in many outputs is bounded as everything else is."""
    lines = [show("d", "name")] * 1000
    write(run, cell(), *lines, show("x" * 1_000_000, "name", "update_display_data"))
    (found,) = recording.read(SharedGuest(run), "a").executions
    assert weight((found,)) < recording.MAX_BYTES
    assert found.truncated
    assert found.outputs[0]["data"]["text/plain"] != "d"


def test_what_is_read_is_at_most_four_times_what_is_recorded(run: Path) -> None:
    """A file that the session made itself, larger than its recorder would, is not all kept."""
    lines = [out("é" * 30_000, parent=f"m{n}") for n in range(60)]
    write(run, *lines)
    found = recording.read(SharedGuest(run), "a", 1 << 20).executions
    assert (1 << 20) < weight(found) < (4 << 20) + 200_000
    raw = [text.encode().decode("unicode_escape") for text in lines]
    write(run, *raw)
    assert weight(recording.read(SharedGuest(run), "a", 1 << 20).executions) < (4 << 20) + 200_000
