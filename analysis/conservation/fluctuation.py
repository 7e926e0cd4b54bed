"""How much H̃ fluctuates beside the kinetic energy: the time step, seen without a second run.

Velocity Verlet on an oscillator of phase θ = ω dt conserves ``½mv² + ½kx²(1 − θ²/4)`` exactly (Leimkuhler, Reich,
Simulating Hamiltonian Dynamics, 2004, doi:10.1017/CBO9780511614118, chapter 4). Hence ``dH̃ = (θ²/4) dU`` along the
motion, and since dU = −dK up to the same order, |ΔH̃|/|ΔK| between frames is θ²/4. In a molecule the fastest modes carry
most of ΔK over one step; the median over all intervals is therefore about θ²/4 of the fast modes, and less where frames
lie further apart. A quarter stands for θ = 1, six steps in a period: beyond it the errors of frequencies (θ²/24) exceed
4 % and are not small in any sense.

The same relation bounds what a time step can explain: with ω of the fastest vibration of any molecule, θ²/4 is the
share that H̃ may change of what the kinetic energy changes. More than four times that (root mean square over all
intervals; and four times as much again in any single one, as four standard deviations are) is an exchange that nobody
booked, such as the heat of a thermostat.
"""

import numpy as np

from ...records.frames import Floats
from ..findings import Check, Finding, Kind, Part, Status
from ..record import Record
from ..truth.motion import FASTEST_VIBRATION_PER_PS, broken
from ..truth.steps import BREAKS

#: |ΔH̃|/|ΔK| at θ = 1.
LARGEST_RATIO = 0.25
#: Times θ²/4 of the fastest vibration that H̃ may change, root mean square, and in any interval.
EXPLAINED, EXPLAINED_ONCE = 4.0, 16.0
#: With fewer intervals a median says little.
MIN_INTERVALS = 10


def fluctuation_ratio(conserved: Floats, kinetic: Floats) -> float:
    """Median of |ΔH̃| over median of |ΔK|, from increments in kJ/mol of equal shape; NaN where nothing moves."""
    usual = float(np.median(np.abs(kinetic))) if len(kinetic) else 0.0
    return float(np.median(np.abs(conserved))) / usual if usual > 0.0 else float("nan")


def explained_by_timestep(timestep_ps: float) -> float:
    """θ²/4 of the fastest vibration of any molecule."""
    return (0.5 * FASTEST_VIBRATION_PER_PS * timestep_ps) ** 2


def fluctuation_part(record: Record) -> Part:
    """The checks ``fluctuation`` and ``balance`` with their numbers."""
    one, other = _time_step(record), _balance(record)
    return Part(checks=(*one.checks, *other.checks), findings=(*one.findings, *other.findings))


def _balance(record: Record) -> Part:
    series = record.series
    # Entries of a change of model or of velocities may be wrong by themselves: the ledger is there for those.
    quiet = np.flatnonzero(~broken(record, BREAKS))
    conserved, kinetic = np.diff(series.conserved)[quiet], np.diff(series.kinetic)[quiet]
    name, kind = "balance", Kind.CONSERVATION
    if len(quiet) < MIN_INTERVALS or not np.any(kinetic):
        why = f"{len(quiet)} intervals without a change of model are too few"
        return Part(checks=(Check(name=name, kind=kind, status=Status.NOT_APPLICABLE, why=why),))
    scale = float(np.sqrt(np.mean(kinetic**2)))
    usual, worst = float(np.sqrt(np.mean(conserved**2))) / scale, int(np.argmax(np.abs(conserved)))
    once, unit = float(np.abs(conserved[worst])) / scale, explained_by_timestep(record.timestep_ps)
    fine = usual <= EXPLAINED * unit and once <= EXPLAINED_ONCE * unit
    why = (
        f"H̃ changes by {usual:.2g} (RMS) of what the kinetic energy changes (≤ {EXPLAINED * unit:.2g} by the time "
        f"step); most after step {series.step[quiet[worst]]}, by {conserved[worst]:.3g} kJ/mol or {once:.2g} "
        f"(≤ {EXPLAINED_ONCE * unit:.2g})"
    )
    finding = Finding(name="balance_ratio", value=usual, expected=0.0, unit="1")
    status = Status.PASS if fine else Status.FAIL
    return Part(checks=(Check(name=name, kind=kind, status=status, why=why),), findings=(finding,))


def _time_step(record: Record) -> Part:
    series = record.series
    quiet = ~broken(record, BREAKS)
    ratio = fluctuation_ratio(np.diff(series.conserved)[quiet], np.diff(series.kinetic)[quiet])
    finding = Finding(name="fluctuation_ratio", value=ratio, expected=0.0, unit="1")
    if quiet.sum() < MIN_INTERVALS:
        status, why = Status.NOT_APPLICABLE, f"{quiet.sum()} intervals without a change of model are too few"
    elif ratio <= LARGEST_RATIO:
        status = Status.PASS
        why = f"between frames H̃ changes by {ratio:.2g} of what the kinetic energy changes (≤ {LARGEST_RATIO:g})"
    else:
        status = Status.FAIL
        phase = 2.0 * float(np.sqrt(ratio))
        why = (
            f"between frames H̃ changes by {ratio:.2g} of what the kinetic energy changes (≤ {LARGEST_RATIO:g}), as if "
            f"fast modes advanced by {phase:.2g} rad in a step"
        )
    check = Check(name="fluctuation", kind=Kind.CONSERVATION, status=status, why=why)
    return Part(checks=(check,), findings=(finding,))
