"""The record of a run as the auditor reads it: configuration, frames and tables, all at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from ..config import Config
from ..errors import AuditError
from ..records.books import Account, Entry
from ..records.database import Event, LabelRow, ModelRow, RegionRow, SegmentRow
from ..records.frames import Frames
from ..records.run_directory import RunDirectory, read_trajectory
from ..records.segment import Particles
from ..units import PS_PER_FS

TABLES = ("segments", "entries", "events", "regions", "models", "labels", "timings")

#: Classes of atoms in a frame, as they stand in ``region_flags`` and in exported files.
REST, BUFFER, CORE = 0, 1, 2
CLASSES = {"core": CORE, "buffer": BUFFER, "rest": REST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything that a run wrote down, except weights and labels."""

    config: Config
    frames: Frames
    particles: Particles
    segments: list[SegmentRow]
    entries: list[Entry]
    events: list[Event]
    regions: list[RegionRow]
    models: list[ModelRow]
    labels: list[LabelRow]
    timings: dict[str, tuple[float, int]]

    @property
    def timestep_ps(self) -> float:
        """Time step, ps."""
        return self.config.dynamics.timestep_fs * PS_PER_FS

    def of_account(self, account: Account) -> list[Entry]:
        """The ledger entries of one account, in order."""
        return [entry for entry in self.entries if entry.account == account]


def read_config(run: RunDirectory) -> Config:
    """Read the resolved configuration of a run.

    Raises:
        AuditError: it is missing or not valid.
    """
    try:
        return Config.model_validate(yaml.safe_load(run.config.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise AuditError(
            f"{run.config} cannot be read as the configuration of a run: {error}",
            cure="restore config.yaml from a copy of the run directory; it must be the file that the run wrote",
        ) from error


def read_record(run: RunDirectory) -> Record:
    """Read everything that a run wrote down.

    Raises:
        RunDirectoryError: this is no run directory, or it holds no committed frames.
        AuditError: the configuration cannot be read, or no model is named.
    """
    tables = read_tables(run)
    if not tables["models"]:
        raise AuditError(f"{run.database} names no model", cure="let the run go past its first commit")
    trajectory = read_trajectory(run)
    return Record(config=read_config(run), frames=trajectory.frames, particles=trajectory.particles, **tables)


def read_tables(run: RunDirectory) -> dict[str, Any]:
    """All tables of ``run.db`` by name.

    Raises:
        RunDirectoryError: this is no run directory.
    """
    database = run.open_database()
    try:
        return {name: getattr(database, name)() for name in TABLES}
    finally:
        database.close()


def region_flags(frames: Frames, regions: list[RegionRow]) -> NDArray[np.int8]:
    """For every frame and atom: 2 core, 1 buffer (any other atom of the region), 0 rest; shape (f, n)."""
    flags = np.full((len(frames), frames.atoms), REST, dtype=np.int8)
    by_epoch = {row.epoch: row for row in regions}
    for i, epoch in enumerate(frames.region_epoch):
        row = by_epoch.get(int(epoch))
        if row is not None:
            flags[i, list(row.atoms)] = BUFFER
            flags[i, list(row.core)] = CORE
    return flags
