"""``run.db``: segments, ledger, events, regions, models, labels and timings of a run. What is not in it did not happen.

One SQLite file, written only through ``RunDatabase.commit``: one transaction for each commit of the engine.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RunDirectoryError
from .books import Account, Entry
from .rows import Event, LabelRow, ModelRow, Place, RegionRow, SegmentRow

SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE segments (id INTEGER PRIMARY KEY, first_step INTEGER NOT NULL, last_step INTEGER NOT NULL,
    frames INTEGER NOT NULL, model TEXT NOT NULL, blend TEXT NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL,
    void INTEGER NOT NULL DEFAULT 0);
CREATE TABLE ledger (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, time_ps REAL NOT NULL, account TEXT NOT NULL,
    before_kj_per_mol REAL NOT NULL, after_kj_per_mol REAL NOT NULL, cause TEXT NOT NULL,
    void INTEGER NOT NULL DEFAULT 0);
CREATE TABLE events (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, time_ps REAL NOT NULL, kind TEXT NOT NULL,
    message TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE regions (epoch INTEGER PRIMARY KEY, step INTEGER NOT NULL, core TEXT NOT NULL, atoms TEXT NOT NULL);
CREATE TABLE models (number INTEGER PRIMARY KEY, id TEXT NOT NULL, step INTEGER NOT NULL, parent TEXT NOT NULL,
    data TEXT NOT NULL, void INTEGER NOT NULL DEFAULT 0);
CREATE TABLE labels (key TEXT NOT NULL, step INTEGER NOT NULL, model TEXT NOT NULL, region_epoch INTEGER NOT NULL,
    data TEXT NOT NULL, PRIMARY KEY (key, step));
CREATE TABLE timings (part TEXT PRIMARY KEY, seconds REAL NOT NULL, calls INTEGER NOT NULL);
CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, folder TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Everything that becomes true at once.

    ``rewind_to`` voids all entries, segments and models after that place, the discarded ones of this commit included,
    before anything else of the commit is added.
    """

    discarded_segment: SegmentRow | None = None
    discarded_entries: Sequence[Entry] = ()
    rewind_to: Place | None = None
    segment: SegmentRow | None = None
    entries: Sequence[Entry] = ()
    events: Sequence[Event] = ()
    regions: Sequence[RegionRow] = ()
    models: Sequence[ModelRow] = ()
    labels: Sequence[LabelRow] = ()
    timings: dict[str, tuple[float, int]] = field(default_factory=dict)
    checkpoint: tuple[int, int, str] | None = None
    meta: dict[str, Any] = field(default_factory=dict)


class RunDatabase:
    """The only mutable truth of a run."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create == path.exists():
            raise RunDirectoryError(
                f"{path} {'exists already' if create else 'does not exist'}",
                cure="`qmml resume RUN` continues a run" if create else "give the folder that `qmml run` made",
            )
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        if create:
            self._connection.executescript("BEGIN;" + SCHEMA + "COMMIT;")
            self.commit(Commit(meta={"schema_version": SCHEMA_VERSION}))
        elif self.meta("schema_version") != SCHEMA_VERSION:
            raise RunDirectoryError(
                f"{path} has schema version {self.meta('schema_version')}, this program reads {SCHEMA_VERSION}",
                cure="read the run with the version of qmml-md that wrote it",
            )

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def commit(self, commit: Commit) -> None:
        """Make everything in ``commit`` true in one transaction."""
        with self._transaction() as db:
            _insert_segment(db, commit.discarded_segment)
            _insert_entries(db, commit.discarded_entries)
            if commit.rewind_to is not None:
                _void(db, commit.rewind_to)
            _insert_segment(db, commit.segment)
            _insert_entries(db, commit.entries)
            db.executemany(
                "INSERT INTO events(step, time_ps, kind, message, data) VALUES (?,?,?,?,?)",
                [(e.step, e.time, e.kind, e.message, json.dumps(e.data)) for e in commit.events],
            )
            regions = [(r.epoch, r.step, json.dumps(r.core), json.dumps(r.atoms)) for r in commit.regions]
            db.executemany("INSERT INTO regions VALUES (?,?,?,?)", regions)
            models = [(m.id, m.step, m.parent, json.dumps(m.data)) for m in commit.models]
            db.executemany("INSERT INTO models(id, step, parent, data) VALUES (?,?,?,?)", models)
            labels = [(x.key, x.step, x.model, x.region_epoch, json.dumps(x.data)) for x in commit.labels]
            db.executemany("INSERT INTO labels VALUES (?,?,?,?,?)", labels)
            timings = [(part, seconds, calls) for part, (seconds, calls) in commit.timings.items()]
            db.executemany("INSERT OR REPLACE INTO timings VALUES (?,?,?)", timings)
            if commit.checkpoint is not None:
                db.execute("INSERT INTO checkpoints VALUES (?,?,?)", commit.checkpoint)
            meta = [(key, json.dumps(value)) for key, value in commit.meta.items()]
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", meta)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def meta(self, key: str) -> Any:
        """A value of the run as a whole; None if it was never set."""
        row = self._connection.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def segments(self, *, void: bool = False) -> list[SegmentRow]:
        """All segments in the order of time; of the stretches that were discarded if ``void``."""
        names = ("id", "first_step", "last_step", "frames", "model", "blend", "file", "sha256")
        query = f"SELECT {', '.join(names)} FROM segments WHERE void=? ORDER BY id"  # noqa: S608 - names from above
        return [SegmentRow(**dict(zip(names, row, strict=True))) for row in self._connection.execute(query, (void,))]

    def entries(self, *, void: bool = False) -> list[Entry]:
        """The ledger in the order of posting; the entries of discarded stretches if ``void``."""
        query = (
            "SELECT step, time_ps, account, before_kj_per_mol, after_kj_per_mol, cause FROM ledger WHERE void=? "
            "ORDER BY id"
        )
        rows = self._connection.execute(query, (void,))
        return [Entry(step=r[0], time=r[1], account=Account(r[2]), before=r[3], after=r[4], cause=r[5]) for r in rows]

    def events(self) -> list[Event]:
        """All events in the order in which they happened."""
        rows = self._connection.execute("SELECT step, time_ps, kind, message, data FROM events ORDER BY id")
        return [Event(step=r[0], time=r[1], kind=r[2], message=r[3], data=json.loads(r[4])) for r in rows]

    def regions(self) -> list[RegionRow]:
        """All regions by epoch."""
        rows = self._connection.execute("SELECT epoch, step, core, atoms FROM regions ORDER BY epoch")
        return [
            RegionRow(epoch=r[0], step=r[1], core=tuple(json.loads(r[2])), atoms=tuple(json.loads(r[3]))) for r in rows
        ]

    def models(self, *, void: bool = False) -> list[ModelRow]:
        """Every model that the atoms ever moved on, in order; those of discarded stretches if ``void``."""
        rows = self._connection.execute(
            "SELECT id, step, parent, data FROM models WHERE void=? ORDER BY number", (void,)
        )
        return [ModelRow(id=r[0], step=r[1], parent=r[2], data=json.loads(r[3])) for r in rows]

    def labels(self) -> list[LabelRow]:
        """Every label with its prequential score, in order."""
        rows = self._connection.execute("SELECT key, step, model, region_epoch, data FROM labels ORDER BY rowid")
        return [LabelRow(key=r[0], step=r[1], model=r[2], region_epoch=r[3], data=json.loads(r[4])) for r in rows]

    def timings(self) -> dict[str, tuple[float, int]]:
        """Wall time (s) and number of calls of each part of the run, summed over restarts."""
        rows = self._connection.execute("SELECT part, seconds, calls FROM timings ORDER BY part")
        return {r[0]: (r[1], r[2]) for r in rows}

    def last_checkpoint(self) -> tuple[int, int, str] | None:
        """Number, step and folder of the newest checkpoint."""
        row = self._connection.execute("SELECT id, step, folder FROM checkpoints ORDER BY id DESC LIMIT 1").fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def next_segment(self) -> int:
        """Number of the segment that comes next; numbers of discarded ones are not used again."""
        return int(self._connection.execute("SELECT COALESCE(MAX(id), -1) + 1 FROM segments").fetchone()[0])

    def place(self) -> Place:
        """How much is true now."""
        counts = {
            table: self._connection.execute(f"SELECT COUNT(*) FROM {table} WHERE void=0").fetchone()[0]  # noqa: S608
            for table in VOIDABLE
        }
        return Place(entries=counts["ledger"], segments=counts["segments"], models=counts["models"])


#: Tables whose rows can be voided, with the column that orders them.
VOIDABLE = {"ledger": "id", "segments": "id", "models": "number"}


def _void(db: sqlite3.Connection, place: Place) -> None:
    """Mark everything after a place as void."""
    for (table, order), kept in zip(VOIDABLE.items(), (place.entries, place.segments, place.models), strict=True):
        db.execute(
            f"UPDATE {table} SET void=1 WHERE void=0 AND {order} NOT IN "  # noqa: S608 - names from above
            f"(SELECT {order} FROM {table} WHERE void=0 ORDER BY {order} LIMIT ?)",
            (kept,),
        )


def _insert_segment(db: sqlite3.Connection, s: SegmentRow | None) -> None:
    if s is not None:
        row = (s.id, s.first_step, s.last_step, s.frames, s.model, s.blend, s.file, s.sha256)
        db.execute("INSERT INTO segments VALUES (?,?,?,?,?,?,?,?,0)", row)


def _insert_entries(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    db.executemany(
        "INSERT INTO ledger(step, time_ps, account, before_kj_per_mol, after_kj_per_mol, cause) VALUES (?,?,?,?,?,?)",
        [(e.step, e.time, str(e.account), e.before, e.after, e.cause) for e in entries],
    )
