"""Time-step scan: does the energy error of velocity Verlet fall with the square of the time step, as it must?

From one state the same stretch of time is run at dt, dt/2 and dt/4 with a velocity Verlet written here (Swope,
Andersen, Berens, Wilson, J. Chem. Phys. 76, 637, 1982, doi:10.1063/1.442716), independent of the integrators of the
engine and of OpenMM, and the standard deviation of ``H = K + U`` is taken over the times that all three visit.

For a harmonic mode of frequency ω velocity Verlet conserves ``½mv² + ½mω²x²(1 − θ²/4)`` with θ = ω·dt, so that H
fluctuates by ``½mω²x²·θ²/4``. The amplitude of x that follows from one state depends on its phase: started at rest the
ratio between dt and dt/2 is 4, started at the bottom of the well it is

    R(θ) = 4 (1 − θ²/16)/(1 − θ²/4).

Three surfaces tell themselves apart. Where forces are the gradient and the step is short both ratios lie between 4 and
R of the fastest vibration. Where the step is too long the first ratio lies above, and the second less so. Where the
forces are *not* the gradient, H changes by ``∫(F + ∇U)·v dt`` whatever the step: ratios fall towards 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...ensemble.model import AniEnsemble
from ...errors import AuditError
from ...records.frames import Floats
from ...records.segment import Particles
from ..findings import Check, Finding, Kind, Part, Status
from ..truth.motion import FASTEST_VIBRATION_PER_PS
from .differences import Surface, surface_of

#: Slack on both sides: the three runs visit a mode at slightly different phases, and anharmonic terms of order θ².
SLACK = 0.10
#: Below this ratio the error does not follow the time step at all: √(1·4) lies in the middle between 1 and 4.
UNRESPONSIVE = 2.0
#: θ of the fastest vibration from which the asymptotic region is left: R = 5.6, a mode is visited six times a period.
LONGEST_PHASE = 1.0
#: An atom that went so far, nm, was not moved by forces: sound takes half a nanosecond for it.
LOST_NM = 1e3
DIVISIONS = (1, 2, 4)
#: Fewer times in common give no standard deviation worth a ratio.
MIN_TIMES = 20
#: RMS(H) at the finest step must exceed the rounding of the energy by this.
OVER_ROUNDING = 10.0
#: Displacement at which rounding is measured, nm: curvature adds below 10⁻⁵ kJ/mol for each stiff mode.
ROUNDING_STEP_NM = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What three time steps gave.

    Attributes:
        timestep: the longest, ps.
        fluctuation: standard deviation of H at dt, dt/2, dt/4, kJ/mol, shape (3,).
        rounding: of one energy, kJ/mol.
    """

    timestep: float
    fluctuation: Floats
    rounding: float

    @property
    def ratios(self) -> tuple[float, float]:
        """Between dt and dt/2, and between dt/2 and dt/4; NaN where there is nothing to divide by."""
        with np.errstate(divide="ignore", invalid="ignore"):
            first, second = self.fluctuation[:-1] / self.fluctuation[1:]
        return float(first), float(second)


def harmonic_ratio(theta: float) -> float:
    """R(θ) of the head of this module; infinite where dt/2 or dt is beyond the stability limit θ = 2."""
    return 4.0 * (1.0 - theta**2 / 16.0) / (1.0 - theta**2 / 4.0) if theta < 2.0 else np.inf


def total_energies(
    surface: Surface,
    positions: Floats,
    velocities: Floats,
    *,
    masses: Floats,
    box: Floats | None,
    timestep_ps: float,
    steps: int,
    every: int = 1,
    tick: Callable[[], None] | None = None,
) -> Floats:
    """K + U along velocity Verlet, kJ/mol, at step 0 and every ``every`` steps; NaN after an atom is lost.

    Args:
        surface: energy and forces.
        positions: nm, shape (n, 3).
        velocities: nm/ps, on-step, shape (n, 3).
        masses: Da, shape (n,).
        box: nm, shape (3, 3); None in vacuum.
        timestep_ps: ps.
        steps: number of steps.
        every: steps between energies.
        tick: called after each step.
    """
    x, v, m = positions.copy(), velocities.copy(), masses[:, None]
    now = surface(x, box)
    totals = np.full(steps // every + 1, np.nan)
    totals[0] = now.energy + 0.5 * float(np.sum(m * v**2))
    for step in range(1, steps + 1):
        v = v + 0.5 * timestep_ps * now.forces / m
        x = x + timestep_ps * v
        if not np.abs(x - positions).max() < LOST_NM:
            return totals
        now = surface(x, box)
        v = v + 0.5 * timestep_ps * now.forces / m
        if step % every == 0:
            totals[step // every] = now.energy + 0.5 * float(np.sum(m * v**2))
        if tick is not None:
            tick()
    return totals


def energy_rounding(surface: Surface, positions: Floats, box: Floats | None) -> float:
    """Rounding of an energy, kJ/mol: what a tiny move changes beyond the work of the force; largest of six moves."""
    here = surface(positions, box)
    found = 0.0
    for axis in range(3):
        for sign in (-1.0, 1.0):
            move = np.zeros_like(positions)
            # Alternating, since a surface does not change when all atoms move together.
            move[::2, axis] = sign * ROUNDING_STEP_NM
            change = surface(positions + move, box).energy - here.energy + float(np.sum(here.forces * move))
            found = max(found, abs(change))
    return found


def timestep_scan(
    model: AniEnsemble | Surface,
    *,
    particles: Particles,
    positions: Floats,
    velocities: Floats,
    box: Floats | None,
    timestep_ps: float,
    duration_ps: float,
    progress: Callable[[int, int], None] | None = None,
) -> Part:
    """The check ``timestep`` with RMS(H) at three time steps and their ratios.

    Costs ``7·duration/timestep`` evaluations. Without thermostat and constraints, whatever the run had.

    Args:
        model: the model that moved the atoms, or any surface.
        particles: the atoms.
        positions: nm, shape (n, 3), of a stored frame.
        velocities: nm/ps, on-step, shape (n, 3), of the same frame.
        box: nm, shape (3, 3); None in vacuum.
        timestep_ps: of the run.
        duration_ps: of each of the three runs.
        progress: told (steps done, steps in all).

    Raises:
        AuditError: positions or velocities are not finite, or the duration holds fewer than 20 steps.
    """
    if particles.degrees_of_freedom < 3 * len(particles.numbers) - 3:
        why = "the run has constraints, which this velocity Verlet does not know"
        return Part(checks=(Check(name="timestep", kind=Kind.PHYSICS, status=Status.NOT_APPLICABLE, why=why),))
    if not (np.isfinite(positions).all() and np.isfinite(velocities).all()):
        raise AuditError("the frame to scan time steps from is not finite", cure="choose another frame")
    steps = round(duration_ps / timestep_ps)
    if steps < MIN_TIMES:
        raise AuditError(f"{duration_ps:g} ps hold {steps} steps; a scan needs {MIN_TIMES}", cure="scan a longer time")
    surface = surface_of(model, particles.numbers) if isinstance(model, AniEnsemble) else model
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps * sum(DIVISIONS))

    runs = [
        total_energies(
            surface, positions, velocities, masses=particles.masses, box=box, timestep_ps=timestep_ps / k,
            steps=steps * k, every=k, tick=tick,
        )
        for k in DIVISIONS
    ]  # fmt: skip
    rounding = energy_rounding(surface, positions, box)
    scan = Scan(timestep=timestep_ps, fluctuation=np.array([run.std() for run in runs]), rounding=rounding)
    return Part(checks=(judge_scan(scan),), findings=_findings(scan))


def judge_scan(scan: Scan) -> Check:
    """The verdict, and the cause where it is ``fail``."""
    first, second = scan.ratios
    theta = FASTEST_VIBRATION_PER_PS * scan.timestep
    bands = [(4.0 * (1.0 - SLACK), harmonic_ratio(min(t, LONGEST_PHASE)) * (1.0 + SLACK)) for t in (theta, theta / 2.0)]
    inside = [low <= ratio <= high for ratio, (low, high) in zip((first, second), bands, strict=True)]
    shown = (
        f"RMS(H) is {', '.join(f'{f:.3g}' for f in scan.fluctuation)} kJ/mol at {scan.timestep * 1e3:g} fs, a half "
        f"and a quarter of it: ratios {first:.2f} and {second:.2f} "
        f"(expected {bands[0][0]:.1f} to {bands[0][1]:.1f} and {bands[1][0]:.1f} to {bands[1][1]:.1f})"
    )
    status, cause = _cause(scan, inside, bands)
    return Check(name="timestep", kind=Kind.PHYSICS, status=status, why=f"{shown}{cause}")


def _cause(scan: Scan, inside: list[bool], bands: list[tuple[float, float]]) -> tuple[Status, str]:
    first, second = scan.ratios
    if all(inside):
        return Status.PASS, ""
    if not np.isfinite(scan.fluctuation).all():
        finite = bool(np.isfinite(scan.fluctuation[-1]))
        cause = "time step too long" if finite else "the motion leaves all bounds at every time step"
        return Status.FAIL, f": {cause}"
    if not scan.fluctuation[-1] > OVER_ROUNDING * scan.rounding:
        return Status.UNDECIDED, f": the energy is rounded at {scan.rounding:.2g} kJ/mol, which hides its error"
    if second < UNRESPONSIVE:
        return Status.FAIL, ": the energy error does not follow the time step; the forces are not the gradient"
    if first > bands[0][1] or second > bands[1][1]:
        return Status.FAIL, ": time step too long"
    return Status.UNDECIDED, ": neither the square of the time step nor independent of it; scan another frame or time"


def _findings(scan: Scan) -> tuple[Finding, ...]:
    first, second = scan.ratios
    rows = [
        Finding(name=f"timestep_rms_h_{name}", value=float(value), unit="kJ/mol")
        for name, value in zip(("full", "half", "quarter"), scan.fluctuation, strict=True)
    ]
    rows.append(Finding(name="timestep_ratio_full_half", value=first, expected=4.0, unit="1"))
    rows.append(Finding(name="timestep_ratio_half_quarter", value=second, expected=4.0, unit="1"))
    rows.append(Finding(name="timestep_energy_rounding", value=scan.rounding, unit="kJ/mol"))
    return tuple(rows)
