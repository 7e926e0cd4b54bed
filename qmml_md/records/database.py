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
from . import digest, schema
from .books import Account, Entry
from .limits import check_tables, inside, object_of, sound
from .rows import CheckpointRow, Event, LabelRow, ModelRow, Place, RegionRow, SegmentRow

#: Pages of the file that a connection keeps: it appends, and would otherwise hold on to 2 MB of what it wrote.
CACHE_KIB = 256


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
    checkpoint: CheckpointRow | None = None
    meta: dict[str, Any] = field(default_factory=dict)


class RunDatabase:
    """The only mutable truth of a run."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create == path.exists():
            raise RunDirectoryError(
                f"{path} {'exists already' if create else 'does not exist'}",
                cure="`qmml resume RUN` continues a run" if create else "give the folder that `qmml run` made",
            )
        self._root = path.parent
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
            try:
                self._prepare(path, create=create)
            except BaseException:
                # Whoever is told may remove the file; no connection should outlive it.
                self._connection.close()
                raise
        except sqlite3.DatabaseError as error:
            raise RunDirectoryError(
                f"{path} cannot be used as the database of a run: {error}",
                cure="make its folder writable, or restore run.db from a copy of the run directory",
            ) from error

    def _prepare(self, path: Path, *, create: bool) -> None:
        if create:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._settle()
            self._connection.executescript("BEGIN;" + schema.SCHEMA + "COMMIT;")
            self.commit(Commit(meta={"schema_version": schema.VERSION, "run_id": schema.new_run_id()}))
            return
        check_tables(self._connection, path)
        schema.migrate(self._connection, path)
        self._settle()

    def _settle(self) -> None:
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(f"PRAGMA cache_size={-CACHE_KIB}")

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
                c = commit.checkpoint
                db.execute("INSERT INTO checkpoints VALUES (?,?,?,?,?)", (c.id, c.step, c.folder, c.sha256, c.model))
            _set_meta(db, commit.meta)
            before = self.meta(digest.KEY)
            _set_meta(db, {digest.KEY: digest.extended(db, before, voided=commit.rewind_to is not None)})

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @sound("run.db, meta")
    def meta(self, key: str) -> Any:
        """A value of the run as a whole; None if it was never set."""
        row = self._connection.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    @sound("run.db, segments")
    def segments(self, *, void: bool = False) -> list[SegmentRow]:
        """All segments in the order of time; of the stretches that were discarded if ``void``."""
        names = ("id", "first_step", "last_step", "frames", "model", "blend", "file", "sha256")
        query = f"SELECT {', '.join(names)} FROM segments WHERE void=? ORDER BY id"  # noqa: S608 - names from above
        kinds = (int, int, int, int, str, str, str, str)
        rows = [
            SegmentRow(**{name: kind(x) for name, kind, x in zip(names, kinds, row, strict=True)})
            for row in self._connection.execute(query, (void,))
        ]
        for row in rows:
            inside(self._root, row.file, f"run.db, segment {row.id}")
        return rows

    @sound("run.db, ledger")
    def entries(self, *, void: bool = False) -> list[Entry]:
        """The ledger in the order of posting; the entries of discarded stretches if ``void``."""
        query = (
            "SELECT step, time_ps, account, before_kj_per_mol, after_kj_per_mol, cause FROM ledger WHERE void=? "
            "ORDER BY id"
        )
        rows = self._connection.execute(query, (void,))
        return [
            Entry(
                step=int(r[0]),
                time=float(r[1]),
                account=Account(r[2]),
                before=float(r[3]),
                after=float(r[4]),
                cause=str(r[5]),
            )
            for r in rows
        ]

    @sound("run.db, events")
    def events(self) -> list[Event]:
        """All events in the order in which they happened."""
        rows = self._connection.execute("SELECT step, time_ps, kind, message, data FROM events ORDER BY id")
        return [
            Event(step=int(r[0]), time=float(r[1]), kind=str(r[2]), message=str(r[3]), data=_object(r[4])) for r in rows
        ]

    @sound("run.db, regions")
    def regions(self) -> list[RegionRow]:
        """All regions by epoch."""
        rows = self._connection.execute("SELECT epoch, step, core, atoms FROM regions ORDER BY epoch")
        return [RegionRow(epoch=int(r[0]), step=int(r[1]), core=_indices(r[2]), atoms=_indices(r[3])) for r in rows]

    @sound("run.db, models")
    def models(self, *, void: bool = False) -> list[ModelRow]:
        """Every model that the atoms ever moved on, in order; those of discarded stretches if ``void``."""
        rows = self._connection.execute(
            "SELECT id, step, parent, data FROM models WHERE void=? ORDER BY number", (void,)
        )
        found = [ModelRow(id=str(r[0]), step=int(r[1]), parent=str(r[2]), data=_object(r[3])) for r in rows]
        for row in found:
            inside(self._root / "models", row.id, "run.db, models")
        return found

    @sound("run.db, labels")
    def labels(self) -> list[LabelRow]:
        """Every label with its prequential score, in order."""
        rows = self._connection.execute("SELECT key, step, model, region_epoch, data FROM labels ORDER BY rowid")
        return [
            LabelRow(key=str(r[0]), step=int(r[1]), model=str(r[2]), region_epoch=int(r[3]), data=_object(r[4]))
            for r in rows
        ]

    @sound("run.db, timings")
    def timings(self) -> dict[str, tuple[float, int]]:
        """Wall time (s) and number of calls of each part of the run, summed over restarts."""
        rows = self._connection.execute("SELECT part, seconds, calls FROM timings ORDER BY part")
        return {str(r[0]): (float(r[1]), int(r[2])) for r in rows}

    @sound("run.db, checkpoints")
    def checkpoints(self) -> list[CheckpointRow]:
        """Every checkpoint that was ever committed, in order; most are no longer kept."""
        rows = self._connection.execute("SELECT id, step, folder, sha256, model FROM checkpoints ORDER BY id")
        return [_checkpoint(row) for row in rows]

    @sound("run.db, checkpoints")
    def last_checkpoint(self) -> CheckpointRow | None:
        """The newest checkpoint."""
        query = "SELECT id, step, folder, sha256, model FROM checkpoints ORDER BY id DESC LIMIT 1"
        row = self._connection.execute(query).fetchone()
        return None if row is None else _checkpoint(row)

    def problems(self) -> list[str]:
        """What is not as the last commit left it, a line each; empty if everything is."""
        try:
            found = [str(row[0]) for row in self._connection.execute("PRAGMA integrity_check(10)")]
            changed = digest.differing(self._connection, self.meta(digest.KEY))
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            return [f"cannot be read: {error}"]
        damaged = [] if found == ["ok"] else found
        return [*damaged, *(f"{name}: not what the last commit left" for name in changed)]

    def next_segment(self) -> int:
        """Number of the segment that comes next; numbers of discarded ones are not used again."""
        return int(self._connection.execute("SELECT COALESCE(MAX(id), -1) + 1 FROM segments").fetchone()[0])

    def place(self) -> Place:
        """How much is true now."""
        counts = {
            table: self._connection.execute(f"SELECT COUNT(*) FROM {table} WHERE void=0").fetchone()[0]  # noqa: S608
            for table in schema.VOIDABLE
        }
        return Place(entries=counts["ledger"], segments=counts["segments"], models=counts["models"])


def _checkpoint(row: Sequence[Any]) -> CheckpointRow:
    number, step, folder, sha256, model = row
    return CheckpointRow(id=int(number), step=int(step), folder=str(folder), sha256=str(sha256), model=str(model))


def _object(text: str) -> dict[str, Any]:
    return object_of(text, "run.db")


def _indices(text: str) -> tuple[int, ...]:
    return tuple(int(index) for index in json.loads(text))


def _void(db: sqlite3.Connection, place: Place) -> None:
    """Mark everything after a place as void."""
    for (table, order), kept in zip(
        schema.VOIDABLE.items(), (place.entries, place.segments, place.models), strict=True
    ):
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


def _set_meta(db: sqlite3.Connection, values: dict[str, Any]) -> None:
    rows = [(key, json.dumps(value)) for key, value in values.items()]
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", rows)
