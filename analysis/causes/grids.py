"""Numbers that were rounded stand on a grid, and honest ones do not."""

import numpy as np

from ...records.frames import Floats
from ...units import EV_PER_KJ_PER_MOL, KJ_PER_MOL_PER_HARTREE

#: Powers of two between which grids of energies are looked for: below, doubles have grids of their own.
FINEST_GRID, COARSEST_GRID = -26, 6


def rounded_to(values: Floats) -> str:
    """How coarsely an array is rounded: in words; empty if it is not."""
    for name, kind in (("halves", np.float16), ("singles", np.float32)):
        with np.errstate(over="ignore"):
            if (values == values.astype(kind).astype(np.float64)).all():
                return f"{name} of a computer"
    for decimals in range(1, 8):
        scaled = values * 10.0**decimals
        if (np.abs(scaled - np.round(scaled)) < 1e-6).all():
            return f"rounded to {decimals} decimals"
    return ""


def grid_of(values: Floats) -> float:
    """Spacing of the coarsest power-of-two grid (in kJ/mol, hartree or eV) that all differences stand on; 0 if none."""
    for unit in (1.0, KJ_PER_MOL_PER_HARTREE, 1.0 / EV_PER_KJ_PER_MOL):
        steps = np.diff(values) / unit
        steps = steps[np.isfinite(steps) & (steps != 0.0)]
        for power in range(COARSEST_GRID, FINEST_GRID, -1):
            count = steps / 2.0**power
            # Conversion of units leaves its own rounding in each number.
            loose = 8.0 * np.finfo(np.float64).eps * float(np.abs(values).max()) / unit / 2.0**power
            if loose > 1e-2:
                break
            if len(steps) > 2 and (np.abs(count - np.round(count)) <= max(loose, 1e-9)).all():
                return float(2.0**power * unit)
    return 0.0
