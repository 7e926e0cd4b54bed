"""Any change of ``run.db`` that no commit made is found."""

import sqlite3
from pathlib import Path

import pytest

from qmml_md.records.books import Account, Entry
from qmml_md.records.database import Commit, RunDatabase
from qmml_md.records.rows import CheckpointRow, Event, LabelRow, ModelRow, Place, RegionRow, SegmentRow


def commit(k: int) -> Commit:
    return Commit(
        segment=SegmentRow(id=k, first_step=k, last_step=k, frames=1, model="m", file=f"segments/{k}.h5", sha256="x"),
        entries=[Entry(step=k, time=0.1, account=Account.MODEL, before=0.1, after=0.3 + k, cause="é")],
        events=[Event(step=k, time=0.1, kind="label", message="m", data={"a": [1.5]})],
        regions=[RegionRow(epoch=k, step=k, core=(1,), atoms=(1, 2))],
        models=[ModelRow(id=f"{k}", step=k, parent="", data={})],
        labels=[LabelRow(key=f"{k}", step=k, model="m", region_epoch=1, data={"core": [True]})],
        timings={"md": (1.25 + k, 3)},
        checkpoint=CheckpointRow(id=k, step=k, folder=f"{k:06d}", sha256="y", model="m"),
        meta={"note": {"x": k}},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of four commits, one of them a rewind."""
    database = RunDatabase(tmp_path / "run.db", create=True)
    for k in range(3):
        database.commit(commit(k))
    database.commit(Commit(rewind_to=Place(entries=2, segments=2, models=2), segment=commit(3).segment))
    assert database.problems() == []
    database.close()
    return tmp_path / "run.db"


def problems(path: Path) -> list[str]:
    database = RunDatabase(path)
    try:
        return database.problems()
    finally:
        database.close()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("segments", "UPDATE segments SET frames=2 WHERE id=1"),
        ("ledger", "UPDATE ledger SET after_kj_per_mol=after_kj_per_mol+1e-12 WHERE id=1"),
        ("ledger", "DELETE FROM ledger WHERE id=1"),
        ("events", "UPDATE events SET message='n' WHERE id=3"),
        ("events", "INSERT INTO events(step, time_ps, kind, message, data) VALUES (9, 0, 'label', 'm', '{}')"),
        ("regions", "UPDATE regions SET atoms='[1, 3]' WHERE epoch=0"),
        ("models", "UPDATE models SET step=7 WHERE id='1'"),
        ("labels", "UPDATE labels SET data='{}' WHERE key='2'"),
        ("checkpoints", "UPDATE checkpoints SET sha256='z' WHERE id=0"),
        ("timings", "UPDATE timings SET calls=4"),
        ("meta", "UPDATE meta SET value='{}' WHERE key='note'"),
        ("void", "UPDATE segments SET void=0"),
        ("void", "UPDATE ledger SET void=1"),
    ],
)
def test_a_change_by_hand_is_found_where_it_is(path: Path, table: str, change: str) -> None:
    assert problems(path) == []
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    assert problems(path) == [f"{table}: not what the last commit left"]


def test_commits_extend_what_a_digest_from_scratch_gives(path: Path) -> None:
    database = RunDatabase(path)
    database.commit(commit(4))
    assert database.problems() == []
    database.close()


def test_a_damaged_page_is_named(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # The last page; the first ones hold the schema and the version, without which the file cannot be opened.
    content[-4096:] = bytes(4096)
    path.write_bytes(content)
    database = RunDatabase(path)
    assert database.problems()
    database.close()
