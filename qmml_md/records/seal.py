"""The seal of a run that has come to rest: the hash of every file that nothing else vouches for.

``seal.json`` is written when a process is done with a run, and removed before one begins to change it. Segments and
models are not in it: ``run.db``, which is, holds the hashes of the former, and the latter are named by theirs.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import RunDirectoryError
from .durable import sha256_of, sync_folder, write_durably
from .lock import holder
from .run_directory import RunDirectory

#: Files that come and go, or say nothing of the run; and folders whose files others vouch for.
LEFT_OUT = ("seal.json", "run.lock", "run.db-wal", "run.db-shm", "labels.db-journal")
VOUCHED = ("segments", "models/*.safetensors")
#: What audits and reports write.
WRITTEN_BY_AUDITS = ("run.db", "labels.db", "audit/*", "audit/*/*")


def seal(run: RunDirectory, kept: dict[str, Any] | None = None) -> bool:
    """Write down what is there. Nothing may write to the run meanwhile.

    Args:
        run: at rest.
        kept: what an earlier seal said of files that nobody has changed since, whatever they are now.

    Returns:
        Whether it could be sealed: not while another process reads the database in its own view.

    Raises:
        OSError: a file cannot be read, or the seal not be written.
    """
    if not _settled(run.database):
        return False
    found = {name: path for name, path in sealed_files(run) if name not in (kept or {})}
    files = {name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for name, path in found.items()}
    body = {"files": dict(sorted({**files, **(kept or {})}.items()))}
    write_durably(run.seal, json.dumps({**body, "sha256": _digest(body)}, indent=1).encode())
    return True


def break_seal(run: RunDirectory) -> None:
    """The run is about to change.

    Raises:
        OSError: the seal cannot be removed.
    """
    if run.seal.exists():
        run.seal.unlink()
        sync_folder(run.root)


@contextmanager
def unsealed(run: RunDirectory) -> Iterator[None]:
    """Audit or report a run at rest; it is sealed again afterwards, but not while an engine has it.

    Damage stays damage: what an audit does not write keeps the hash that it had, and so does what differs from its hash
    already.

    Raises:
        RunDirectoryError: the seal is damaged.
    """
    before = read_seal(run)
    kept = (
        {}
        if before is None
        else {name: about for name, about in before.items() if not _whole_and_ours(run, name, about)}
    )
    break_seal(run)
    try:
        yield
    finally:
        if holder(run.lock) is None:
            seal(run, kept)


def _whole_and_ours(run: RunDirectory, name: str, about: dict[str, Any]) -> bool:
    """Whether an audit may write a file, and it is what the seal says."""
    if not any(PurePosixPath(name).match(pattern) for pattern in WRITTEN_BY_AUDITS):
        return False
    path = run.root / name
    return path.is_file() and sha256_of(path) == about.get("sha256")


def read_seal(run: RunDirectory) -> dict[str, Any] | None:
    """What the seal says of each file: ``sha256`` and ``bytes``; None where there is no seal.

    Raises:
        RunDirectoryError: the seal itself is damaged.
    """
    if not run.seal.exists():
        return None
    try:
        told = json.loads(run.seal.read_bytes())
        files: dict[str, Any] = told["files"]
        whole = told["sha256"] == _digest({"files": files}) and run.seal.read_bytes() == _written(told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(f"{run.seal} cannot be read: {error}", cure=_CURE) from error
    if not whole:
        raise RunDirectoryError(f"{run.seal} is not what was written", cure=_CURE)
    return files


def sealed_files(run: RunDirectory) -> Iterator[tuple[str, Path]]:
    """Every file that a seal names, with its name relative to the run, in order."""
    for path in sorted(run.root.rglob("*")):
        name = path.relative_to(run.root)
        vouched = any(part.match(pattern) for pattern in VOUCHED for part in (name, *name.parents))
        if path.is_file() and str(name) not in LEFT_OUT and not vouched:
            yield name.as_posix(), path


def _settled(database: Path) -> bool:
    """Whether all of the database is in its one file."""
    connection = sqlite3.connect(database, timeout=5.0)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    log = database.with_name(database.name + "-wal")
    return not log.exists() or log.stat().st_size == 0


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _written(told: dict[str, Any]) -> bytes:
    return json.dumps({"files": told["files"], "sha256": told["sha256"]}, indent=1).encode()


_CURE = "restore it from a copy; without it, `qmml check` compares with what run.db says"
