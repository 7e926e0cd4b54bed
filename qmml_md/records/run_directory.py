"""The run directory: where everything of a run lies.

::

    run/
      config.yaml            resolved, as validated
      structure.<ext>        copy of the structure file
      run.db                 the only mutable truth
      run.log                plain lines for a person
      segments/000012.h5     immutable
      models/<sha256>.safetensors + .json
      labels.db              ASE database of labels
      checkpoints/000012/
      audit/                 audit.json, report.html
"""

from dataclasses import dataclass
from pathlib import Path

from ..errors import RunDirectoryError
from .database import RunDatabase
from .frames import Frames, concatenate
from .segment import Particles, read_particles, read_segment


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
        return self.models / f"{model_id}.safetensors"

    def checkpoint(self, number: int) -> Path:
        """Folder of checkpoint ``number``."""
        return self.root / "checkpoints" / f"{number:06d}"

    def create(self) -> None:
        """Make the folders of a new run.

        Raises:
            RunDirectoryError: the folder exists and is not empty, or cannot be written.
        """
        if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise RunDirectoryError(
                f"{self.root} exists already and is not empty",
                cure="`qmml resume` continues a run; for a new one give another folder with --out",
            )
        try:
            for name in ("segments", "models", "checkpoints"):
                (self.root / name).mkdir(parents=True)
        except OSError as error:
            raise RunDirectoryError(
                f"cannot make the run directory {self.root}: {error.strerror}", cure="give a writable folder with --out"
            ) from error

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
