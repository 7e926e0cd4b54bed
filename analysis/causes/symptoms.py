"""What a failed audit shows, gathered for a diagnosis: series of the record, and a close look at suspicious frames.

Few frames are evaluated again, each under several hypotheses: with the models of the run that the frame does not name,
at the positions and in the boxes of neighbouring frames, without images across the border, with another unit of length.
A hypothesis that gives what is stored is worth more than any statistics.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...ensemble.model import AniEnsemble
from ...records.frames import Floats, Frames, Ints
from ...records.run_directory import RunDirectory
from ...units import ANGSTROM_PER_BOHR, ANGSTROM_PER_NM, EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
from ..conservation.fluctuation import fluctuation_ratio
from ..findings import Check, Status
from ..record import Record
from ..truth.motion import broken
from ..truth.replay import Replay, Shelf
from ..truth.retrace import Retraced
from ..truth.steps import BREAKS, Steps

#: Frames that are looked at closely.
CLOSE_FRAMES = 12
#: Kinetic energies that differ by less agree.
KINETIC_OFF = 1e-6
#: Units of length that positions may have been stored in, as factors to nm.
LENGTHS = {
    "Å for nm": 1.0 / ANGSTROM_PER_NM,
    "nm for Å": ANGSTROM_PER_NM,
    "bohr for nm": ANGSTROM_PER_BOHR / ANGSTROM_PER_NM,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Suspicious frames under a magnifying glass.

    Attributes:
        stored, recomputed: forces, kJ/mol/nm, shape (c, n, 3).
        stored_energy, energy: kJ/mol, shape (c,).
        positions: nm, shape (c, n, 3).
        matches: hypotheses that give what is stored, with the number of frames that they explain.
    """

    stored: Floats
    recomputed: Floats
    stored_energy: Floats
    energy: Floats
    positions: Floats
    matches: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptoms:
    """What there is to diagnose from; what is not known is None or NaN.

    Attributes:
        failed: names of the checks that failed.
        integrator: of the configuration.
        timestep_fs: likewise.
        step, segment: of each frame, shape (f,).
        time: ps, shape (f,).
        energy_deviation: recomputed minus stored, kJ/mol, shape (f,).
        force_deviation: largest component, eV/Å, shape (f,).
        energy_tolerance, force_tolerance: of these.
        potential_used, kinetic, conserved: as stored, kJ/mol, shape (f,).
        identity_residual: kJ/mol, shape (f,).
        kinetic_ratio: ½ Σ m v² over the stored kinetic energy, median over the frames where it is not one.
        unexplained: motion between frames, shape (f − 1,).
        fluctuation: of H̃ beside the kinetic energy.
        steps: single steps.
        close: suspicious frames.
        retraced: intervals that were run again.
    """

    failed: frozenset[str]
    integrator: str = "verlet"
    timestep_fs: float = math.nan
    step: Ints | None = None
    segment: Ints | None = None
    time: Floats | None = None
    energy_deviation: Floats | None = None
    force_deviation: Floats | None = None
    energy_tolerance: float = math.nan
    force_tolerance: float = math.nan
    potential_used: Floats | None = None
    kinetic: Floats | None = None
    conserved: Floats | None = None
    identity_residual: Floats | None = None
    kinetic_ratio: float = math.nan
    unexplained: Floats | None = None
    fluctuation: float = math.nan
    steps: Steps | None = None
    close: Close | None = None
    retraced: tuple[Retraced, ...] = ()


def symptoms(
    run: RunDirectory,
    record: Record,
    replayed: Replay,
    checks: Sequence[Check],
    *,
    kinetic: Floats,
    residual: Floats,
    unexplained: Floats,
    steps: Steps | None = None,
    retraced: Sequence[Retraced] = (),
) -> Symptoms:
    """Gather what a run shows.

    Args:
        run: the run.
        record: what it wrote down.
        replayed: its frames, evaluated again.
        checks: all judgements.
        kinetic: recomputed from velocities, kJ/mol, shape (f,).
        residual: of the identity, kJ/mol, shape (f,).
        unexplained: motion between frames, shape (f − 1,).
        steps: single steps, if they were looked at.
        retraced: intervals that were run again, if any were.
    """
    series = record.series
    quiet = ~broken(record, BREAKS)
    ratio = kinetic / np.where(series.kinetic != 0.0, series.kinetic, np.nan)
    off = ratio[np.abs(ratio - 1.0) > KINETIC_OFF]
    return Symptoms(
        failed=frozenset(check.name for check in checks if check.status == Status.FAIL),
        integrator=record.config.dynamics.integrator,
        timestep_fs=record.config.dynamics.timestep_fs,
        step=series.step,
        segment=series.segment,
        time=series.time,
        energy_deviation=replayed.energy_deviation,
        force_deviation=replayed.force_deviation,
        energy_tolerance=replayed.tolerance.energy,
        force_tolerance=replayed.tolerance.force,
        potential_used=series.potential_used,
        kinetic=series.kinetic,
        conserved=series.conserved,
        identity_residual=residual,
        kinetic_ratio=float(np.median(off)) if len(off) else 1.0,
        unexplained=unexplained,
        fluctuation=fluctuation_ratio(np.diff(series.conserved)[quiet], np.diff(series.kinetic)[quiet]),
        steps=steps,
        close=close_look(run, record, replayed),
        retraced=tuple(retraced),
    )


def suspicious(replayed: Replay) -> Ints:
    """Numbers of the frames that their model does not explain, at most ``CLOSE_FRAMES``, spread over all of them."""
    limit = replayed.tolerance
    energy, force = np.abs(replayed.energy_deviation), replayed.force_deviation
    bad = np.flatnonzero((energy > limit.energy) | (force > limit.force))
    chosen = np.unique(np.linspace(0, len(bad) - 1, min(CLOSE_FRAMES, len(bad))).round().astype(int))
    result: Ints = bad[chosen]
    return result


def close_look(run: RunDirectory, record: Record, replayed: Replay) -> Close | None:
    """Evaluate suspicious frames under all hypotheses; None where there are none, or no model to do it with."""
    rows = suspicious(replayed)
    shelf = Shelf(run, record.config, record.final_model)
    if not len(rows) or any(shelf.get(row.id) is None for row in record.models):
        return None
    frames = record.rows(rows)
    glass = _Glass(record, shelf, replayed)
    outs = [glass.as_named(frames, k) for k in range(len(rows))]
    matches: dict[str, int] = {}
    for k, row in enumerate(rows):
        for name in glass.explanations(frames, k, int(row)):
            matches[name] = matches.get(name, 0) + 1
    return Close(
        stored=frames.forces_used,
        recomputed=np.array([forces for _, forces in outs]),
        stored_energy=frames.potential_used,
        energy=np.array([energy for energy, _ in outs]),
        positions=frames.positions,
        matches=matches,
    )


class _Glass:
    """Evaluates single frames of a record in other ways than they claim."""

    def __init__(self, record: Record, shelf: Shelf, replayed: Replay) -> None:
        self._record, self._shelf, self._limit = record, shelf, replayed.tolerance

    def as_named(self, frames: Frames, k: int) -> tuple[float, Floats]:
        """Energy and forces of the model, or blend, that a frame names."""
        box = frames.box[k]
        energy, forces = self._evaluate(frames.model_id[k], frames.positions[k], box)
        if frames.blend_id[k]:
            new = self._evaluate(frames.blend_id[k], frames.positions[k], box)
            weight = frames.blend[k]
            return (1 - weight) * energy + weight * new[0], (1 - weight) * forces + weight * new[1]
        return energy, forces

    def explanations(self, frames: Frames, k: int, row: int) -> Iterator[str]:
        """Names of the hypotheses that give what frame k stores."""
        x, box, name = frames.positions[k], frames.box[k], frames.model_id[k]
        others = {m.id for m in self._record.models} - {name}
        if any(self._gives(frames, k, other, x, box) for other in others):
            yield "another model of the run"
        for unit, factor in LENGTHS.items():
            if self._gives(frames, k, name, x * factor, box):
                yield f"unit: positions in {unit}"
        near = [i for i in (row - 1, row + 1, row - 2, row + 2) if 0 <= i < len(self._record)]
        beside = self._record.rows(np.sort(np.array(near)))
        if any(np.array_equal(x, other) for other in beside.positions):
            yield "positions that a neighbouring frame holds too"
        elif any(self._gives(frames, k, name, other, box) for other in beside.positions):
            yield "positions of a neighbouring frame"
        if self._record.particles.periodic:
            if any(self._gives(frames, k, name, x, other) for other in beside.box):
                yield "box of a neighbouring frame"
            wrapped = x - np.floor(x @ np.linalg.inv(box)) @ box
            cases = ((y, each) for each in _without_images(box) for y in (x, wrapped))
            if any(self._gives(frames, k, name, y, each) for y, each in cases):
                yield "no images across a border"

    def _gives(self, frames: Frames, k: int, model: str, positions: Floats, box: Floats) -> bool:
        energy, forces = self._evaluate(model, positions, box)
        wrong = np.abs(forces - frames.forces_used[k]).max() * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
        near = abs(energy - frames.potential_used[k]) <= self._limit.energy
        return bool(near and wrong <= self._limit.force)

    def _evaluate(self, name: str, positions: Floats, box: Floats) -> tuple[float, Floats]:
        model: AniEnsemble | None = self._shelf.get(name)
        if model is None or not np.isfinite(positions).all():
            return math.nan, np.full(positions.shape, math.nan)
        periodic = self._record.particles.periodic
        out = self._record.potential.evaluate(model, positions, box if periodic else None)
        return out.energy, out.forces


def _without_images(box: Floats) -> Iterator[Floats]:
    """The box with one, two or all of its vectors three times as long: no atom meets an image along those."""
    for mask in range(1, 8):
        yield box * np.array([3.0 if mask >> axis & 1 else 1.0 for axis in range(3)])[:, None]
