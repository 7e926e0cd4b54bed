"""A database of an earlier version becomes one of this version; anything else is refused by name."""

import sqlite3
from pathlib import Path

import pytest

from qmml_md.errors import RunDirectoryError
from qmml_md.records import schema
from qmml_md.records.database import RunDatabase
from qmml_md.records.run_directory import RunDirectory

#: As the program wrote it before: no hash of a checkpoint, no digests.
OLD = schema.SCHEMA.replace(",\n    sha256 TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT ''", "")


def make(path: Path, tables: str, version: str) -> Path:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(tables)
        connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", (version,))
    connection.close()
    return path


def test_version_2_is_read_and_becomes_3(tmp_path: Path) -> None:
    assert OLD != schema.SCHEMA
    path = make(tmp_path / "run.db", OLD, "2")
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO checkpoints VALUES (4, 80, '000004')")
    connection.close()
    database = RunDatabase(path)
    last = database.last_checkpoint()
    assert last is not None
    assert (last.id, last.step, last.folder, last.sha256) == (4, 80, "000004", "")
    assert (database.meta("schema_version"), database.meta("migrated_from")) == (3, 2)
    name = database.meta("run_id")
    database.close()
    again = RunDatabase(path)
    # Migrated once: it is the same run ever after.
    assert again.meta("run_id") == name
    assert again.problems() == []
    again.close()


def test_a_migration_that_is_killed_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "run.db", OLD, "2")
    statements = (schema._STEPS[2][0], "INSERT INTO nowhere VALUES (1)")
    monkeypatch.setitem(schema._STEPS, 2, statements)
    with pytest.raises(RunDirectoryError, match="no such table"):
        RunDatabase(path)
    monkeypatch.undo()
    RunDatabase(path).close()


@pytest.mark.parametrize(("version", "message"), [("1", "version 1"), ("99", "version 99"), ('"x"', "no version")])
def test_other_versions_are_refused(tmp_path: Path, version: str, message: str) -> None:
    with pytest.raises(RunDirectoryError, match=message):
        RunDatabase(make(tmp_path / "run.db", schema.SCHEMA, version))


def test_what_is_no_database_of_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but long enough to be taken for one" * 20)
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    with pytest.raises(RunDirectoryError, match="not a database"):
        RunDatabase(tmp_path / "text.db")
    with pytest.raises(RunDirectoryError, match="lacks the tables"):
        RunDatabase(tmp_path / "empty.db")


def test_a_view_in_place_of_a_table_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "run.db", schema.SCHEMA, "3")
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE timings")
        connection.execute("CREATE VIEW timings AS SELECT 'md' AS part, 1.0 AS seconds, 1 AS calls")
    connection.close()
    with pytest.raises(RunDirectoryError, match="timings"):
        RunDatabase(path)


@pytest.mark.parametrize("missing", ["meta", "version"])
def test_a_database_that_is_refused_is_let_go(tmp_path: Path, missing: str) -> None:
    """Not when the garbage collector comes by: whoever is told may remove the file."""
    path = tmp_path / "run.db"
    RunDatabase(path, create=True).close()
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE meta" if missing == "meta" else "DELETE FROM meta WHERE key='schema_version'")
    connection.commit()
    connection.close()
    with pytest.raises(RunDirectoryError, match="no database of a run") as kept:
        RunDatabase(path)
    # Only who has the file alone can take it out of the mode with such a log; what was raised keeps its frames alive.
    alone = sqlite3.connect(path, timeout=0.0)
    assert alone.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    alone.close()
    assert kept.traceback
    # Sabotaged: with another connection there it stays.
    alone = sqlite3.connect(path, timeout=0.0)
    alone.execute("PRAGMA journal_mode=WAL").fetchone()
    other = sqlite3.connect(path)
    other.execute("SELECT * FROM sqlite_master").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        alone.execute("PRAGMA journal_mode=DELETE")
    other.close()
    alone.close()


@pytest.mark.parametrize("removals", range(3))
def test_a_run_that_goes_is_until_the_end_one_that_may_be_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removals: int
) -> None:
    """Killed after any number of removals: of the files but the lock, the last is the one that says so."""
    run = RunDirectory(tmp_path / "run")
    run.create()
    RunDatabase(run.database, create=True).close()
    run.config.touch()
    real, done = Path.unlink, []

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if len(done) == removals:
            raise KeyboardInterrupt
        done.append(path)
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        run.remove()
    run.refuse_used()
    monkeypatch.undo()
    run.create()
    run.remove()
    assert not run.root.exists()
