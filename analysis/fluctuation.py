"""How much H̃ fluctuates beside the kinetic energy: the time step, seen without a second run.

Velocity Verlet on an oscillator of phase θ = ω dt conserves ``½mv² + ½kx²(1 − θ²/4)`` exactly (Leimkuhler, Reich,
Simulating Hamiltonian Dynamics, 2004, doi:10.1017/CBO9780511614118, chapter 4). Hence ``dH̃ = (θ²/4) dU`` along the
motion, and since dU = −dK up to the same order, |ΔH̃|/|ΔK| between frames is θ²/4. In a molecule the fastest modes carry
most of ΔK over one step; the median over all intervals is therefore about θ²/4 of the fast modes, and less where frames
lie further apart. A quarter stands for θ = 1, six steps in a period: beyond it the errors of frequencies (θ²/24) exceed
4 % and are not small in any sense. A run with an exchange that nobody books at every step exceeds it too.
"""

import numpy as np

from ..records.frames import Floats
from .findings import Check, Finding, Kind, Part, Status
from .motion import broken
from .record import Record
from .steps import BREAKS

#: |ΔH̃|/|ΔK| at θ = 1.
LARGEST_RATIO = 0.25
#: With fewer intervals a median says little.
MIN_INTERVALS = 10


def fluctuation_ratio(conserved: Floats, kinetic: Floats) -> float:
    """Median of |ΔH̃| over median of |ΔK|, from increments in kJ/mol of equal shape; NaN where nothing moves."""
    usual = float(np.median(np.abs(kinetic))) if len(kinetic) else 0.0
    return float(np.median(np.abs(conserved))) / usual if usual > 0.0 else float("nan")


def fluctuation_part(record: Record) -> Part:
    """The check ``fluctuation`` with its number."""
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
