"""Replay: every model evaluated again on the frames that it is said to have moved.

Three things come of it: energies and forces of the final model on every frame; whether the model that a frame names
gives the energy and forces stored with it; and whether each booked ΔU is ``U_new(x) − U_old(x)`` at the frame of the
step of the swap.

How closely two evaluations of one model must agree is measured, not guessed. On up to eight frames the final model is
evaluated in double precision, and in single precision at positions rounded to single (what a GPU may be handed). Each
difference is one draw of the rounding error. An energy may deviate by ten root mean squares of those draws: seven
standard deviations of a difference of two evaluations, and still more than two if eight draws happen to underestimate
the spread by a factor of three (one case in a thousand, χ²₈). A force component may deviate by five times the largest
of all draws. In a run of double precision both scale with the ratio of the machine epsilons, down to a floor.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..config import Config
from ..ensemble.model import AniEnsemble, EnsembleOutput, evaluate
from ..ensemble.weights import load
from ..records.books import Account
from ..records.database import ModelRow
from ..records.frames import Floats
from ..records.run_directory import RunDirectory
from ..units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
from .findings import Check, Finding, Kind, Part, judge
from .record import Record

ProgressCallback = Callable[[int, int], None]

NOISE_FRAMES = 8
ENERGY_FACTOR = 10.0
FORCE_FACTOR = 5.0
FORCE_FLOOR_EV_PER_A = 1e-7
EPSILON_RATIO = float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far two evaluations of one model on one frame may differ: energy in kJ/mol, a force component in eV/Å."""

    energy: float
    force: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One change of model.

    Attributes:
        step: of the swap.
        time: ps.
        model: that came.
        parent: that went.
        booked: ΔU in the ledger, kJ/mol; NaN if there is no entry.
        recomputed: ``U_new(x) − U_old(x)`` at the stored frame, kJ/mol; NaN if it cannot be evaluated.
        data: of the row of the model.
    """

    step: int
    time: float
    model: str
    parent: str
    booked: float
    recomputed: float
    data: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """All evaluations of an audit.

    Attributes:
        potential_final: kJ/mol, shape (f,).
        forces_final: kJ/mol/nm, shape (f, n, 3).
        energy_deviation: energy of the model named by the frame minus stored energy, kJ/mol, shape (f,), or NaN.
        force_deviation: largest component of the same difference of forces, eV/Å, shape (f,), or NaN.
        updates: the changes of model.
        tolerance: for both deviations.
    """

    potential_final: Floats
    forces_final: Floats
    energy_deviation: Floats
    force_deviation: Floats
    updates: tuple[Update, ...]
    tolerance: Tolerance


class Shelf:
    """The models of a run, loaded when they are asked for; the final one and the last two others are kept."""

    def __init__(self, run: RunDirectory, config: Config, final: str) -> None:
        self._run, self._precision = run, config.ensemble.precision
        self._final = final
        self._kept: dict[str, AniEnsemble] = {}

    def get(self, name: str) -> AniEnsemble | None:
        """The model in run precision, or None if its file is missing."""
        if name not in self._kept:
            path = self._run.model(name)
            if not path.exists():
                return None
            others = [other for other in self._kept if other != self._final]
            if len(others) > 1:
                del self._kept[others[0]]
            self._kept[name] = load(str(path), self._precision)
        return self._kept[name]


def replay(run: RunDirectory, record: Record, progress: ProgressCallback | None = None) -> Replay:
    """Evaluate every frame with the final model and with the model that it names, and every swap with both.

    Args:
        run: the run.
        record: what it wrote down.
        progress: told (frames done, frames in all) after each frame.
    """
    frames = record.frames
    final = record.models[-1].id
    shelf = Shelf(run, record.config, final)
    potential, forces = np.empty(len(frames)), np.empty(frames.forces_used.shape)
    energy_deviation, force_deviation = np.full(len(frames), np.nan), np.full(len(frames), np.nan)
    for i, name in enumerate(frames.model_id):
        out = _evaluate(shelf, record, final, i)
        potential[i], forces[i] = (out.energy, out.forces) if out is not None else (np.nan, np.nan)
        claimed = out if name == final else _evaluate(shelf, record, name, i)
        if claimed is not None:
            difference = np.abs(claimed.forces - frames.forces_used[i]).max()
            energy_deviation[i] = claimed.energy - frames.potential_used[i]
            force_deviation[i] = difference * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
        if progress is not None:
            progress(i + 1, len(frames))
    return Replay(
        potential_final=potential,
        forces_final=forces,
        energy_deviation=energy_deviation,
        force_deviation=force_deviation,
        updates=tuple(_updates(shelf, record)),
        tolerance=measure_tolerance(run, record),
    )


def _box(record: Record, frame: int) -> Floats | None:
    return record.frames.box[frame] if record.particles.periodic else None


def _evaluate(shelf: Shelf, record: Record, name: str, frame: int) -> EnsembleOutput | None:
    model = shelf.get(name)
    positions = record.frames.positions[frame]
    if model is None or not np.isfinite(positions).all():
        return None
    return evaluate(model, record.particles.numbers, positions, _box(record, frame))


def _updates(shelf: Shelf, record: Record) -> list[Update]:
    booked: dict[int, float] = {}
    for entry in record.of_account(Account.MODEL):
        booked[entry.step] = booked.get(entry.step, 0.0) + entry.amount
    at = {int(step): i for i, step in enumerate(record.frames.step)}
    rows = []
    for old, new in zip(record.models[:-1], record.models[1:], strict=True):
        rows.append(
            Update(
                step=new.step,
                time=new.step * record.timestep_ps,
                model=new.id,
                parent=old.id,
                booked=booked.get(new.step, float("nan")),
                recomputed=_delta_u(shelf, record, old, new, at.get(new.step)),
                data=new.data,
            )
        )
    return rows


def _delta_u(shelf: Shelf, record: Record, old: ModelRow, new: ModelRow, frame: int | None) -> float:
    if frame is None:
        return float("nan")
    before, after = (_evaluate(shelf, record, row.id, frame) for row in (old, new))
    return float("nan") if before is None or after is None else after.energy - before.energy


def measure_tolerance(run: RunDirectory, record: Record) -> Tolerance:
    """Measure rounding on a few frames, as the head of this module says."""
    path = str(run.model(record.models[-1].id))
    single, double = load(path, "single"), load(path, "double")
    chosen = np.unique(np.linspace(0, len(record.frames) - 1, NOISE_FRAMES).round().astype(int))
    energies, forces = [], []
    for i in chosen:
        positions, numbers, box = record.frames.positions[i], record.particles.numbers, _box(record, int(i))
        if not np.isfinite(positions).all():
            continue
        rounded = evaluate(single, numbers, positions.astype(np.float32).astype(np.float64), box)
        exact = evaluate(double, numbers, positions, box)
        energies.append(rounded.energy - exact.energy)
        forces.append(float(np.abs(rounded.forces - exact.forces).max()))
    scale = 1.0 if record.config.ensemble.precision == "single" else EPSILON_RATIO
    energy = ENERGY_FACTOR * scale * float(np.sqrt(np.mean(np.square(energies)))) if energies else 0.0
    force = FORCE_FACTOR * scale * max(forces, default=0.0) * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
    floor = record.config.audit.identity_kj_per_mol
    return Tolerance(energy=max(energy, floor), force=max(force, FORCE_FLOOR_EV_PER_A))


def replay_part(record: Record, done: Replay) -> Part:
    """The checks ``replay`` and ``model_updates`` with their numbers."""
    findings = [
        Finding(name="replay_energy_max_deviation", value=_largest(done.energy_deviation), expected=0.0, unit="kJ/mol"),
        Finding(name="replay_force_max_deviation", value=_largest(done.force_deviation), expected=0.0, unit="eV/Å"),
        Finding(name="replay_energy_tolerance", value=done.tolerance.energy, unit="kJ/mol"),
        Finding(name="replay_force_tolerance", value=done.tolerance.force, unit="eV/Å"),
    ]
    for update in done.updates:
        name = f"delta_u_step_{update.step}"
        findings.append(Finding(name=name, value=update.booked, expected=update.recomputed, unit="kJ/mol"))
    return Part(checks=(_replay_check(record, done), _updates_check(done)), findings=tuple(findings))


def _replay_check(record: Record, done: Replay) -> Check:
    energy, force, frames = np.abs(done.energy_deviation), done.force_deviation, record.frames
    bad = np.flatnonzero(~((energy <= done.tolerance.energy) & (force <= done.tolerance.force)))
    problems = []
    limit = done.tolerance
    if len(bad):
        first = int(bad[0])
        problems.append(
            f"in {len(bad)} of {len(frames)} frames the model that the frame names does not give what is stored, "
            f"first at step {int(frames.step[first])}: energy off by {done.energy_deviation[first]:.3g} kJ/mol "
            f"(≤ {limit.energy:.2g}), a force component by {force[first]:.3g} eV/Å (≤ {limit.force:.2g})"
        )
    fine = (
        f"every frame's model gives its stored energy within {_largest(energy):.2g} kJ/mol (≤ {limit.energy:.2g}) "
        f"and its forces within {_largest(force):.2g} eV/Å (≤ {limit.force:.2g})"
    )
    return judge("replay", Kind.INTEGRITY, problems, fine)


def _updates_check(done: Replay) -> Check:
    # A difference of two energies carries the rounding of both.
    tolerance = np.sqrt(2.0) * done.tolerance.energy
    problems = []
    for update in done.updates:
        if not np.isfinite(update.booked):
            problems.append(f"the change of model at step {update.step} is not booked")
        elif not np.isfinite(update.recomputed):
            problems.append(f"the ΔU of step {update.step} cannot be checked: no frame or no model is stored for it")
        elif abs(update.booked - update.recomputed) > tolerance:
            problems.append(
                f"at step {update.step} the ledger books ΔU = {update.booked:.6g} kJ/mol, the models give "
                f"{update.recomputed:.6g} (tolerance {tolerance:.2g})"
            )
    fine = f"all booked ΔU ({len(done.updates)}) are U_new − U_old at their frames, within {tolerance:.2g} kJ/mol"
    return judge("model_updates", Kind.INTEGRITY, problems, fine)


def _largest(series: Floats) -> float:
    return float(np.abs(series).max()) if np.isfinite(series).all() else float("nan")
