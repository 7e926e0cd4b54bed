"""The tables of ``run.db``, their version, and how a database of an earlier version becomes one of this version."""

import json
import sqlite3
import uuid

from ..errors import RunDirectoryError

VERSION = 3
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
CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, folder TEXT NOT NULL,
    sha256 TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT '');
"""
TABLES = ("meta", "segments", "ledger", "events", "regions", "models", "labels", "timings", "checkpoints")

#: Tables whose rows can be voided, with the column that orders them.
VOIDABLE = {"ledger": "id", "segments": "id", "models": "number"}

#: What leads from each version to the next one.
_STEPS = {
    2: (
        "ALTER TABLE checkpoints ADD COLUMN sha256 TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE checkpoints ADD COLUMN model TEXT NOT NULL DEFAULT ''",
    )
}


def new_run_id() -> str:
    """A name that no other run has; it enters no result."""
    return uuid.uuid4().hex


def version_of(connection: sqlite3.Connection, path: object) -> int:
    """Schema version of a database.

    Raises:
        RunDirectoryError: it is no database of a run.
    """
    found = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    missing = sorted(set(TABLES) - found)
    if missing:
        raise RunDirectoryError(
            f"{path} is no database of a run: it lacks the tables {', '.join(missing)}", cure=_RESTORE
        )
    row = connection.execute("SELECT value FROM meta WHERE key='schema_version'").fetchone()
    try:
        return int(json.loads(row[0]))
    except (TypeError, ValueError) as error:
        raise RunDirectoryError(f"{path} is no database of a run: it names no version", cure=_RESTORE) from error


def migrate(connection: sqlite3.Connection, path: object) -> None:
    """Bring a database to this version, in one transaction: whoever kills us finds the old one or the new one.

    Raises:
        RunDirectoryError: its version is unknown, or it is no database of a run.
    """
    found = version_of(connection, path)
    if found == VERSION:
        return
    if found not in _STEPS:
        raise RunDirectoryError(
            f"{path} has schema version {found}, this program reads {min(_STEPS)} to {VERSION}",
            cure="read the run with the version of qmml-md that wrote it",
        )
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster.
        for version in range(version_of(connection, path), VERSION):
            for statement in _STEPS[version]:
                connection.execute(statement)
        values = {"schema_version": VERSION, "migrated_from": found, "run_id": new_run_id()}
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", rows)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


_RESTORE = "give the folder that `qmml run` made; if it is that, restore run.db from a copy"
