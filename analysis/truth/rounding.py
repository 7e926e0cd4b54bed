"""How closely two evaluations of one model must agree: measured, not guessed.

On up to eight frames the final model is evaluated in double precision, and in single precision at positions rounded to
single (what a GPU may be handed). Each difference is one draw of the rounding error. An energy may deviate by ten root
mean squares of those draws: seven standard deviations of a difference of two evaluations, and still more than two if
eight draws happen to underestimate the spread by a factor of three (one case in a thousand, χ²₈). A force component may
deviate by five times the largest of all draws; every component is one, so that of large systems two frames are enough.
In a run of double precision both scale with the ratio of the machine epsilons, down to a floor.
"""

from dataclasses import dataclass

import numpy as np

from ...ensemble.batch import BatchOutput
from ...ensemble.model import AniEnsemble
from ...ensemble.weights import Precision, load
from ...records.frames import Frames
from ...records.run_directory import RunDirectory
from ...units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
from ..blocks import take
from ..record import Record

#: Frames whose energies are drawn, and atoms whose forces are.
NOISE_FRAMES, NOISE_ATOMS = 8, 1200
ENERGY_FACTOR = 10.0
FORCE_FACTOR = 5.0
FORCE_FLOOR_EV_PER_A = 1e-7
PRECISIONS: tuple[Precision, Precision] = ("single", "double")
EPSILON_RATIO = float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far two evaluations of one model on one frame may differ: energy in kJ/mol, a force component in eV/Å."""

    energy: float
    force: float


def measure_tolerance(run: RunDirectory, record: Record) -> Tolerance:
    """Measure rounding on a few frames, as the head of this module says."""
    frames = record.rows(_spread(len(record), NOISE_FRAMES))
    frames = take(frames, np.flatnonzero(np.isfinite(frames.positions).all(axis=(1, 2))))
    some = _spread(len(frames), -(-NOISE_ATOMS // record.atoms))
    others = np.setdiff1d(np.arange(len(frames)), some)
    energies, forces = np.zeros(0), np.zeros(0)
    path = str(run.model(record.final_model))
    models = {precision: load(path, precision) for precision in PRECISIONS}
    for chosen in (some, others):
        if len(chosen):
            single, double = (
                _evaluated(models, kind, record, take(frames, chosen), chosen is some) for kind in PRECISIONS
            )
            energies = np.concatenate([energies, single.energy - double.energy])
            if single.forces is not None and double.forces is not None:
                forces = np.abs(single.forces - double.forces).ravel()
    scale = 1.0 if record.config.ensemble.precision == "single" else EPSILON_RATIO
    energy = ENERGY_FACTOR * scale * float(np.sqrt(np.mean(np.square(energies)))) if len(energies) else 0.0
    force = FORCE_FACTOR * scale * float(forces.max(initial=0.0)) * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
    floor = record.config.audit.identity_kj_per_mol
    return Tolerance(energy=max(energy, floor), force=max(force, FORCE_FLOOR_EV_PER_A))


def _spread(total: int, count: int) -> np.ndarray:
    """So many numbers below a total, evenly from the first to the last; all if there are not so many."""
    return (
        np.unique(np.linspace(0, total - 1, count).round().astype(np.int64)) if total else np.zeros(0, dtype=np.int64)
    )


def _evaluated(
    models: dict[Precision, AniEnsemble], precision: Precision, record: Record, frames: Frames, forces: bool
) -> BatchOutput:
    positions = frames.positions
    if precision == "single":
        positions = positions.astype(np.float32).astype(np.float64)
    boxes = frames.box if record.particles.periodic else None
    (out,) = record.potential.evaluate_models([models[precision]], positions, boxes, forces=forces)
    return out
