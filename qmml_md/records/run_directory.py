"""The run directory: where everything of a run lies.

::

    run/
      config.yaml            resolved, as validated
      structure.<ext>        copy of the structure file
      run.db                 the only mutable truth
      run.lock               held by the process that works on the run
      seal.json              hashes of all files while none does
      run.log                plain lines for a person
      segments/000012.h5     immutable
      models/<sha256>.safetensors + .json
      labels.db              ASE database of labels
      checkpoints/000012/
      audit/                 audit.json, report.html
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunDirectoryError
from .database import RunDatabase
from .durable import sha256_of
from .frames import Frames, concatenate
from .limits import inside
from .segment import Particles, read_particles, read_segment

FOLDERS = ("segments", "models", "checkpoints")
#: A file that says that nothing was committed yet.
NEWBORN = "newborn"
LOCK = "run.lock"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths of one run; nothing is opened or created until asked for."""

    root: Path

    @property
    def config(self) -> Path:
        """Resolved configuration."""
        return self.root / "config.yaml"

    @property
    def database(self) -> Path:
        """SQLite file."""
        return self.root / "run.db"

    @property
    def lock(self) -> Path:
        """Lock file: one process at a time."""
        return self.root / LOCK

    @property
    def seal(self) -> Path:
        """Hashes of all files, while the run is at rest."""
        return self.root / "seal.json"

    @property
    def log(self) -> Path:
        """Plain-text log."""
        return self.root / "run.log"

    @property
    def labels(self) -> Path:
        """ASE database of labels."""
        return self.root / "labels.db"

    @property
    def audit(self) -> Path:
        """Folder of the audit."""
        return self.root / "audit"

    @property
    def models(self) -> Path:
        """Folder of the models, each under its identity."""
        return self.root / "models"

    def segment(self, number: int) -> Path:
        """File of segment ``number``."""
        return self.root / "segments" / f"{number:06d}.h5"

    def model(self, model_id: str) -> Path:
        """Weights file of a model; its card stands beside it as .json."""
        return inside(self.root, f"models/{model_id}.safetensors", "run.db, models")

    def whole_model(self, model_id: str) -> Path:
        """Weights file of a model, after making sure that it is what its name says.

        Raises:
            RunDirectoryError: it is missing or damaged.
        """
        path = self.model(model_id)
        if not path.is_file() or sha256_of(path) != model_id:
            raise RunDirectoryError(
                f"the model {model_id[:12]} of the run in {self.root} is {'damaged' if path.exists() else 'missing'}",
                cure=f"restore models/{path.name} from a copy; `qmml check` tells what else is not whole",
            )
        return path

    def checkpoint(self, number: int) -> Path:
        """Folder of checkpoint ``number``."""
        return inside(self.root, f"checkpoints/{number:06d}", "run.db, checkpoints")

    def create(self) -> None:
        """Make the folders of a new run. What a run left that ended before its first commit is removed first.

        Raises:
            RunDirectoryError: the folder holds something else, or cannot be written.
        """
        self.refuse_used()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.clear()
            (self.root / NEWBORN).touch()
            for name in FOLDERS:
                (self.root / name).mkdir()
        except OSError as error:
            raise RunDirectoryError(
                f"cannot make the run directory {self.root}: {error.strerror}", cure="give a writable folder with --out"
            ) from error

    def refuse_used(self) -> None:
        """Say that a folder is taken; not if it is empty, or all that a run left that ended before its first commit.

        Raises:
            RunDirectoryError: it is.
        """
        used = self.root.exists() and (not self.root.is_dir() or any(x.name != LOCK for x in self.root.iterdir()))
        if used and not self.is_stillborn():
            raise RunDirectoryError(
                f"{self.root} exists already and is not empty",
                cure="`qmml resume` continues a run; for a new one give another folder with --out",
            )

    def is_stillborn(self) -> bool:
        """Whether the folder holds what a run left that was killed before its first commit, and nothing else.

        Nothing of such a run has happened: no frame is stored, no label paid for. It is told from other folders by the
        file that is made first and removed after the first commit.
        """
        return (self.root / NEWBORN).is_file() and not self.has_commit()

    def has_commit(self) -> bool:
        """Whether there is a commit to go on from; not where the database was not finished, either."""
        try:
            database = self.open_database()
        except RunDirectoryError:
            return False
        try:
            return database.last_checkpoint() is not None
        finally:
            database.close()

    def born(self) -> None:
        """The first commit is made."""
        (self.root / NEWBORN).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all but the lock, and last what tells that it may be removed."""
        for path in self.root.iterdir():
            if path.name not in (NEWBORN, LOCK):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.born()

    def remove(self) -> None:
        """Remove a run that has nothing worth keeping; killed while it goes, it can still be begun anew."""
        self.clear()
        self.lock.unlink(missing_ok=True)
        self.root.rmdir()

    def open_database(self) -> RunDatabase:
        """Open the database of an existing run.

        Raises:
            RunDirectoryError: this is not a run directory.
        """
        return RunDatabase(self.database)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """All committed frames of a run with the atoms they belong to."""

    frames: Frames
    particles: Particles


def read_trajectory(run: RunDirectory) -> Trajectory:
    """Read all committed segments of a run, in order.

    Raises:
        RunDirectoryError: no run, no committed segment, or a segment that cannot be read.
    """
    database = run.open_database()
    try:
        rows = database.segments()
    finally:
        database.close()
    frames = concatenate([read_segment(run.root / row.file) for row in rows])
    return Trajectory(frames=frames, particles=read_particles(run.root / rows[0].file))
