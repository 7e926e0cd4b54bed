"""Digests of what ``run.db`` says, kept by every commit: SQLite itself does not notice a flipped bit.

Rows are only ever added, so that each table has a chain, H_n = SHA-256(H_{n−1} ‖ row_n), which a commit extends by its
own rows. What can change (which rows are void, timings, values of the run as a whole) is digested anew.
"""

import hashlib
import json
import sqlite3
from typing import Any

from .schema import VOIDABLE

KEY = "digests"

#: Columns of each table whose rows are only added.
CHAINED = {
    "segments": "id, first_step, last_step, frames, model, blend, file, sha256",
    "ledger": "id, step, time_ps, account, before_kj_per_mol, after_kj_per_mol, cause",
    "events": "id, step, time_ps, kind, message, data",
    "regions": "epoch, step, core, atoms",
    "models": "number, id, step, parent, data",
    "labels": "key, step, model, region_epoch, data",
    "checkpoints": "id, step, folder, sha256, model",
}


def extended(db: sqlite3.Connection, before: dict[str, Any] | None, *, voided: bool) -> dict[str, Any]:
    """The digests after a commit.

    Args:
        db: with everything of the commit, its transaction still open.
        before: the digests before it; None to take all anew.
        voided: whether rows have become void.

    Returns:
        For each chained table the row that it ends with and the digest; ``void``, ``timings`` and ``meta`` as such.
    """
    earlier: dict[str, Any] = before or {}
    found = {table: _chain(db, table, *earlier.get(table, (-1, ""))) for table in CHAINED}
    void = _void(db) if voided or "void" not in earlier else earlier["void"]
    return {**found, "void": void, "timings": _whole(db, "timings"), "meta": _whole(db, "meta")}


def differing(db: sqlite3.Connection, said: dict[str, Any] | None) -> list[str]:
    """Names of what is not as the last commit left it; empty if all is.

    Args:
        db: the database.
        said: the digests that it holds; None where an earlier version wrote it, of which nothing can be said.
    """
    if said is None:
        return []
    now = extended(db, None, voided=True)
    return sorted(name for name in {*now, *said} if list_of(now.get(name)) != list_of(said.get(name)))


def list_of(value: Any) -> Any:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple | list) else value


def _chain(db: sqlite3.Connection, table: str, last: int, digest: str) -> tuple[int, str]:
    query = f"SELECT rowid, {CHAINED[table]} FROM {table} WHERE rowid > ? ORDER BY rowid"  # noqa: S608 - names from above
    for row in db.execute(query, (last,)):
        last, digest = row[0], hashlib.sha256(digest.encode() + _bytes(row[1:])).hexdigest()
    return last, digest


def _void(db: sqlite3.Connection) -> str:
    rows = [
        [table, *(row[0] for row in db.execute(f"SELECT {order} FROM {table} WHERE void<>0 ORDER BY {order}"))]  # noqa: S608
        for table, order in VOIDABLE.items()
    ]
    return hashlib.sha256(_bytes(rows)).hexdigest()


def _whole(db: sqlite3.Connection, table: str) -> str:
    rows = [row for row in db.execute(f"SELECT * FROM {table} ORDER BY 1") if row[0] != KEY]  # noqa: S608 - ours
    return hashlib.sha256(_bytes(rows)).hexdigest()


def _bytes(rows: Any) -> bytes:
    return json.dumps(rows, default=repr).encode()
