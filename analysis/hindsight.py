"""Hindsight: which stretch, run on which model, does the final model disown, and from where must it be run again?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .forces import ForceErrors
from .record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Stint:
    """Neighbouring frames that ran on one model, or on one blend of two.

    Attributes:
        model: that moved the atoms.
        blend: that was being blended in; empty outside a ramp.
        first_step, last_step: of the frames.
        first_segment, last_segment: numbers of the segments that hold them.
        frames: number of frames.
        evaluated: of those whose forces were evaluated.
        out: of those out of tolerance.
        first_out: step of the first of them; None if there is none.
        force_rmse, force_maxresid: against the final model, over the evaluated frames, eV/Å; NaN if there are none.
    """

    model: str
    blend: str
    first_step: int
    last_step: int
    first_segment: int
    last_segment: int
    frames: int
    evaluated: int
    out: int
    first_out: int | None
    force_rmse: float
    force_maxresid: float


def stints(record: Record, errors: ForceErrors, out: NDArray[np.bool_]) -> list[Stint]:
    """All frames of a run, gathered by the model that they ran on.

    Args:
        record: of the run.
        errors: of the forces.
        out: whether each frame is out of tolerance, shape (f,).
    """
    series = record.series
    named = list(zip(series.model_id, series.blend_id, strict=True))
    begins = [i for i in range(len(named)) if i == 0 or named[i] != named[i - 1]]
    found = []
    for start, stop in zip(begins, [*begins[1:], len(named)], strict=True):
        rows = np.arange(start, stop)
        known = rows[errors.evaluated[rows]]
        bad = rows[out[rows]]
        segments = [_number(record, int(series.segment[i])) for i in (rows[0], rows[-1])]
        found.append(
            Stint(
                model=named[start][0],
                blend=named[start][1],
                first_step=int(series.step[rows[0]]),
                last_step=int(series.step[rows[-1]]),
                first_segment=segments[0],
                last_segment=segments[1],
                frames=len(rows),
                evaluated=len(known),
                out=len(bad),
                first_out=int(series.step[bad[0]]) if len(bad) else None,
                # All frames have the same number of components.
                force_rmse=float(np.sqrt((errors.rmse[known] ** 2).mean())) if len(known) else np.nan,
                force_maxresid=float(errors.largest[known].max()) if len(known) else np.nan,
            )
        )
    return found


def _number(record: Record, k: int) -> int:
    return record.segments[k].id if k < len(record.segments) else k


def resimulate_from(record: Record, errors: ForceErrors, out: NDArray[np.bool_]) -> int | None:
    """Step from which the run must be simulated again; None if every frame is within tolerance.

    It is that of the last stored frame before the first one out of tolerance: the last that is known to be right, so
    one whose forces were evaluated. If there is no frame before, it is the first frame of the run.
    """
    bad = np.flatnonzero(out)
    if not len(bad):
        return None
    good = np.flatnonzero(errors.evaluated[: bad[0]])
    return int(record.series.step[good[-1] if len(good) else 0])


def advice(root: Path, step: int | None) -> str:
    """What to do about frames out of tolerance, as the end of a sentence; empty if there are none."""
    if step is None:
        return ""
    return f"; simulate again from step {step} on the final model: `qmml run --from {root}@{step}`"
