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
from .drift import DriftUnits, Slope, slope
from .final_model import FinalModelFile
from .forces import ForceErrors, ForceTally, out_of_tolerance
from .hindsight import Stint, resimulate_from, stints
from .identity import Stretch, stretches
from .motion import Motion
from .probing import Motions, watch
from .reconcile import Reconciliation, kinetic_energies, reconcile
from .record import Record, region_flags
from .replay import Replay, Replayer
from .retrace import Retraced, retrace
from .rounding import measure_tolerance
from .steps import Steps, StepTally
from .updates import Update, updates

#: Told (frames done, frames in all).
ProgressCallback = Callable[[int, int], None]

#: Frames that are drawn for the checks that look closely at a few.
SAMPLE_FRAMES, SAMPLE_SEED = 16, 20181


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
        sample: frames drawn at random, for checks that look closely at a few.
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
    sample: Frames


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
    replayer, steps = Replayer(run, record, forces_every), StepTally(record, tolerance.force)
    tally, motion, motions = ForceTally(record.particles.numbers, len(record)), Motion(record), watch(record)
    kinetic, disagreement = np.empty(len(record)), np.empty(len(record))
    not_finite: set[str] = set()
    done = 0
    for block in record.blocks():
        rows = slice(done, done + len(block))
        chosen, forces = replayer.block(done, block)
        keep.append(block.step[chosen], forces)
        residual = (forces - block.forces_used[chosen]) * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
        tally.add(done + chosen, block.step[chosen], residual, region_flags(block, record.regions)[chosen])
        motion.add(block)
        motions.add(done, block, record.particles.masses)
        steps.add(block)
        kinetic[rows] = kinetic_energies(block.velocities, record.particles.masses)
        disagreement[rows] = block.disagreement.max(axis=1)
        not_finite |= {
            name for name in ARRAYS if name != "disagreement" and not np.isfinite(getattr(block, name)).all()
        }
        for _ in range(len(block)):
            done += 1
            if progress is not None:
                progress(done, len(record))
    replayed = replayer.finish(tolerance)
    keep.energies(record.series.step, replayed.potential_final)
    books = reconcile(record, kinetic, replayed.potential_final)
    errors = tally.errors()
    out = out_of_tolerance(errors, record.config.audit)
    return Evidence(
        record=record,
        replayed=replayed,
        updates=updates(record, replayed.jumps),
        books=books,
        forces=errors,
        unexplained=motion.unexplained(),
        motions=motions,
        steps=steps.steps(),
        retraced=tuple(retrace(run, record, tolerance.force)),
        not_finite=frozenset(not_finite),
        max_disagreement=disagreement,
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
        sample=record.sample(SAMPLE_FRAMES, np.random.default_rng(SAMPLE_SEED)),
    )
