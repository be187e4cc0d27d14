"""History is for people: it is kept well, and its loss costs nothing else."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.sessions import history as module
from mooring.sessions.history import History


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def history(path: Path) -> History:
    return History(path)


def created(history: History, session: str = "0123456789ab", name: str = "train") -> None:
    history.session_created(session, name=name, owner="ann", image="host", spec={"name": name})


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"PRAGMA {name}").fetchone()[0]


def test_events_come_back_in_order(history: History) -> None:
    """Events are told in the order in which they were added, and after a number only the rest."""
    for kind in ("started", "held", "stopped"):
        history.add("0123456789ab", kind, "ann", f"detail of {kind}")
    history.add("another", "started", "bob")
    events = history.events("0123456789ab")
    assert [event.kind for event in events] == ["started", "held", "stopped"]
    assert (events[0].actor, events[0].detail) == ("ann", "detail of started")
    assert [e.kind for e in history.events("0123456789ab", after=events[1].number)] == ["stopped"]


def test_a_session_is_remembered(history: History) -> None:
    """What became of a session is found by its name and by four characters of its id, no fewer."""
    created(history)
    history.session_ended("0123456789ab", at=5.0, reason="idle timeout", exit_code=143)
    for key in ("train", "0123", "0123456789ab"):
        past = history.find(key)
        assert past is not None
        assert (past.id, past.reason, past.exit_code) == ("0123456789ab", "idle timeout", 143)
        assert (past.ended_at, past.spec) == (5.0, {"name": "train"})
    assert history.find("012") is None
    assert history.find("0123%") is None
    assert history.find("nobody") is None


def test_the_newest_of_a_name_counts(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several sessions that had one name, the last one is meant."""
    for number, session in enumerate(("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc")):
        monkeypatch.setattr(module.time, "time", lambda number=number: float(number))
        created(history, session)
    found = history.find("train")
    assert found is not None
    assert found.id == "cccccccccccc"


def test_only_the_ended_are_listed_as_ended(history: History) -> None:
    """A session that was started again has not ended; the last to end comes first."""
    for number, session in enumerate(("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc")):
        created(history, session)
        history.session_ended(session, at=float(number), reason="", exit_code=0)
    history.session_resumed("bbbbbbbbbbbb")
    assert [past.id for past in history.ended()] == ["cccccccccccc", "aaaaaaaaaaaa"]
    assert [past.id for past in history.ended(limit=1)] == ["cccccccccccc"]


@pytest.mark.parametrize(
    ("kind", "detail", "expected"),
    [
        ("stopped", "", "stopped"),
        ("ended", "idle timeout: no activity for 30m", "idle"),
        ("ended", "maximum duration", "max_duration"),
        ("ended", "out of memory (limit 1 GiB)", "out_of_memory"),
        ("ended", "exit code 2", "exited"),
        ("ended", "ended by itself", "exited"),
        ("ended", "by ada", "stopped"),
        ("ended", "its container was removed outside mooring", "lost"),
        ("removed", "", "removed"),
        ("kernel", "python3 0123 ended: exit code 1", ""),
    ],
)
def test_a_stop_has_one_of_few_reasons(
    history: History, kind: str, detail: str, expected: str
) -> None:
    """No name, id or free text is one: statistics have a bounded number of labels."""
    history.add("s", "started", "ann")
    history.add("s", kind, "ann", detail)
    assert history.stop_reason(history.events("s")[-1]) == expected


def test_the_removal_of_a_stopped_session_is_no_stop(history: History) -> None:
    """It was counted when it stopped; one that never ran did not stop either."""
    for number, before in enumerate((("started", "stopped"), ("started", "ended"), ("requested",))):
        for kind in (*before, "removed"):
            history.add(str(number), kind, "ann")
        assert history.stop_reason(history.events(str(number))[-1]) == "", before


def test_the_file_is_in_wal_mode_and_knows_its_version(history: History, path: Path) -> None:
    """Readers and writers do not wait for each other, and the schema's version is in the file."""
    history.add("a", "started", "ann")
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "user_version") == len(module._MIGRATIONS)


def test_migrations_keep_what_there_is(
    history: History, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of an older version is brought up to date, once, with everything in it."""
    created(history)
    added = "ALTER TABLE sessions ADD COLUMN note TEXT; CREATE TABLE notes (text TEXT)"
    monkeypatch.setattr(module, "_MIGRATIONS", (*module._MIGRATIONS, added))
    for _ in range(2):
        history.add("0123456789ab", "started", "ann")
    assert pragma(path, "user_version") == 2
    assert history.find("train") is not None
    assert len(history.events("0123456789ab")) == 2


def test_a_migration_that_fails_changes_nothing(
    history: History, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration is all or nothing, and the file goes on to serve the version it has."""
    created(history)
    broken = "CREATE TABLE notes (text TEXT); CREATE TABLE sessions (id TEXT)"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_MIGRATIONS", (*module._MIGRATIONS, broken))
        history.add("0123456789ab", "started", "ann")
    assert pragma(path, "user_version") == 1
    assert history.find("train") is not None
    history.add("0123456789ab", "stopped", "ann")
    assert [event.kind for event in history.events("0123456789ab")] == ["stopped"]


def test_a_newer_file_is_used_as_it_is(history: History, path: Path) -> None:
    """The file of a newer mooring is neither migrated back nor refused."""
    history.add("a", "started", "ann")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    history.add("a", "stopped", "ann")
    assert len(history.events("a")) == 2
    assert pragma(path, "user_version") == 99


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 8192, b"x" * 600]
)
def test_a_corrupt_file_is_set_aside(
    history: History, path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is no database is kept under another name, and history begins anew."""
    path.write_bytes(content)
    assert history.events("a") == []
    history.add("a", "started", "ann")
    assert [event.kind for event in history.events("a")] == ["started"]
    (aside,) = path.parent.glob("history.db.corrupt-*")
    assert aside.read_bytes() == content
    assert "starts again" in caplog.text


def test_a_page_in_the_middle_is_corrupt(history: History, path: Path) -> None:
    """Damage that shows only later on loses the history, and nothing raises."""
    for number in range(30):
        history.add("a", "started", "ann", f"{number}" * 1000)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    history.events("a")
    history.add("a", "stopped", "ann")
    history.add("a", "removed", "ann")
    assert "removed" in {event.kind for event in history.events("a")}


def test_a_file_that_cannot_be_opened_only_logs(
    history: History, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no file can be, every call returns: nothing is remembered, and the log says so."""
    path.mkdir()
    created(history)
    history.add("a", "started", "ann")
    history.session_ended("a", at=1.0, reason="", exit_code=0)
    history.session_resumed("a")
    assert history.events("a") == []
    assert history.find("train") is None
    assert history.ended() == []
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 7
    assert all(message.startswith("history not ") for message in messages)


FULL = """
import resource, sys
from pathlib import Path
from mooring.sessions.history import History
history = History(Path(sys.argv[1]))
if sys.argv[2] == "grown":
    history.add("a", "started", "ann")
resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))  # no file can grow any more
history.add("a", "stopped", "ann")
history.events("a")
"""


@pytest.mark.parametrize(("age", "seen"), [("new", []), ("grown", ["started"])])
def test_a_full_disk_only_logs(path: Path, history: History, age: str, seen: list[str]) -> None:
    """When nothing more can be written nothing raises, and what was written is there later."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), age],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "history not written" in done.stderr
    history.add("a", "removed", "ann")
    assert [event.kind for event in history.events("a")] == [*seen, "removed"]


def test_a_locked_file_only_logs(
    history: History,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A writer that never lets go costs an event, not the command, and reading goes on."""
    history.add("a", "started", "ann")
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: real(path, timeout=0.01))
    with closing(real(path)) as holding:
        holding.execute("BEGIN IMMEDIATE")
        history.add("a", "stopped", "ann")
        assert [event.kind for event in history.events("a")] == ["started"]
    assert "history not written: database is locked" in caplog.text


WRITER = """
import logging, sys
from pathlib import Path
from mooring.sessions.history import History
logging.basicConfig(level=logging.WARNING)
history = History(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    history.add(sys.argv[2], "event", "ann", str(number))
"""


def test_many_processes_write_at_once(path: Path, history: History) -> None:
    """Processes that begin together, on no file yet, lose and mix up nothing."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), f"session-{number}", "40"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(4)
    ]
    try:
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write(b"go\n")
            writer.stdin.flush()
        said = [writer.communicate(timeout=60)[1].decode() for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert said == [""] * 4
    for number in range(4):
        events = history.events(f"session-{number}")
        assert [event.detail for event in events] == [str(n) for n in range(40)]
    assert pragma(path, "integrity_check") == "ok"


DAY_S = 24 * 3600.0


@pytest.fixture
def prunes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event prunes."""
    monkeypatch.setattr(module, "_PRUNED_EACH", 1)


@pytest.mark.usefixtures("prunes")
def test_a_removed_session_is_forgotten_after_ninety_days(history: History) -> None:
    """With all of its events; one that was not removed is not, however old it is."""
    now = time.time()
    for name, days in (("old", 91), ("recent", 89), ("stopped", 400), ("running", 400)):
        at = now - days * DAY_S
        history.session_created(name, name=name, owner="ann", image="host", spec={}, at=at - 2)
        history.add(name, "started", "ann", at=at - 1)
        if name != "running":
            history.session_ended(name, at=at, reason="idle timeout", exit_code=0)
            history.add(name, "ended", "clock", at=at)
        if name in ("old", "recent"):
            history.add(name, "removed", "ann", at=at)
    history.add("new", "started", "ann")
    assert history.events("old") == []
    assert history.find("old") is None
    for name, events in (("recent", 3), ("stopped", 2), ("running", 1)):
        assert len(history.events(name)) == events
        assert history.find(name) is not None


@pytest.mark.usefixtures("prunes")
def test_the_number_of_events_is_bounded(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go, but what is asked for of a session that runs stays; numbers only grow."""
    monkeypatch.setattr(module, "MAX_EVENTS", 20)
    created(history, "0123456789ab", "runs")
    for kind in ("started", "held", "problem"):
        history.add("0123456789ab", kind, "ann")
    created(history, "ba9876543210", "ended")
    history.session_ended("ba9876543210", at=time.time() - 2 * DAY_S, reason="stopped", exit_code=0)
    history.add("ba9876543210", "ended", "ann")
    for number in range(100):
        history.add("other", "problem", "ann", str(number))
    assert [event.kind for event in history.events("0123456789ab")] == ["started", "held"]
    assert history.find("runs") is not None
    assert history.events("ba9876543210") == []
    assert history.find("ended") is None
    assert [event.detail for event in history.events("other")] == [str(n) for n in range(80, 100)]
    assert history.newest() == 104


@pytest.mark.usefixtures("prunes")
def test_a_long_history_is_pruned_step_by_step(
    history: History, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No single writer deletes all that an earlier version has left."""
    history.add("a", "started", "ann")
    with closing(sqlite3.connect(path)) as db, db:
        rows = [("a", 1.0, "problem", "ann", "")] * 5000
        db.executemany(
            "INSERT INTO events (session, time, kind, actor, detail) VALUES (?, ?, ?, ?, ?)", rows
        )
    monkeypatch.setattr(module, "MAX_EVENTS", 10)
    left = []
    for _ in range(4):
        history.add("a", "problem", "ann")
        left.append(len(history.events("a")))
    assert left == [3002, 1003, 10, 10]


def test_pruning_waits_for_nobody(
    history: History, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While another process writes, it is left to a later event, without a word."""
    monkeypatch.setattr(module, "MAX_EVENTS", 1)
    for _ in range(3):
        history.add("a", "problem", "ann")
    with closing(sqlite3.connect(path)) as holding:
        holding.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        history._prune()
        assert time.monotonic() - begun < 1.0
    assert len(history.events("a")) == 3
    path.write_bytes(b"no database" * 100)
    history._prune()
    assert caplog.text == ""


def test_few_events_prune(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in a hundred."""
    pruned: list[int] = []
    monkeypatch.setattr(History, "_prune", lambda self: pruned.append(1))
    for _ in range(200):
        history.add("a", "problem", "ann")
    assert len(pruned) == 2


def test_a_new_file_that_another_process_prepares_is_waited_for(
    history: History, path: Path
) -> None:
    """The change to a write-ahead log fails at once while another process makes it."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        lets_go = threading.Timer(0.5, lambda: other.execute("COMMIT"))
        lets_go.start()
        history.add("a", "started", "ann")
        lets_go.join()
    assert [event.kind for event in history.events("a")] == ["started"]


def test_no_descriptor_is_kept(history: History) -> None:
    """The file is open only while it is used, so that nobody's fork or umount is in its way."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        history.add("a", "started", "ann")
        history.events("a")
    assert len(os.listdir("/proc/self/fd")) <= before  # others may be collected


def test_text_that_is_no_utf8_is_kept_as_far_as_it_goes(history: History) -> None:
    """Half a character costs itself, not the history; neither does any number fail."""
    history.add("0123456789ab", "kernel", "engine", "a\ud800b\udcff")
    history.add("0123456789ab", "kernel", "engine", "x" * 100_000)
    created(history)
    history.session_ended("0123456789ab", at=5.0, reason="\udcff", exit_code=1 << 70)
    first, second = history.events("0123456789ab")
    assert first.detail == "a?b?"
    assert len(second.detail) == module.MAX_DETAIL
    assert history.find("\udcff") is None


def test_history_is_no_condition(service: Mooring, state: Path, declare) -> None:
    """With a history that cannot be written, everything else goes on."""
    (state / "history.db").mkdir()
    assert isinstance(service.history, History)
    session = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    service.sessions.stop(session)
    service.sessions.remove(service.sessions.get("train"), force=True)
    assert service.sessions.list() == []
