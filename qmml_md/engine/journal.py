"""What has happened since the last commit, and the commit that makes it true."""

import errno
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import CannotCommit
from ..records.books import Books, Entry
from ..records.database import Commit, RunDatabase
from ..records.durable import sha256_of
from ..records.frames import Frame, stack
from ..records.rows import CheckpointRow, Event, LabelRow, ModelRow, Place, RegionRow, SegmentRow
from ..records.run_directory import RunDirectory
from ..records.segment import Particles, write_segment
from .checkpoint import KEPT, MANIFEST, Checkpoint, forget_old, write_checkpoint

#: What a commit takes beside its frames and its checkpoint, with room for the one after it, bytes.
ROOM_BYTES = 8e6


@dataclass(slots=True)
class Timings:
    """Wall time (s) and calls by part of the run, summed over restarts."""

    parts: dict[str, tuple[float, int]] = field(default_factory=dict)

    @contextmanager
    def measure(self, part: str, calls: int = 1) -> Iterator[None]:
        """Add the time spent inside to ``part``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, time.perf_counter() - began, calls)

    def add(self, part: str, seconds: float, calls: int = 1) -> None:
        """Add to ``part``."""
        spent, count = self.parts.get(part, (0.0, 0))
        self.parts[part] = (spent + seconds, count + calls)


@dataclass(slots=True)
class _Pending:
    frames: list[Frame] = field(default_factory=list)
    model_id: str = ""
    blend_id: str = ""
    events: list[Event] = field(default_factory=list)
    regions: list[RegionRow] = field(default_factory=list)
    models: list[ModelRow] = field(default_factory=list)
    labels: list[LabelRow] = field(default_factory=list)
    discarded_segment: SegmentRow | None = None
    discarded_entries: tuple[Entry, ...] = ()
    rewind_to: Place | None = None


class Journal:
    """Collects frames, entries and events, and commits them together with a checkpoint.

    Attributes:
        run: the run directory.
        particles: what stays the same in all frames.
        books: the ledger of the whole run.
        timings: where the time went.
        next_checkpoint: number of the checkpoint that the next commit writes.
        run_id: name of the run, wherever its folder lies.
    """

    def __init__(self, run: RunDirectory, database: RunDatabase, particles: Particles) -> None:
        self.run = run
        self._database = database
        self.run_id = str(database.meta("run_id") or "")
        self.particles = particles
        self._pending = _Pending()
        self._segments = database.next_segment()
        self._of_model = {row.model: row.id for row in database.checkpoints()}
        self.next_checkpoint = 1 + max(self._of_model.values(), default=-1)
        self._checkpoint_bytes = 0
        self._place = database.place()
        self.books = Books(tuple(database.entries()))
        self._committed_entries = self.books.count
        self.timings = Timings(dict(database.timings()))

    def post(self, entry: Entry) -> None:
        """Book an exchange of energy."""
        self.books.post(entry)

    def frame(self, frame: Frame, model_id: str, blend_id: str = "") -> None:
        """Store a frame that ran on a model, or on a blend of two.

        After a change of model a commit must come before the next frame.
        """
        self._pending.frames.append(frame)
        self._pending.model_id, self._pending.blend_id = model_id, blend_id

    def event(self, event: Event) -> None:
        """Note something that happened."""
        self._pending.events.append(event)

    def region(self, row: RegionRow) -> None:
        """Note that the region changed."""
        self._pending.regions.append(row)

    def label(self, row: LabelRow) -> None:
        """Note a label and its prequential score."""
        self._pending.labels.append(row)

    def model(self, row: ModelRow) -> None:
        """Note that the atoms move on another model from here on."""
        self._pending.models.append(row)

    def place(self) -> Place:
        """How much will be true once everything since the last commit is."""
        return Place(
            entries=self.books.count,
            segments=self._place.segments + bool(self._pending.frames),
            models=self._place.models + len(self._pending.models),
        )

    def rewind(self, place: Place) -> tuple[int, int]:
        """Go back to a place: with the next commit all frames and entries after it are discarded, but kept.

        Returns:
            Numbers of entries and of segments that are discarded.

        Raises:
            CannotCommit: the frames of the stretch cannot be written.
        """
        now, pending = self.place(), self._pending
        try:
            pending.discarded_segment = self._write_segment()
        except OSError as error:
            raise self._cannot_write(error) from error
        pending.discarded_entries = self.books.entries[self._committed_entries :]
        pending.rewind_to = place
        pending.frames, pending.models = [], []
        self._segments += pending.discarded_segment is not None
        self.books = self.books.until(place.entries)
        self._committed_entries = place.entries
        self._place = place
        return now.entries - place.entries, now.segments - place.segments

    def commit(self, checkpoint: Checkpoint, *, good: int | None = None) -> None:
        """Make everything since the last commit true.

        Args:
            checkpoint: the state to resume from.
            good: number of the checkpoint that a rewind would go back to.

        Raises:
            CannotCommit: the disk is full or cannot be written; what was committed before stays whole.
        """
        number, model = self.next_checkpoint, str(checkpoint.state["model_id"])
        kept = {each for other, each in self._of_model.items() if other != model}
        kept |= {*range(max(0, number - KEPT + 1), number + 1), number if good is None else good}
        try:
            with self.timings.measure("io"):
                self._check_room()
                segment = self._write_segment()
                folder = write_checkpoint(self.run.checkpoint(number), checkpoint)
                self._checkpoint_bytes = sum(file.stat().st_size for file in folder.iterdir())
            digest = sha256_of(folder / MANIFEST)
            row = CheckpointRow(id=number, step=checkpoint.step, folder=folder.name, sha256=digest, model=model)
            self._database.commit(self._as_commit(segment, row, sorted(kept)))
        except (OSError, sqlite3.Error) as error:
            raise self._cannot_write(error) from error
        self._place = self.place()
        self._segments += segment is not None
        self.next_checkpoint += 1
        self._of_model[model] = number
        self._committed_entries = self.books.count
        self._pending = _Pending()
        self._tidy(kept)

    def _tidy(self, kept: set[int]) -> None:
        """Remove what the commit has made superfluous."""
        try:
            self.run.born()
            forget_old(self.run, kept)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _check_room(self) -> None:
        frames = self._pending.frames
        # Three vectors and the disagreement of each atom.
        needed = sum(4 * frame.positions.nbytes for frame in frames) + self._checkpoint_bytes + ROOM_BYTES
        free = shutil.disk_usage(self.run.root).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{free / 1e6:.1f} MB are free, a commit may need {needed / 1e6:.1f} MB")

    def _cannot_write(self, error: Exception) -> CannotCommit:
        return CannotCommit(
            f"the run directory {self.run.root} cannot be written: {error}",
            cure=f"free some space or make it writable, then `qmml resume {self.run.root}`: everything up to the "
            "last commit is whole",
        )

    def _write_segment(self) -> SegmentRow | None:
        frames, model_id, blend_id = self._pending.frames, self._pending.model_id, self._pending.blend_id
        if not frames:
            return None
        path = self.run.segment(self._segments)
        # A file under this name was written but never committed: it did not happen.
        path.unlink(missing_ok=True)
        digest = write_segment(path, stack(frames, model_id, blend_id), self.particles)
        return SegmentRow(
            id=self._segments,
            first_step=frames[0].step,
            last_step=frames[-1].step,
            frames=len(frames),
            model=model_id,
            blend=blend_id,
            file=str(path.relative_to(self.run.root)),
            sha256=digest,
        )

    def _as_commit(self, segment: SegmentRow | None, checkpoint: CheckpointRow, kept: list[int]) -> Commit:
        pending = self._pending
        return Commit(
            discarded_segment=pending.discarded_segment,
            discarded_entries=pending.discarded_entries,
            rewind_to=pending.rewind_to,
            segment=segment,
            entries=self.books.entries[self._committed_entries :],
            events=pending.events,
            regions=pending.regions,
            models=pending.models,
            labels=pending.labels,
            timings=self.timings.parts,
            checkpoint=checkpoint,
            meta={"kept_checkpoints": kept},
        )

    def close(self) -> None:
        """Release the database."""
        self._database.close()
