"""Frames a few at a time: what an audit reads is bounded, however long the run was."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import AuditError
from ..records.frames import Floats, Frames, Ints, concatenate
from ..records.rows import SegmentRow
from ..records.segment import SCALARS, read_blocks, read_rows, read_scalars

#: Atoms of a block, all frames together: some megabytes of arrays.
BLOCK_ATOMS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What a run holds of each frame except arrays over atoms; shape (f,) each, attributes as in ``Frames``.

    Attributes:
        segment: position in the list of segments of the segment that holds the frame.
    """

    step: Ints
    time: Floats
    potential_used: Floats
    kinetic: Floats
    conserved: Floats
    entries: Ints
    region_epoch: Ints
    blend: Floats
    model_id: tuple[str, ...]
    blend_id: tuple[str, ...]
    segment: Ints

    def __len__(self) -> int:
        return len(self.step)

    def frame_of(self) -> dict[int, int]:
        """Number of the frame by step."""
        return {int(step): i for i, step in enumerate(self.step)}


class Source(Protocol):
    """Where frames come from."""

    def blocks(self) -> Iterator[Frames]:
        """All frames in order; a block has at least one frame, and all of its frames ran on one model (or blend)."""

    def rows(self, chosen: Ints) -> Frames:
        """The frames with these increasing numbers."""


@dataclass(frozen=True, slots=True)
class Held:
    """Frames that are in memory already."""

    frames: Frames

    def blocks(self) -> Iterator[Frames]:
        """As of ``Source``."""
        segment = series_of(self.frames).segment
        for k in np.unique(segment):
            rows = np.flatnonzero(segment == k)
            size = block_size(self.frames.atoms)
            for start in range(0, len(rows), size):
                yield take(self.frames, rows[start : start + size])

    def rows(self, chosen: Ints) -> Frames:
        """As of ``Source``."""
        return take(self.frames, chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFiles:
    """Frames that lie in the segments of a run.

    Attributes:
        root: of the run.
        segments: in order of time.
        counts: frames that the file of each segment holds.
        atoms: of each frame.
    """

    root: Path
    segments: tuple[SegmentRow, ...]
    counts: tuple[int, ...]
    atoms: int

    def blocks(self) -> Iterator[Frames]:
        """As of ``Source``."""
        for row in self.segments:
            for block in read_blocks(self.root / row.file, block_size(self.atoms)):
                if len(block):
                    yield block

    def rows(self, chosen: Ints) -> Frames:
        """As of ``Source``."""
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        owner = np.searchsorted(starts, chosen, side="right") - 1
        return concatenate(
            [read_rows(self.root / self.segments[k].file, chosen[owner == k] - starts[k]) for k in np.unique(owner)]
        )


def series_of(frames: Frames) -> Series:
    """What is known of each frame without its arrays; a change of model begins another segment."""
    named = list(zip(frames.model_id, frames.blend_id, strict=True))
    changes = [i > 0 and named[i] != named[i - 1] for i in range(len(named))]
    scalars = {name: getattr(frames, name) for name in SCALARS}
    segment = np.cumsum(changes, dtype=np.int64)
    return Series(**scalars, model_id=frames.model_id, blend_id=frames.blend_id, segment=segment)


def open_segments(root: Path, segments: list[SegmentRow], atoms: int) -> tuple[SegmentFiles, Series]:
    """The frames of a run, and what is known of each without its arrays.

    Args:
        root: of the run.
        segments: in order of time.
        atoms: of each frame.

    Raises:
        RunDirectoryError: a segment is missing, or is none.
    """
    found = [read_scalars(root / row.file) for row in segments]
    counts = tuple(len(arrays["step"]) for arrays, _, _ in found)
    joined: dict[str, Any] = {name: np.concatenate([arrays[name] for arrays, _, _ in found]) for name in SCALARS}
    series = Series(
        **joined,
        model_id=tuple(model for count, (_, model, _) in zip(counts, found, strict=True) for _ in range(count)),
        blend_id=tuple(blend for count, (_, _, blend) in zip(counts, found, strict=True) for _ in range(count)),
        segment=np.repeat(np.arange(len(found)), counts),
    )
    return SegmentFiles(root=root, segments=tuple(segments), counts=counts, atoms=atoms), series


def block_size(atoms: int) -> int:
    """Frames in a block."""
    return max(1, BLOCK_ATOMS // max(1, atoms))


def take(frames: Frames, chosen: Ints) -> Frames:
    """Some of the frames, by number."""
    found: dict[str, Any] = {}
    for field in fields(Frames):
        values = getattr(frames, field.name)
        found[field.name] = tuple(values[i] for i in chosen) if isinstance(values, tuple) else values[chosen]
    return Frames(**found)


def sample_frames(source: Source, total: int, count: int, rng: np.random.Generator) -> Frames:
    """Frames drawn at random without return, in order of time; only those are read.

    Args:
        source: of the frames.
        total: number of frames that it has.
        count: how many to draw; all of them if there are not so many.
        rng: the random stream.

    Raises:
        AuditError: there is no frame.
    """
    if total < 1:
        raise AuditError("there is no frame to look at", cure="let the run go past its first commit")
    return source.rows(np.sort(rng.choice(total, size=min(count, total), replace=False)))
