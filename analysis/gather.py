"""Everything that an audit measures, in one pass over the frames.

Frames come a few at a time and are gone when the next ones come: what is kept are numbers for each frame, sums, and the
forces of the final model in a file.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records.frames import ARRAYS, Floats, Frames
from ..records.run_directory import RunDirectory
from ..units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
from .conservation.drift import DriftUnits, Slope, slope
from .conservation.identity import Stretch, stretches
from .final_model import FinalModelFile
from .forces import ForceErrors, ForceTally, out_of_tolerance
from .hindsight import Stint, resimulate_from, stints
from .probes.probing import Motions, watch
from .record import Record, region_flags
from .truth.motion import Motion
from .truth.reconcile import Reconciliation, kinetic_energies, reconcile
from .truth.replay import Replay, Replayer
from .truth.retrace import Retraced, retrace
from .truth.rounding import Tolerance, measure_tolerance
from .truth.steps import Steps, StepTally
from .truth.updates import Update, updates

#: Told (frames done, frames in all).
ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was measured, before it is judged.

    Attributes:
        record: of the run.
        replayed: energies and deviations of each frame.
        updates: the changes of model, booked and recomputed.
        books: both sides of the identity.
        forces: of the final model against those used.
        unexplained: motion between neighbouring frames that is not explained, shape (f − 1,).
        motions: momentum and bonds of each frame, for the probes.
        steps: what single steps between frames leave unexplained.
        retraced: intervals between sparse frames, run again.
        not_finite: names of the arrays of ``Frames`` that hold a number that is not finite.
        max_disagreement: largest σ of each frame, eV/Å, shape (f,); NaN where it was not computed.
        drift_conserved, drift_final: slopes of H̃ and H_f.
        units: of the slopes.
        stretches: both sides of the drift identity.
        out: whether each frame is out of a force tolerance, shape (f,).
        stints: the frames by the model that they ran on.
        resimulate_from: step from which the run must be simulated again; None if no frame is out of tolerance.
    """

    record: Record
    replayed: Replay
    updates: tuple[Update, ...]
    books: Reconciliation
    forces: ForceErrors
    unexplained: Floats
    motions: Motions
    steps: Steps
    retraced: tuple[Retraced, ...]
    not_finite: frozenset[str]
    max_disagreement: Floats
    drift_conserved: Slope
    drift_final: Slope
    units: DriftUnits
    stretches: list[Stretch]
    out: NDArray[np.bool_]
    stints: list[Stint]
    resimulate_from: int | None


class Pass:
    """What is collected while the frames go by.

    Attributes:
        done: frames so far.
        kinetic: recomputed, kJ/mol, shape (f,).
        disagreement: largest σ of each frame, eV/Å, shape (f,).
    """

    def __init__(
        self, run: RunDirectory, record: Record, keep: FinalModelFile, tolerance: Tolerance, forces_every: int
    ) -> None:
        self._record = record
        self._keep = keep
        self.replayer = Replayer(run, record, forces_every)
        self.tally = ForceTally(record.particles.numbers, len(record))
        self.motion, self.motions = Motion(record), watch(record)
        self.steps = StepTally(record, tolerance.force)
        self.kinetic, self.disagreement = np.empty(len(record)), np.empty(len(record))
        self.not_finite: set[str] = set()
        self.done = 0

    def add(self, block: Frames) -> None:
        """Look at the next frames."""
        record, done = self._record, self.done
        rows = slice(done, done + len(block))
        chosen, forces = self.replayer.block(done, block)
        self._keep.append(block.step[chosen], forces)
        residual = (forces - block.forces_used[chosen]) * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
        self.tally.add(done + chosen, block.step[chosen], residual, region_flags(block, record.regions)[chosen])
        self.motion.add(block)
        self.motions.add(done, block, record.particles.masses)
        self.steps.add(block)
        self.kinetic[rows] = kinetic_energies(block.velocities, record.particles.masses)
        self.disagreement[rows] = block.disagreement.max(axis=1)
        self.not_finite |= {
            name for name in ARRAYS if name != "disagreement" and not np.isfinite(getattr(block, name)).all()
        }
        self.done += len(block)


def gather(
    run: RunDirectory,
    record: Record,
    keep: FinalModelFile,
    *,
    forces_every: int,
    progress: ProgressCallback | None = None,
) -> Evidence:
    """Measure everything.

    Args:
        run: the run.
        record: what it wrote down.
        keep: where energies and forces of the final model go.
        forces_every: forces on one frame in so many; energies on every one.
        progress: told (frames done, frames in all) after each frame.
    """
    tolerance = measure_tolerance(run, record)
    seen = Pass(run, record, keep, tolerance, forces_every)
    for block in record.blocks():
        seen.add(block)
        for i in range(len(block)):
            if progress is not None:
                progress(seen.done - len(block) + i + 1, len(record))
    replayed = seen.replayer.finish(tolerance)
    keep.energies(record.series.step, replayed.potential_final)
    books = reconcile(record, seen.kinetic, replayed.potential_final)
    errors = seen.tally.errors()
    out = out_of_tolerance(errors, record.config.audit)
    return Evidence(
        record=record,
        replayed=replayed,
        updates=updates(record, replayed.jumps),
        books=books,
        forces=errors,
        unexplained=seen.motion.unexplained(),
        motions=seen.motions,
        steps=seen.steps.steps(),
        retraced=tuple(retrace(run, record, tolerance.force)),
        not_finite=frozenset(seen.not_finite),
        max_disagreement=seen.disagreement,
        drift_conserved=slope(record.series.time, record.series.conserved),
        drift_final=slope(record.series.time, books.final_total),
        units=DriftUnits(
            atoms=record.atoms,
            degrees_of_freedom=record.particles.degrees_of_freedom,
            temperature=record.config.dynamics.temperature_K,
        ),
        stretches=stretches(record, replayed),
        out=out,
        stints=stints(record, errors, out),
        resimulate_from=resimulate_from(record, errors, out),
    )
