"""The recorder on its own: what it writes down of a kernel's messages, and how much it keeps."""

from __future__ import annotations

import importlib.util
import json
import os
import random
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from mooring.guest.shared import SharedGuest
from mooring.kernels import recording

MIB = 1 << 20


def load() -> Any:
    path = str(resources.files("mooring") / "guest" / "recorder.py")
    spec = importlib.util.spec_from_file_location("recorder_under_test", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recorder = load()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A session's run folder with one kernel, "a"."""
    (tmp_path / "k" / "a").mkdir(parents=True)
    return tmp_path


def start(run: Path, limit: int = 16 * MIB) -> Any:
    return recorder.Recorder(str(run / "k" / "a"), limit)


def say(
    to: Any,
    kind: str,
    parent: str = "m1",
    asked: str = "execute_request",
    call_later: Any = None,
    **content: Any,
) -> None:
    """One message on the iopub channel, as jupyter_client's session writes it."""
    header = {"msg_id": "own", "msg_type": kind, "username": "u", "date": "2026-01-01T00:00:00Z"}
    above = {"msg_id": parent, "msg_type": asked, "session": "s"}
    parts = (header, above, {}, content)
    frames = [json.dumps(part, ensure_ascii=False).encode() for part in parts]
    to.message([b"topic", b"<IDS|MSG>", b"signature", *frames], call_later)


def size(run: Path) -> int:
    return sum(path.stat().st_size for path in (run / "k" / "a").glob("out.*"))


def read(run: Path) -> recording.Recording:
    return recording.read(SharedGuest(run), "a")


def text_of(run: Path) -> str:
    return "".join(o["text"] for e in read(run).executions for o in e.outputs)


def test_messages_of_executions_are_kept_and_no_others(run: Path) -> None:
    """What widgets and clients talk among themselves is not recorded."""
    to = start(run)
    say(to, "status", execution_state="busy")
    say(to, "execute_input", code="1", execution_count=1)
    say(to, "comm_msg", comm_id="x", data={})
    say(to, "stream", asked="comm_msg", name="stdout", text="a widget's")
    say(to, "stream", name="stdout", text="mine")
    say(to, "debug_event", event="x")
    say(to, "status", execution_state="idle")
    to.message([b"no", b"delimiter"])
    to.message([b"<IDS|MSG>", b"short"])
    lines = (run / "k" / "a" / "out.0").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds == ["begin", "start", "execute_input", "stream", "status"]
    (execution,) = read(run).executions
    assert (execution.status, execution.outputs[0]["text"]) == ("ok", "mine")


def test_no_more_is_kept_than_the_limit_and_the_newest_of_it(run: Path) -> None:
    """The oldest goes first, it is told how much, and the cell that runs is still known."""
    to = start(run, MIB)
    to.cells[b"m1"] = "cell-1"
    say(to, "execute_input", code="loop()", execution_count=4)
    begun = read(run).executions[0].started
    for n in range(3000):
        say(to, "stream", name="stdout", text=f"{n} {'x' * 1000}\n")
        assert size(run) <= MIB
    found = read(run)
    (execution,) = found.executions
    numbers = [int(line.split()[0]) for line in execution.outputs[0]["text"].splitlines()]
    assert numbers == list(range(numbers[0], 3000))
    assert numbers[0] > 1000
    assert size(run) > MIB // 2
    assert found.lost_bytes >= numbers[0] * 1000
    assert execution.truncated
    assert (execution.cell_id, execution.code, execution.execution_count) == ("cell-1", "loop()", 4)
    assert execution.started == begun
    say(to, "status", execution_state="idle")
    say(to, "execute_input", "m2", code="2", execution_count=5)
    assert [e.truncated for e in read(run).executions] == [True, False]


@pytest.mark.parametrize(
    "alphabet",
    ["a", "\n", "\\", '\x1b\n\\"', "é漢", "😀", "\ud800\udc00 ", 'ab\n"\\\x07é漢😀'],
    ids=["ascii", "newlines", "backslashes", "escapes", "wide", "outside", "surrogates", "all"],
)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_long_stream_is_cut_between_characters(
    run: Path, alphabet: str, ascii_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is escaped, the pieces together are the text."""
    monkeypatch.setattr(recorder, "LONGEST_PIECE", 1000)
    to = start(run)
    text = "".join(random.Random(1).choices(alphabet, k=20_001))  # noqa: S311
    content = json.dumps({"name": "stdout", "text": text}, ensure_ascii=ascii_only)
    header = b'{"msg_type": "stream"}'
    parent = b'{"msg_id": "m1", "msg_type": "execute_request"}'
    raw = content.encode(errors="surrogatepass")
    to.message([b"<IDS|MSG>", b"", header, parent, b"{}", raw])
    lines = (run / "k" / "a" / "out.0").read_bytes().splitlines()
    assert len(lines) > 15
    (execution,) = read(run).executions
    said = execution.outputs[0]["text"]
    if "\ud800" in text and not ascii_only:
        assert "�" in said  # no UTF-8
    else:
        assert said.encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")


def test_of_a_text_longer_than_the_limit_the_end_is_kept(run: Path) -> None:
    """One print of ten times the limit leaves its end, and word of what is missing."""
    to = start(run, MIB)
    say(to, "execute_input", code="x", execution_count=1)
    say(to, "stream", name="stderr", text="".join(f"{n}\n" for n in range(1_000_000)))
    found = read(run)
    (execution,) = found.executions
    assert execution.truncated
    assert execution.outputs[0]["name"] == "stderr"
    text = execution.outputs[0]["text"]
    assert text.endswith("\n999998\n999999\n")
    assert 400_000 < len(text) < MIB
    assert found.lost_bytes > 5_000_000
    assert size(run) <= MIB


def test_a_picture_that_is_too_large_is_missed_and_told(run: Path) -> None:
    """What cannot be cut is left out, and what follows is recorded."""
    to = start(run, MIB)
    say(to, "execute_input", code="x", execution_count=1)
    say(to, "display_data", data={"image/png": "x" * MIB}, metadata={})
    say(to, "stream", name="stdout", text="after")
    (execution,) = read(run).executions
    assert execution.truncated
    assert [output["output_type"] for output in execution.outputs] == ["stream"]
    assert read(run).lost_bytes > MIB


def test_a_restart_goes_on_where_the_last_process_ended(run: Path) -> None:
    """A crash's last words are kept, half a line is written over, and what ran has failed."""
    to = start(run)
    say(to, "execute_input", code="crash()", execution_count=1)
    say(to, "stream", name="stdout", text="last words")
    with open(run / "k" / "a" / "out.0", "ab") as file:
        file.write(b'{"kind":"stream","par')
    assert text_of(run) == "last words"
    to = start(run)
    say(to, "execute_input", "m2", code="2", execution_count=1)
    say(to, "status", "m2", execution_state="idle")
    crashed, after = read(run).executions
    assert (crashed.status, crashed.outputs[0]["text"]) == ("error", "last words")
    assert (after.status, after.code) == ("ok", "2")


def test_counting_goes_on_over_restarts(run: Path) -> None:
    """What was dropped before a restart is still counted, and the limit still holds."""
    for _ in range(4):
        to = start(run, MIB)
        for _ in range(1000):
            say(to, "stream", name="stdout", text="x" * 1000)
    assert size(run) <= MIB
    assert read(run).lost_bytes > 3_000_000


def test_messages_wait_for_each_other_and_never_for_long(run: Path) -> None:
    """Many messages are one write; the end of a cell, a timer or the process's end brings it."""
    to = start(run)
    timers: list[Any] = []

    def say_later(kind: str, **content: Any) -> None:
        say(to, kind, call_later=lambda seconds, call: timers.append((seconds, call)), **content)

    say_later("execute_input", code="x", execution_count=1)
    for _ in range(10):
        say_later("stream", name="stdout", text="a")
    assert read(run).executions == ()
    ((seconds, call),) = timers
    assert seconds < 0.1
    call()
    assert text_of(run) == "a" * 10
    say_later("stream", name="stdout", text="b")
    assert len(timers) == 2
    say_later("status", execution_state="idle")
    assert text_of(run) == "a" * 10 + "b"
    say_later("stream", name="stdout", text="c" * recorder.BATCH_BYTES)
    assert text_of(run).endswith("ccc")
    for _ in range(recorder.BATCH_PARTS // 3 + 1):
        say_later("stream", name="stdout", text="d")
    assert text_of(run).endswith("ddd")


def test_a_fork_writes_nothing(run: Path) -> None:
    """What waits in the kernel's memory is the kernel's to write, not its children's."""
    to = start(run)
    say(to, "stream", call_later=lambda *_: None, name="stdout", text="once")
    to.pid += 1
    to.flush()
    say(to, "stream", name="stdout", text="twice")
    assert text_of(run) == ""
    to.pid -= 1
    to.flush()
    assert text_of(run) == "once"


@pytest.mark.parametrize("gone", ["out.0", "out.1", "both"])
def test_a_process_that_ends_between_two_files_loses_none_of_the_other(
    run: Path, gone: str
) -> None:
    """The next one goes on with what is there, and counts on."""
    to = start(run, MIB)
    for number in range(700):
        say(to, "stream", name="stdout", text=f"{number} {'x' * 1000}\n")
    path = run / "k" / "a"
    for name in ("out.0", "out.1") if gone == "both" else (gone,):
        (path / name).unlink()
    left = text_of(run)
    to = start(run, MIB)
    say(to, "stream", name="stdout", text="after\n")
    assert text_of(run) == f"{left}after\n"
    for _ in range(2000):
        say(to, "stream", name="stdout", text="x" * 1000)
    assert size(run) <= MIB
    assert read(run).lost_bytes > MIB
    assert sorted(entry.name for entry in path.iterdir()) == ["out.0", "out.1"]


@pytest.mark.parametrize("limit", [0, 1000])
def test_off_writes_nothing(run: Path, limit: int) -> None:
    """With recording off there is no file."""
    say(start(run, limit), "stream", name="stdout", text="x")
    assert size(run) == 0


def test_a_full_disk_ends_it_silently(run: Path) -> None:
    """An error of the disk never reaches the kernel."""
    to = start(run)
    os.close(to.file)
    to.file = os.open("/dev/full", os.O_WRONLY)
    for _ in range(2):
        say(to, "stream", name="stdout", text="x")
    assert to.file is None
    (run / "k" / "a" / "out.0").unlink()
    (run / "k" / "a" / "out.0").mkdir()
    say(start(run), "stream", name="stdout", text="x")


def test_a_message_of_several_lines_is_one_line(run: Path) -> None:
    """A kernel of another kind may write its JSON over lines; a recorded line is one."""
    to = start(run)
    content = json.dumps({"name": "stdout", "text": "a\nb"}, indent=1).encode()
    header = json.dumps({"msg_id": "1", "msg_type": "stream"}, indent=1).encode()
    parent = json.dumps({"msg_type": "execute_request", "msg_id": "m"}, indent=1).encode()
    to.message([b"<IDS|MSG>", b"", header, parent, b"{}", content])
    (execution,) = read(run).executions
    assert (execution.msg_id, execution.outputs[0]["text"]) == ("m", "a\nb")
