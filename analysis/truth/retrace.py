"""Sparse frames of velocity Verlet: a few intervals are run again from their stored state and must arrive.

Where frames lie several steps apart, ``steps.py`` sees nothing. Velocity Verlet is deterministic: from x and v of one
frame, with the model that it names, it leads to the next frame within what rounding grows to. A difference δF of two
evaluations of a force leaves ``δv ≤ s dt δF/m`` after s steps, and a rounding ε of positions ``ω² s dt ε`` with ω the
fastest vibration; a factor of four stands for what an unstable mode adds in so short a time (it doubles in more than
10 fs even at 500i cm⁻¹). Velocities of another time, other masses and hidden forces act in every interval, so that a
few tell; what happens once in a run is not looked for here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...ensemble.model import AniEnsemble
from ...ensemble.potential import Potential
from ...records.frames import Floats, Frames
from ...records.run_directory import RunDirectory
from ...units import KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM
from ..findings import Check, Finding, Kind, Part, Status, judge
from ..record import Record
from .motion import FASTEST_VIBRATION_PER_PS, broken
from .replay import Shelf
from .steps import BREAKS, PRECISIONS, ROUNDINGS

#: Intervals that are run again, and the longest, steps.
INTERVALS, LONGEST = 4, 40
SEED = 1982
#: What an unstable mode may add.
GROWTH = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraced:
    """One interval that was run again.

    Attributes:
        step: of its first frame.
        steps: its length.
        residual: largest component of the velocities, and of the positions over the duration, nm/ps.
        ratio: largest of both over what is allowed; more than one is too much.
        offset: time by which the velocities must be moved for the positions to arrive, steps: −½, ½, or NaN.
    """

    step: int
    steps: int
    residual: float
    ratio: float
    offset: float


def retrace(run: RunDirectory, record: Record, force_tolerance: float, count: int = INTERVALS) -> list[Retraced]:
    """Run a few intervals again; none where the integrator is not velocity Verlet or frames stand at every step.

    Args:
        run: the run.
        record: what it wrote down.
        force_tolerance: by how much two evaluations of one force may differ, eV/Å.
        count: how many intervals.
    """
    gaps = np.diff(record.series.step)
    usable = (gaps > 1) & (gaps <= LONGEST) & ~broken(record, BREAKS)
    usable &= np.array([not blend for blend in record.series.blend_id[1:]], dtype=bool)
    if record.config.dynamics.integrator != "verlet" or not usable.any() or not record.free.all():
        return []
    rows = np.flatnonzero(usable)
    rng = np.random.default_rng(SEED)
    shelf = Shelf(run, record.config, record.final_model)
    found = []
    for row in np.sort(rng.choice(rows, size=min(count, len(rows)), replace=False)):
        pair = record.rows(np.array([row, row + 1]))
        model = shelf.get(pair.model_id[1])
        if model is None or not all(np.isfinite(a).all() for a in (pair.positions, pair.velocities)):
            continue
        box = pair.box[0] if record.particles.periodic else None
        found.append(_interval(record, pair, _law(record.potential, model, box), force_tolerance))
    return found


def _law(potential: Potential, model: AniEnsemble, box: Floats | None) -> Callable[[Floats], Floats]:
    return lambda x: potential.evaluate(model, x, box).forces


def _interval(record: Record, pair: Frames, forces: Callable[[Floats], Floats], force_tolerance: float) -> Retraced:
    steps, dt = int(pair.step[1] - pair.step[0]), record.timestep_ps
    m = record.particles.masses[:, None]
    single = bool((pair.positions == pair.positions.astype(np.float32)).all())
    epsilon = PRECISIONS["single" if single else "double"] * ROUNDINGS
    force = force_tolerance * KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM
    reach, fast = float(np.abs(pair.positions).max()), float(np.abs(pair.velocities).max())
    time = steps * dt
    allowed = GROWTH * (time * force / m + epsilon * (fast + reach * FASTEST_VIBRATION_PER_PS**2 * time))
    x, v = verlet(pair.positions[0], pair.velocities[0], m, dt, steps, forces)
    way = np.abs(x - pair.positions[1]) / time
    left = np.maximum(np.abs(v - pair.velocities[1]), way)
    ratio, offset = float((left / allowed).max()), float("nan")
    if ratio > 1.0:
        start = forces(pair.positions[0]) / m
        for guess in (-0.5, 0.5):
            again, _ = verlet(pair.positions[0], pair.velocities[0] - guess * dt * start, m, dt, steps, forces)
            if float((np.abs(again - pair.positions[1]) / time / allowed).max()) <= 1.0:
                offset = guess
    return Retraced(step=int(pair.step[0]), steps=steps, residual=float(left.max()), ratio=ratio, offset=offset)


def verlet(
    x: Floats, v: Floats, m: Floats, dt: float, steps: int, forces: Callable[[Floats], Floats]
) -> tuple[Floats, Floats]:
    """Velocity Verlet (Swope et al., 1982, doi:10.1063/1.442716).

    Args:
        x: positions, nm, shape (n, 3).
        v: velocities, nm/ps, shape (n, 3).
        m: masses, Da, shape (n, 1).
        dt: time step, ps.
        steps: number of steps.
        forces: kJ/mol/nm at positions.

    Returns:
        Positions and velocities at the end.
    """
    a = forces(x) / m
    for _ in range(steps):
        half = v + 0.5 * dt * a
        x = x + dt * half
        a = forces(x) / m
        v = half + 0.5 * dt * a
    return x, v


def retrace_part(record: Record, found: Sequence[Retraced]) -> Part:
    """The check ``retrace`` with its number."""
    if not found:
        verlet_run = record.config.dynamics.integrator == "verlet"
        why = "frames stand at every step or too far apart" if verlet_run else "only velocity Verlet can be run again"
        if verlet_run and not record.free.all():
            why = "the run has constraints, which this velocity Verlet does not know"
        return Part(checks=(Check(name="retrace", kind=Kind.INTEGRITY, status=Status.NOT_APPLICABLE, why=why),))
    problems = [
        f"run again from the frame of step {each.step}, {each.steps} steps end {each.residual:.3g} nm/ps off the next "
        f"frame ({each.ratio:.3g} times what rounding explains)"
        for each in found
        if not each.ratio <= 1.0
    ]
    worst = max(each.residual for each in found)
    fine = f"{len(found)} intervals, run again from their frames, arrive at the next ones within {worst:.2g} nm/ps"
    finding = Finding(name="retrace_max_residual", value=worst, expected=0.0, unit="nm/ps")
    return Part(checks=(judge("retrace", Kind.INTEGRITY, problems, fine),), findings=(finding,))
