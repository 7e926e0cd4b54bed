"""The frames of the stretch since the last look, from which labels are chosen; bounded, and rebuilt on resuming."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..records.rows import SegmentRow
from ..records.segment import read_segment
from ..system.molecules import Molecules

#: Most frames that are remembered. When there are more, every second one goes.
MOST_FRAMES = 8


@dataclass(slots=True)
class Stretch:
    """An even sample of the stored frames of a stretch, in the order of time; never more than ``MOST_FRAMES``.

    Attributes:
        steps: of the frames that are kept.
        frames: positions and box then.
    """

    steps: list[int] = field(default_factory=list)
    frames: list[Molecules] = field(default_factory=list)
    _offered: int = 0
    _stride: int = 1

    def offer(self, step: int, frame: Molecules) -> None:
        """Consider the next frame."""
        if self._offered % self._stride == 0:
            self.steps.append(step)
            self.frames.append(frame)
        self._offered += 1
        if len(self.steps) > MOST_FRAMES:
            del self.steps[1::2], self.frames[1::2]
            self._stride *= 2

    def clear(self) -> None:
        """Begin a new stretch."""
        self.steps.clear()
        self.frames.clear()
        self._offered, self._stride = 0, 1

    def __iter__(self) -> Iterator[tuple[int, Molecules]]:
        return iter(list(zip(self.steps, self.frames, strict=True)))


def refill(stretch: Stretch, segments: Sequence[SegmentRow], root: Path, looked: int, molecules: Molecules) -> None:
    """Take the frames after the last look back from the segments: what a run that was not interrupted remembers.

    Args:
        stretch: empty.
        segments: that count, in order.
        root: run directory.
        looked: step of the last look.
        molecules: what is simulated.

    Raises:
        RunDirectoryError: a segment cannot be read.
    """
    for row in segments:
        if row.last_step <= looked:
            continue
        frames = read_segment(root / row.file)
        for step, positions, box in zip(frames.step, frames.positions, frames.box, strict=True):
            if step > looked:
                stretch.offer(int(step), molecules.at(positions, box))
