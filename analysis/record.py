"""The record of a run as the auditor reads it: configuration, tables, and frames a few at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..config_file import load_config
from ..ensemble.potential import Potential, potential_of
from ..errors import AuditError, ConfigError, RunDirectoryError
from ..records.books import Account, Entry
from ..records.frames import Frames, Ints
from ..records.rows import Event, LabelRow, ModelRow, RegionRow, SegmentRow
from ..records.run_directory import RunDirectory
from ..records.segment import Particles, read_particles
from ..system.archive import has_archive, read_archive
from ..units import PS_PER_FS
from .blocks import Held, Series, Source, open_segments, sample_frames, series_of
from .truth.takeovers import Takeover, takeovers

TABLES = ("segments", "entries", "events", "regions", "models", "labels", "timings")
VOIDABLE = ("segments", "entries", "models")

#: Classes of atoms in a frame, as they stand in ``region_flags`` and in exported files.
REST, BUFFER, CORE = 0, 1, 2
CLASSES = {"core": CORE, "buffer": BUFFER, "rest": REST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Voided:
    """What a run wrote and then discarded, when it went back to run a stretch again."""

    segments: list[SegmentRow] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    models: list[ModelRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything that a run wrote down, except weights and labels; arrays over atoms are read a few frames at a time.

    Attributes:
        source: of the frames with all their arrays.
        series: what is known of each frame without them.
        mixed: what moves the atoms where a part of them is in a force field; None where all are on the ensemble.
    """

    config: Config
    source: Source
    series: Series
    particles: Particles
    segments: list[SegmentRow]
    entries: list[Entry]
    events: list[Event]
    regions: list[RegionRow]
    models: list[ModelRow]
    labels: list[LabelRow]
    timings: dict[str, tuple[float, int]]
    voided: Voided = field(default_factory=Voided)
    mixed: Potential | None = None

    @property
    def potential(self) -> Potential:
        """What moved the atoms, but for the model."""
        return self.mixed or Potential(numbers=self.particles.numbers)

    @property
    def free(self) -> NDArray[np.bool_]:
        """Whether each atom is free of constraints, so that its forces alone say how it moves, shape (n,)."""
        found = np.ones(self.atoms, dtype=bool)
        if self.mixed is not None and self.mixed.mixture is not None:
            found[self.mixed.mixture.field.constraints.ravel()] = False
        return found

    def __len__(self) -> int:
        return len(self.series)

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return len(self.particles.numbers)

    @property
    def timestep_ps(self) -> float:
        """Time step, ps."""
        return self.config.dynamics.timestep_fs * PS_PER_FS

    @property
    def takeovers(self) -> list[Takeover]:
        """The changes of model, in order."""
        return takeovers(self.models, self.events)

    @property
    def final_model(self) -> str:
        """Identity of the model that the run ended with."""
        return self.models[-1].id

    def blocks(self) -> Iterator[Frames]:
        """All frames in order, a few at a time; the frames of a block ran on one model (or blend of two)."""
        return self.source.blocks()

    def rows(self, chosen: Ints) -> Frames:
        """The frames with these increasing numbers; only they are read."""
        return self.source.rows(chosen)

    def sample(self, count: int, rng: np.random.Generator) -> Frames:
        """Frames drawn at random without return, in order of time; only they are read."""
        return sample_frames(self.source, len(self), count, rng)

    def of_account(self, account: Account) -> list[Entry]:
        """The ledger entries of one account, in order."""
        return [entry for entry in self.entries if entry.account == account]


def held(frames: Frames) -> dict[str, Any]:
    """The fields ``source`` and ``series`` of a record whose frames are in memory."""
    return {"source": Held(frames), "series": series_of(frames)}


def read_config(run: RunDirectory) -> Config:
    """Read the resolved configuration of a run.

    Raises:
        AuditError: it is missing or not valid.
    """
    try:
        return load_config(run.config)
    except ConfigError as error:
        raise AuditError(
            f"{run.config} cannot be read as the configuration of a run: {error.what}",
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
    if not tables["segments"]:
        raise RunDirectoryError(f"the run in {run.root} holds no frames yet", cure="let it run past the first commit")
    particles = read_particles(run.root / tables["segments"][0].file)
    _check_regions(run, tables["regions"], len(particles.numbers))
    source, series = open_segments(run.root, tables["segments"], len(particles.numbers))
    config = read_config(run)
    mixed = potential_of(read_archive(run.root, config.ensemble.platform)) if has_archive(run.root) else None
    return Record(config=config, source=source, series=series, particles=particles, mixed=mixed, **tables)


def _check_regions(run: RunDirectory, rows: list[RegionRow], atoms: int) -> None:
    """Regions are of atoms that there are.

    Raises:
        RunDirectoryError: one is not.
    """
    for row in rows:
        if any(not 0 <= atom < atoms for atom in (*row.core, *row.atoms)):
            raise RunDirectoryError(
                f"{run.database}, region {row.epoch} names an atom beyond the {atoms} of the run",
                cure="restore run.db from a copy of the run directory",
            )


def read_tables(run: RunDirectory) -> dict[str, Any]:
    """All tables of ``run.db`` by name.

    Raises:
        RunDirectoryError: this is no run directory.
    """
    database = run.open_database()
    try:
        tables = {name: getattr(database, name)() for name in TABLES}
        voided = {name: getattr(database, name)(void=True) for name in VOIDABLE}
        return {**tables, "voided": Voided(**voided)}
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


def region_sizes(record: Record) -> tuple[Ints, Ints]:
    """Number of core atoms, and of all atoms of the region, in each frame, shape (f,) each."""
    sizes = {row.epoch: (len(set(row.core)), len({*row.core, *row.atoms})) for row in record.regions}
    found = np.array([sizes.get(int(epoch), (0, 0)) for epoch in record.series.region_epoch], dtype=np.int64)
    return found[:, 0], found[:, 1]
