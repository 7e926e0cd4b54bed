"""What of a run is whole: every hash that the run wrote down, compared with what is on the disk.

Reads only. Where a run is at rest its seal vouches for every file to the last bit; elsewhere ``run.db`` vouches for its
own rows, for segments, models, checkpoints and what was written at the beginning.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunDirectoryError
from .database import RunDatabase
from .durable import sha256_of
from .limits import inside, json_of, read_bounded
from .run_directory import RunDirectory
from .seal import read_seal

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files of one kind.

    Attributes:
        name: of the kind, for a person.
        files: how many there should be.
        problems: what is missing or damaged, a line each.
    """

    name: str
    files: int
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(run: RunDirectory) -> list[Group]:
    """Compare everything that has a hash.

    Raises:
        RunDirectoryError: this is no run directory, or its database cannot be opened at all.
    """
    sealed = _sealed(run)
    database = run.open_database()
    try:
        return [sealed, *_groups(run, database)]
    finally:
        database.close()


def resumable_from(run: RunDirectory) -> int | None:
    """Step of the newest checkpoint that is whole; None if none is, or the database does not know.

    Raises:
        RunDirectoryError: as ``verify``.
    """
    database = run.open_database()
    try:
        last = database.last_checkpoint()
        if last is None or list(_checkpoint_problems(run.checkpoint(last.id), last.sha256)):
            return None
        return last.step
    finally:
        database.close()


def refuse_changed(run: RunDirectory, database: RunDatabase) -> None:
    """Make sure that what was written once at the beginning is what it was: another input is another run.

    Args:
        run: its folder.
        database: of the run, open.

    Raises:
        RunDirectoryError: the configuration, the structure or the system is missing or was changed.
    """
    for name, digest in (database.meta("files") or {}).items():
        path = inside(run.root, name, "run.db, files")
        if not path.is_file() or sha256_of(path) != digest:
            raise RunDirectoryError(
                f"{path} is {'not what the run began with' if path.exists() else 'missing'}",
                cure="restore it from a copy; to go on with other settings use `qmml run --from RUN@STEP CONFIG`",
            )


def _sealed(run: RunDirectory) -> Group:
    """Files that the seal vouches for. It is read before the database is opened, which may touch its file."""
    try:
        told = read_seal(run)
    except RunDirectoryError as error:
        return Group(name="seal", files=1, problems=(error.what,))
    found = [] if told is None else [p for name, about in told.items() if (p := _compare(run.root, name, about))]
    return Group(name="seal", files=0 if told is None else len(told), problems=tuple(found))


def _compare(root: Path, name: str, about: dict[str, object]) -> str:
    path = inside(root, name, "seal.json")
    return _hash_problem(path, name, str(about.get("sha256")))


def _groups(run: RunDirectory, database: RunDatabase) -> Iterator[Group]:
    yield Group(name="database", files=1, problems=tuple(f"run.db: {line}" for line in database.problems()))
    for name, find in (
        ("beginning", _beginning),
        ("segments", _segments),
        ("models", _models),
        ("checkpoints", _checkpoints),
    ):
        try:
            lines = list(find(run, database))
        except RunDirectoryError as error:
            lines = [error.what]
        except (ValueError, TypeError, KeyError) as error:
            # Rows that are damaged name anything; the digests have told so.
            lines = [f"run.db: the rows of {name} cannot be read ({type(error).__name__}: {error})"]
        yield Group(name=name, files=len(lines), problems=tuple(line for line in lines if line))


def _beginning(run: RunDirectory, database: RunDatabase) -> Iterator[str]:
    """Configuration, structure, system."""
    for name, digest in (database.meta("files") or {}).items():
        yield _hash_problem(inside(run.root, name, "run.db, files"), name, digest)


def _segments(run: RunDirectory, database: RunDatabase) -> Iterator[str]:
    for row in (*database.segments(), *database.segments(void=True)):
        yield _hash_problem(inside(run.root, row.file, f"run.db, segment {row.id}"), row.file, row.sha256)


def _models(run: RunDirectory, database: RunDatabase) -> Iterator[str]:
    for name in dict.fromkeys(row.id for row in (*database.models(), *database.models(void=True))):
        path = run.model(name)
        yield _hash_problem(path, f"models/{path.name}", name) or _card_problem(path.with_suffix(".json"), name)


def _card_problem(path: Path, model_id: str) -> str:
    """A card names the model that it belongs to; what else it says stands in the model's own file, too."""
    try:
        told = json_of(read_bounded(path), str(path))
    except RunDirectoryError as error:
        return f"models/{path.name}: {error.what}"
    whole = isinstance(told, dict) and told.get("sha256") == model_id
    return "" if whole else f"models/{path.name} is not the card of this model"


def _checkpoints(run: RunDirectory, database: RunDatabase) -> Iterator[str]:
    kept = database.meta("kept_checkpoints")
    rows = database.checkpoints()
    for row in rows if kept is None else [row for row in rows if row.id in kept]:
        if kept is None and row is not rows[-1]:
            continue
        yield "; ".join(_checkpoint_problems(run.checkpoint(row.id), row.sha256))


def _checkpoint_problems(folder: Path, manifest_sha256: str) -> Iterator[str]:
    name = f"checkpoints/{folder.name}"
    if manifest_sha256 and (problem := _hash_problem(folder / MANIFEST, f"{name}/{MANIFEST}", manifest_sha256)):
        yield problem
        return
    try:
        hashes = json.loads(read_bounded(folder / MANIFEST))
        files = [(inside(folder, file, f"{name}/{MANIFEST}"), str(digest)) for file, digest in hashes.items()]
    except (RunDirectoryError, ValueError, AttributeError) as error:
        yield f"{name}/{MANIFEST} cannot be read: {getattr(error, 'what', error)}"
        return
    for path, digest in files:
        if problem := _hash_problem(path, f"{name}/{path.name}", digest):
            yield problem


def _hash_problem(path: Path, name: str, digest: str) -> str:
    """What is wrong with a file; empty if it is what was written."""
    try:
        found = sha256_of(path)
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    return "" if found == digest else f"{name} is not what was written (its hash differs)"
