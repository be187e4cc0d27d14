"""The history: events, and sessions whose containers are gone.

It is informational: no decision depends on it, and no operation fails because of it. If the disk
is full, or the file is corrupt or locked, history is lost, but `ps` and `stop` still work.

The events of a removed session are kept for ``KEPT_S``, and those of all sessions up to
``MAX_EVENTS``. Now and then, who writes deletes the others.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mooring.host.untrusted import parse_json

log = logging.getLogger(__name__)

MAX_DETAIL = 2000
#: How long the events of a removed session are kept.
KEPT_S = 90 * 24 * 3600.0
#: How many events of all sessions are kept.
MAX_EVENTS = 100_000
# Who adds each such event prunes, and deletes that many rows at most, so that nobody waits for it
_PRUNED_EACH, _PRUNED_AT_ONCE = 100, 2000
_PATIENCE = 5.0  # seconds that a reader or writer waits for others
_CORRUPT, _NOT_A_DB = 11, 26  # https://sqlite.org/rescode.html
# By the first words of the detail of an event ``ended``, which is ``Session.reason``
_STOP_REASONS = {
    "idle timeout": "idle",
    "maximum duration": "max_duration",
    "out of memory": "out_of_memory",
    "ended by itself": "exited",
    "exit code": "exited",
    "stopped": "stopped",
    "on request": "stopped",
    "by ": "stopped",
}

_MIGRATIONS = (
    """
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL, image TEXT NOT NULL,
        created_at REAL NOT NULL, ended_at REAL, reason TEXT, exit_code INTEGER, spec TEXT NOT NULL
    );
    CREATE TABLE events (
        number INTEGER PRIMARY KEY, session TEXT NOT NULL, time REAL NOT NULL,
        kind TEXT NOT NULL, actor TEXT NOT NULL, detail TEXT NOT NULL
    );
    CREATE INDEX events_of_session ON events (session, number);
    CREATE INDEX sessions_by_name ON sessions (name, created_at);
    """,
)

# A session that was removed never returns; of one that was not, what is asked for later is kept
_PRUNING = (
    """
    DELETE FROM events WHERE number IN (
        SELECT number FROM events WHERE time < :before AND session IN (
            SELECT session FROM events WHERE kind = 'removed' AND time < :before
        ) AND number < (SELECT max(number) FROM events)
        ORDER BY kind = 'removed', number LIMIT :rows
    )
    """,
    """
    DELETE FROM events WHERE number IN (
        SELECT number FROM events WHERE number <= (SELECT max(number) FROM events) - :events
        AND NOT (
            kind IN ('started', 'held')
            AND session IN (SELECT id FROM sessions WHERE ended_at IS NULL)
        ) ORDER BY number LIMIT :rows
    )
    """,
    """
    DELETE FROM sessions WHERE ended_at < :yesterday
    AND NOT EXISTS (SELECT 1 FROM events WHERE events.session = sessions.id)
    """,
)


@dataclass(frozen=True)
class Event:
    """One event in a session's history.

    Attributes:
        number: its sequence number among the events of all sessions.
        session: the session's id.
        time: seconds since the epoch.
        kind: what happened, in one word, such as `started`.
        actor: the user or component that caused it.
        detail: further text; may be empty.
    """

    number: int
    session: str
    time: float
    kind: str
    actor: str
    detail: str


@dataclass(frozen=True)
class PastSession:
    """A session in the history, whether or not its container still exists.

    Attributes:
        created_at: seconds since the epoch.
        ended_at: seconds since the epoch; None while it runs.
        reason: why it ended.
        exit_code: of its command; None if unknown.
        spec: as `SessionSpec.public_dict` wrote it.
    """

    id: str
    name: str
    owner: str
    image: str
    created_at: float
    ended_at: float | None
    reason: str
    exit_code: int | None
    spec: dict[str, Any]


class History:
    """The history in an SQLite file, which is created when first used.

    Args:
        path: the file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def session_created(
        self,
        session: str,
        *,
        name: str,
        owner: str,
        image: str,
        spec: dict[str, Any],
        at: float = 0.0,
    ) -> None:
        """Record a session.

        Args:
            session: its id.
            name: its name.
            owner: the user who created it.
            image: its image.
            spec: as `SessionSpec.public_dict` wrote it.
            at: when its creation began, in seconds since the epoch; 0 for now.
        """
        self._write(
            "INSERT OR REPLACE INTO sessions (id, name, owner, image, created_at, spec)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (session, name, owner, image, at or time.time(), json.dumps(spec)),
        )

    def session_ended(self, session: str, *, at: float, reason: str, exit_code: int | None) -> None:
        """Record the end of a session.

        Args:
            session: its id.
            at: seconds since the epoch.
            reason: why it ended.
            exit_code: of its command; None if unknown.
        """
        self._write(
            "UPDATE sessions SET ended_at = ?, reason = ?, exit_code = ? WHERE id = ?",
            (at, reason, exit_code, session),
        )

    def session_resumed(self, session: str) -> None:
        """Record that a session that had ended runs again."""
        self._write(
            "UPDATE sessions SET ended_at = NULL, reason = NULL, exit_code = NULL WHERE id = ?",
            (session,),
        )

    def add(self, session: str, kind: str, actor: str, detail: str = "", at: float = 0.0) -> None:
        """Record an event.

        Args:
            session: the session's id.
            kind: what happened, in one word.
            actor: the user or component that caused it.
            detail: further text; its first 2,000 characters are kept.
            at: seconds since the epoch; 0 for now.
        """
        detail = detail[:MAX_DETAIL]
        number = self._write(
            "INSERT INTO events (session, time, kind, actor, detail) VALUES (?, ?, ?, ?, ?)",
            (session, at or time.time(), kind, actor, detail),
        )
        if number and number % _PRUNED_EACH == 0:
            self._prune()

    def events(self, session: str, after: int = 0) -> list[Event]:
        """Return a session's events with numbers above `after`, in order."""
        rows = self._read(
            "SELECT number, session, time, kind, actor, detail FROM events"
            " WHERE session = ? AND number > ? ORDER BY number",
            (session, after),
        )
        return [Event(*row) for row in rows]

    def newest(self) -> int:
        """Return the number of the newest event of all sessions; 0 if there is none."""
        rows = self._read("SELECT coalesce(max(number), 0) FROM events", ())
        return int(rows[0][0]) if rows else 0

    def after(self, number: int, limit: int = 1000) -> list[Event]:
        """Return at most `limit` events of all sessions with numbers above `number`, in order."""
        rows = self._read(
            "SELECT number, session, time, kind, actor, detail FROM events"
            " WHERE number > ? ORDER BY number LIMIT ?",
            (number, limit),
        )
        return [Event(*row) for row in rows]

    def find(self, name_or_id: str) -> PastSession | None:
        """Return the newest session with this name, or whose id begins with it; None if none has.

        Args:
            name_or_id: a name, or at least four characters of an id.
        """
        rows = self._read(
            "SELECT id, name, owner, image, created_at, ended_at, reason, exit_code, spec"
            " FROM sessions WHERE name = ? OR (length(?) >= 4 AND substr(id, 1, length(?)) = ?)"
            " ORDER BY created_at DESC LIMIT 1",
            (name_or_id, name_or_id, name_or_id, name_or_id),
        )
        return _past(rows[0]) if rows else None

    def ended(self, limit: int = 1000) -> list[PastSession]:
        """Return at most `limit` sessions that have ended, newest first."""
        rows = self._read(
            "SELECT id, name, owner, image, created_at, ended_at, reason, exit_code, spec"
            " FROM sessions WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT ?",
            (limit,),
        )
        return [_past(row) for row in rows]

    def stop_reason(self, event: Event) -> str:
        """Return why a session stopped with an event, in one word, for statistics.

        Returns:
            ``stopped``, ``idle``, ``max_duration``, ``out_of_memory``, ``exited``, ``removed`` or
            ``lost``; empty if the event is not the end of a session that ran, such as the removal
            of a stopped one.
        """
        if event.kind == "stopped":
            return "stopped"
        if event.kind == "ended":
            return stop_word(event.detail)
        if event.kind != "removed":
            return ""
        changes = [
            other.kind
            for other in self.events(event.session)
            if other.number < event.number and other.kind in ("started", "stopped", "ended")
        ]
        return "removed" if changes and changes[-1] == "started" else ""

    @contextlib.contextmanager
    def _open(self, patience_s: float = _PATIENCE) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=patience_s)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version < len(_MIGRATIONS):
                self._migrate(db)
            with db:
                yield db
        finally:
            db.close()

    @staticmethod
    def _migrate(db: sqlite3.Connection) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # Without waiting, where another process migrates
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        db.isolation_level = None
        db.execute("BEGIN IMMEDIATE")  # one process migrates while others wait
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
            for statement in filter(str.strip, script.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
        db.isolation_level = "DEFERRED"

    def _prune(self) -> None:
        """Delete what is too old or too much, unless another process is writing."""
        now = time.time()
        limits = {"before": now - KEPT_S, "yesterday": now - 24 * 3600.0}
        limits |= {"events": MAX_EVENTS, "rows": _PRUNED_AT_ONCE}
        try:
            with self._open(patience_s=0.0) as db:
                for sql in _PRUNING:
                    db.execute(sql, limits)
        except (sqlite3.Error, OSError) as error:
            log.debug("history not pruned: %s", error)

    def _write(self, sql: str, values: tuple[Any, ...]) -> int | None:
        """Return the number of the row that was added, if one was; None if nothing was written."""
        for attempt in (1, 2):
            try:
                with self._open() as db:
                    return db.execute(sql, _storable(values)).lastrowid
            except sqlite3.DatabaseError as error:
                if attempt == 1 and self._set_aside(error):
                    continue
                log.warning("history not written: %s", error)
                return None
            except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
                log.warning("history not written: %s", error)
                return None
        return None

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            with self._open() as db:
                return db.execute(sql, _storable(values)).fetchall()
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
            log.warning("history not read: %s", error)
            return []

    def _set_aside(self, error: sqlite3.DatabaseError) -> bool:
        """Rename a corrupt database file; return whether a new one can be created."""
        code = getattr(error, "sqlite_errorcode", None)  # Python 3.11
        text = str(error)
        if code in (_CORRUPT, _NOT_A_DB) or "malformed" in text or "not a database" in text:
            aside = self.path.with_name(f"{self.path.name}.corrupt-{int(time.time())}")
            try:
                self.path.replace(aside)
                for suffix in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            except OSError:
                return False
            log.warning("history was unreadable and starts again; the old file is %s", aside)
            return True
        return False


def stop_word(reason: str) -> str:
    """Return in one word why a session ended, as ``History.stop_reason``.

    Args:
        reason: ``Session.reason``, or a text that begins with it.
    """
    return next((word for start, word in _STOP_REASONS.items() if reason.startswith(start)), "lost")


def _storable(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values with surrogates replaced by question marks: SQLite's text is UTF-8."""
    return tuple(
        value.encode(errors="replace").decode() if isinstance(value, str) else value
        for value in values
    )


def _past(row: Any) -> PastSession:
    session, name, owner, image, created_at, ended_at, reason, exit_code, text = row
    try:
        spec = parse_json(text)
    except ValueError:
        spec = {}
    return PastSession(
        session, name, owner, image, created_at, ended_at, reason or "", exit_code, spec
    )
