"""What two equal runs have in common, as hashes; and whether what is on disk is whole."""

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qmml_md.errors import RunDirectoryError
from qmml_md.records.database import RunDatabase
from qmml_md.records.rows import CheckpointRow
from qmml_md.records.run_directory import RunDirectory
from qmml_md.reference.store import LabelStore

#: Of a label or a model: how long it took, whether it was paid for in this process or an earlier one, and the hash of a
#: label, its wall time included.
OF_THE_DAY = ("wall_time_s", "reused", "digest")
#: Events that say who watched or interrupted the run.
OF_THE_WATCH = ("start", "resume", "stop")
_TOOK = re.compile(r", (\d+ s|from the store);")


def results_digest(run: RunDirectory) -> dict[str, str]:
    """SHA-256 over each kind of result of a run: equal for two runs exactly if they are the same to the bit.

    Left out are wall times, and which process paid for a label: nothing else differs between a run that was interrupted
    and one that was not.

    Args:
        run: at rest.

    Raises:
        QmmlError: something of it cannot be read.
    """
    database = run.open_database()
    try:
        last = database.last_checkpoint()
        found = {
            "segments": _segments(run, database),
            "ledger": _hash([[_entry(e) for e in database.entries(void=void)] for void in (False, True)]),
            "models": _hash(
                [[[m.id, m.step, m.parent, _timeless(m.data)] for m in database.models(void=v)] for v in (False, True)]
            ),
            "regions": _hash([[r.epoch, r.step, r.core, r.atoms] for r in database.regions()]),
            "scores": _hash([[x.key, x.step, x.model, x.region_epoch, _timeless(x.data)] for x in database.labels()]),
            "events": _hash([_event(e) for e in database.events() if e.kind not in OF_THE_WATCH]),
            "labels": _labels(run.labels),
        }
        if last is not None:
            for path in sorted(run.checkpoint(last.id).iterdir()):
                if path.name != "manifest.json":
                    found[f"checkpoint {path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found
    finally:
        database.close()


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Kinds of results whose hashes two runs do not share, sorted."""
    return sorted(kind for kind in {*one, *other} if one.get(kind) != other.get(kind))


def damage(run: RunDirectory) -> list[str]:
    """What is not as its hash says, a line each: looked for without the program's own `qmml check`.

    Args:
        run: at rest, perhaps after its process was killed; with a commit.

    Raises:
        QmmlError: the database or the labels cannot be read.
    """
    database = run.open_database()
    try:
        found = [f"run.db: {problem}" for problem in database.problems()]
        for row in (*database.segments(), *database.segments(void=True)):
            found += _differs(run.root / row.file, row.sha256)
        for model in (*database.models(), *database.models(void=True)):
            found += _differs(run.model(model.id), model.id)
        last, keys = database.last_checkpoint(), {row.key for row in database.labels()}
    finally:
        database.close()
    if last is not None:
        manifest = run.checkpoint(last.id) / "manifest.json"
        found += _differs(manifest, last.sha256)
        for name, digest in json.loads(manifest.read_bytes()).items():
            found += _differs(manifest.with_name(name), digest)
    return found + [f"labels.db lacks {key[:12]}" for key in sorted(keys - stored_labels(run))]


def last_commit(run: RunDirectory) -> CheckpointRow | None:
    """The newest checkpoint; None where nothing was committed, the database perhaps not even made."""
    try:
        database = run.open_database()
    except RunDirectoryError:
        return None
    try:
        return database.last_checkpoint()
    finally:
        database.close()


def stored_labels(run: RunDirectory) -> set[str]:
    """Keys of the labels in the store; none where it is only being made."""
    if not run.labels.exists() or not _has_tables(run.labels):
        return set()
    return {label.key for label in LabelStore(run.labels).all()}


def _has_tables(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        found = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        return "information" in found and connection.execute("SELECT COUNT(*) FROM systems").fetchone()[0] > 0
    finally:
        connection.close()


def files_of(run: RunDirectory) -> set[str]:
    """Names of all files of a run but for those that come and go."""
    left_out = {"run.lock", "run.log", "run.db-wal", "run.db-shm", "labels.db-journal", "seal.json"}
    names = {str(path.relative_to(run.root)) for path in run.root.rglob("*") if path.is_file()}
    return names - left_out


def _segments(run: RunDirectory, database: RunDatabase) -> str:
    digest = hashlib.sha256()
    for void in (False, True):
        for row in database.segments(void=void):
            # Numbers of segments that were discarded are in the names: they must be the same, too.
            digest.update(f"{void} {row.file} {row.model} {row.blend}\n".encode())
            digest.update((run.root / row.file).read_bytes())
    return digest.hexdigest()


def _labels(path: Path) -> str:
    if not path.exists():
        return ""
    digest = hashlib.sha256()
    for label in sorted(LabelStore(path).all(), key=lambda each: each.key):
        scalars = f"{label.key} {label.energy.hex()} {label.rung} {label.spin_squared.hex()} {label.gap.hex()}"
        digest.update(scalars.encode())
        for array in (label.forces, label.dipole, label.charges, label.cluster.positions, label.cluster.numbers):
            digest.update(array.tobytes())
    return digest.hexdigest()


def _entry(entry: Any) -> list[Any]:
    return [entry.step, entry.time, str(entry.account), entry.before, entry.after, entry.cause]


def _event(event: Any) -> list[Any]:
    return [event.step, event.time, event.kind, _TOOK.sub(";", event.message), _timeless(event.data)]


def _timeless(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in OF_THE_DAY}


def _differs(path: Path, digest: str) -> list[str]:
    if not path.exists():
        return [f"{path.name} is missing"]
    return [] if hashlib.sha256(path.read_bytes()).hexdigest() == digest else [f"{path.name} is not what was written"]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
