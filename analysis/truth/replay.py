"""Replay: every model evaluated again on the frames that it is said to have moved.

Three things come of it: energies and forces of the final model; whether the model (or blend of two) that a frame names
gives the energy and forces stored with it; and both energies at each change of model (``updates.py``). Every frame
is visited once, by all models that it needs together.
How far a deviation may be rounding is measured (``rounding.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...config import Config
from ...ensemble.model import AniEnsemble
from ...ensemble.weights import load
from ...records.frames import Floats, Frames, Ints
from ...records.run_directory import RunDirectory
from ...units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
from ..blocks import take
from ..findings import Check, Finding, Kind, Part, judge, largest
from ..record import Record
from .rounding import Tolerance
from .updates import Jump

#: Energies, shape (c,), and forces, shape (g, n, 3), of one model on a block.
Surface = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What became of all evaluations; shape (f,) each.

    Attributes:
        potential_final: energy of the final model, kJ/mol.
        energy_deviation: energy of what the frame names minus the stored energy, kJ/mol; NaN if it cannot be evaluated.
        force_deviation: largest component of the same difference of forces, eV/Å; NaN if not evaluated.
        force_relative: median over the atoms of the norm of that difference divided by the norm of the force; likewise.
        power: ``(F_used − F_f)·v``, kJ/mol/ps; NaN where forces were not evaluated.
        with_forces: whether forces were evaluated.
        jumps: both surfaces at the steps where the model changes, by step.
        tolerance: for both deviations.
    """

    potential_final: Floats
    energy_deviation: Floats
    force_deviation: Floats
    force_relative: Floats
    power: Floats
    with_forces: np.ndarray
    jumps: dict[int, Jump]
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


class Replayer:
    """Evaluates blocks of frames in order and keeps what is needed of them.

    Args:
        run: the run.
        record: what it wrote down.
        forces_every: forces on one frame in so many; energies on every one.
    """

    def __init__(self, run: RunDirectory, record: Record, forces_every: int) -> None:
        self._record, self._every = record, forces_every
        self._final = record.final_model
        self._shelf = Shelf(run, record.config, self._final)
        self._exchanges = {step: row for row in record.takeovers for step in row.exchanges}
        count = len(record)
        self._columns = {name: np.full(count, np.nan) for name in COLUMNS}
        self._with_forces = np.arange(count) % forces_every == 0
        self._jumps: dict[int, Jump] = {}

    def block(self, start: int, frames: Frames) -> tuple[Ints, Floats]:
        """Evaluate a block that ran on one model or blend.

        Args:
            start: number of its first frame.
            frames: the block.

        Returns:
            Numbers within the block of the frames whose forces were evaluated, shape (g,), and the forces of the final
            model on them, kJ/mol/nm, shape (g, n, 3); NaN where positions are not finite.
        """
        rows = slice(start, start + len(frames))
        chosen = np.flatnonzero(self._with_forces[rows])
        names = dict.fromkeys(name for name in (self._final, frames.model_id[0], frames.blend_id[0]) if name)
        surfaces = self.evaluate(list(names), frames, chosen)
        energy, forces = surfaces[self._final]
        self._columns["potential_final"][rows] = energy
        self._compare(rows, frames, chosen, surfaces)
        for i in np.flatnonzero([int(step) in self._exchanges for step in frames.step]):
            self._jump(frames, int(i), surfaces)
        used = frames.forces_used[chosen]
        power = np.einsum("gni,gni->g", used - forces, frames.velocities[chosen])
        self._columns["power"][start + chosen] = power
        return chosen, forces

    def finish(self, tolerance: Tolerance) -> Replay:
        """What became of it."""
        return Replay(**self._columns, with_forces=self._with_forces, jumps=self._jumps, tolerance=tolerance)

    def evaluate(self, names: Sequence[str], frames: Frames, chosen: Ints) -> dict[str, Surface]:
        """Energies on every frame of a block and forces on the chosen ones, of every model that is there."""
        models = {name: model for name in names if (model := self._shelf.get(name)) is not None}
        result = {
            name: (np.full(len(frames), np.nan), np.full((len(chosen), frames.atoms, 3), np.nan)) for name in models
        }
        finite = np.isfinite(frames.positions).all(axis=(1, 2))
        wanted = np.zeros(len(frames), dtype=bool)
        wanted[chosen] = True
        for forces in (True, False):
            rows = np.flatnonzero(finite & (wanted == forces))
            if not len(rows):
                continue
            positions, boxes = frames.positions[rows], self._boxes(frames, rows)
            outputs = self._record.potential.evaluate_models(list(models.values()), positions, boxes, forces=forces)
            for (energy, force), out in zip(result.values(), outputs, strict=True):
                energy[rows] = out.energy
                if out.forces is not None:
                    force[np.searchsorted(chosen, rows)] = out.forces
        return result

    def _boxes(self, frames: Frames, rows: Ints) -> Floats | None:
        return frames.box[rows] if self._record.particles.periodic else None

    def _compare(self, rows: slice, frames: Frames, chosen: Ints, surfaces: dict[str, Surface]) -> None:
        """What the frames name against what they hold."""
        name, blend = frames.model_id[0], frames.blend_id[0]
        if name not in surfaces or (blend and blend not in surfaces):
            return
        energy, forces = surfaces[name]
        if blend:
            weight = frames.blend
            energy = (1.0 - weight) * energy + weight * surfaces[blend][0]
            part = weight[chosen, None, None]
            forces = (1.0 - part) * forces + part * surfaces[blend][1]
        self._columns["energy_deviation"][rows] = energy - frames.potential_used
        used = frames.forces_used[chosen]
        wrong = forces - used
        size = np.linalg.norm(used, axis=2)
        relative = np.linalg.norm(wrong, axis=2) / np.where(size > 0.0, size, np.nan)
        at = rows.start + chosen
        largest = np.abs(wrong).max(axis=(1, 2)) * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
        self._columns["force_deviation"][at] = largest
        self._columns["force_relative"][at] = np.median(relative, axis=1)

    def _jump(self, frames: Frames, i: int, surfaces: dict[str, Surface]) -> None:
        """Both surfaces at a change of model, and how fast the new one parts from the final model."""
        step = int(frames.step[i])
        row = self._exchanges[step]
        energies = {name: float(surface[0][i]) for name, surface in surfaces.items()}
        power = 0.0
        if row.policy != "ramp" or not {row.parent, row.model} <= energies.keys():
            frame = take(frames, np.array([i]))
            names = dict.fromkeys((row.model, self._final, *({row.parent} - energies.keys())))
            found = self.evaluate(list(names), frame, np.array([0]))
            energies |= {name: float(surface[0][0]) for name, surface in found.items()}
            if row.model in found:
                wrong = found[row.model][1][0] - found[self._final][1][0]
                power = float(np.einsum("ni,ni->", wrong, frame.velocities[0]))
        if {row.parent, row.model} <= energies.keys():
            self._jumps[step] = Jump(old=energies[row.parent], new=energies[row.model], power=power)


COLUMNS = ("potential_final", "energy_deviation", "force_deviation", "force_relative", "power")


def replay_part(record: Record, done: Replay) -> Part:
    """The check ``replay`` with its numbers."""
    force, relative = done.force_deviation[done.with_forces], done.force_relative[done.with_forces]
    known = relative[np.isfinite(relative)]
    findings = (
        Finding(name="replay_energy_max_deviation", value=largest(done.energy_deviation), expected=0.0, unit="kJ/mol"),
        Finding(name="replay_force_max_deviation", value=largest(force), expected=0.0, unit="eV/Å"),
        Finding(
            name="replay_force_median_relative",
            value=float(np.median(known)) if len(known) else np.nan,
            expected=0.0,
            unit="1",
        ),
        Finding(name="replay_energy_tolerance", value=done.tolerance.energy, unit="kJ/mol"),
        Finding(name="replay_force_tolerance", value=done.tolerance.force, unit="eV/Å"),
        Finding(name="frames_with_forces", value=float(done.with_forces.sum()), unit="1"),
    )
    return Part(checks=(_replay_check(record, done),), findings=findings)


def _replay_check(record: Record, done: Replay) -> Check:
    limit, series = done.tolerance, record.series
    energy, force = np.abs(done.energy_deviation), done.force_deviation
    bad = np.flatnonzero(~((energy <= limit.energy) & ((force <= limit.force) | ~done.with_forces)))
    problems = []
    if len(bad):
        first = int(bad[0])
        problems.append(
            f"in {len(bad)} of {len(series)} frames the model that the frame names does not give what is stored, "
            f"first at step {int(series.step[first])}: energy off by {done.energy_deviation[first]:.3g} kJ/mol "
            f"(≤ {limit.energy:.2g}), a force component by {force[first]:.3g} eV/Å (≤ {limit.force:.2g})"
        )
    fine = (
        f"every frame's model gives its stored energy within {largest(energy):.2g} kJ/mol (≤ {limit.energy:.2g}) "
        f"and its forces within {largest(force[done.with_forces]):.2g} eV/Å (≤ {limit.force:.2g})"
        + thinned(done.with_forces)
    )
    return judge("replay", Kind.INTEGRITY, problems, fine)


def thinned(with_forces: np.ndarray) -> str:
    """A clause that says how many frames had their forces evaluated, empty if all had."""
    count = int(with_forces.sum())
    return "" if count == len(with_forces) else f"; forces were evaluated on {count} of {len(with_forces)} frames"
