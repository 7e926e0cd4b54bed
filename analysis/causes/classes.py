"""The classes of causes that a verdict may name, and the factors that betray a unit.

A regression through the origin of what is stored on what was recomputed gives a factor. Noise does not move it (it is
not correlated with the truth), so a factor that is far from one is a mistake of scale, and the common mistakes have
numbers of their own: a unit that was not converted, a sign, a half, a two.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ...records.frames import Floats
from ...units import (
    ANGSTROM_PER_BOHR,
    EV_PER_HARTREE,
    KJ_PER_KCAL,
    KJ_PER_MOL_PER_EV,
    KJ_PER_MOL_PER_HARTREE,
)
from ..findings import Finding


class Cause(StrEnum):
    """What kind of mistake made a check fail."""

    TIMESTEP = "integrator step too long"
    NOT_GRADIENT = "forces are not the gradient"
    NOT_BOOKED = "exchange not booked"
    FRAMES = "frames lost, duplicated or reordered"
    WRONG_MODEL = "wrong model for a segment"
    UNIT = "unit factor"
    PRECISION = "precision"
    HEAT = "thermostat heat missing"
    OFF_STEP = "velocities of another time than the positions"
    MASSES = "other masses than those recorded"
    FILE = "file damaged"
    MODEL_DIFFERS = "model disagreement"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One likely cause.

    Attributes:
        cause: its class.
        why: one sentence with the numbers, for a person.
        strength: 0 … 1, by how specific the signature is; diagnoses are ordered by it.
        evidence: the numbers.
    """

    cause: Cause
    why: str
    strength: float
    evidence: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A line through the origin, ``stored = factor · recomputed``.

    Attributes:
        factor: least squares; NaN where nothing was recomputed.
        error: its standard error, from the scatter of the points.
        unexplained: what the line leaves of the stored numbers, ``|stored − factor·recomputed| / |stored|``.
        before: the same for a factor of one, ``|stored − recomputed| / |recomputed|``.
    """

    factor: float
    error: float
    unexplained: float
    before: float


def fit(stored: Floats, recomputed: Floats) -> Fit:
    """Fit a factor to two arrays of equal shape; numbers that are not finite are left out."""
    s, r = stored.ravel(), recomputed.ravel()
    known = np.isfinite(s) & np.isfinite(r)
    s, r = s[known], r[known]
    rr, ss = float(r @ r), float(s @ s)
    if rr == 0.0 or ss == 0.0:
        return Fit(factor=math.nan, error=math.nan, unexplained=math.nan, before=math.nan)
    factor = float(s @ r) / rr
    left = s - factor * r
    scatter = float(left @ left)
    return Fit(
        factor=factor,
        error=math.sqrt(scatter / max(1, len(s) - 1) / rr),
        unexplained=math.sqrt(scatter / ss),
        before=float(np.linalg.norm(s - r)) / math.sqrt(rr),
    )


#: Factors that come of a unit that was not converted, or was converted twice, with their inverses.
_UNITS = {
    "eV for kJ/mol": KJ_PER_MOL_PER_EV,
    "eV/Å for kJ/mol/nm": 10.0 * KJ_PER_MOL_PER_EV,
    "kcal for kJ": KJ_PER_KCAL,
    "kcal/mol/Å for kJ/mol/nm": 10.0 * KJ_PER_KCAL,
    "kcal for eV": KJ_PER_MOL_PER_EV / KJ_PER_KCAL,
    "hartree for kJ/mol": KJ_PER_MOL_PER_HARTREE,
    "hartree for eV": EV_PER_HARTREE,
    "hartree for kcal/mol": KJ_PER_MOL_PER_HARTREE / KJ_PER_KCAL,
    "hartree/bohr for eV/Å": EV_PER_HARTREE / ANGSTROM_PER_BOHR,
    "hartree/bohr for kJ/mol/nm": 10.0 * KJ_PER_MOL_PER_HARTREE / ANGSTROM_PER_BOHR,
    "bohr for Å": ANGSTROM_PER_BOHR,
    "bohr for nm": ANGSTROM_PER_BOHR / 10.0,
    "Å for nm, or nm for Å": 10.0,
    "Å² for nm²": 100.0,
    "fs for ps, or a power of thousand": 1000.0,
    "fs² for ps²": 1e6,
    "Å/fs for nm/ps, squared": 1e4,
    "ASE's unit of time for ps": math.sqrt(KJ_PER_MOL_PER_EV),
    "ASE's unit of time for ps, and Å for nm": 10.0 * math.sqrt(KJ_PER_MOL_PER_EV),
    "ASE's unit of time for fs": 100.0 / math.sqrt(KJ_PER_MOL_PER_EV),
}
UNIT_FACTORS = {**_UNITS, **{f"{name}, the other way round": 1.0 / value for name, value in _UNITS.items()}}


def unit_of_factor(factor: float, tolerance: float = 0.01) -> str | None:
    """The unit mistake that a factor betrays, of either sign; None if there is none within a relative tolerance."""
    if not math.isfinite(factor) or factor == 0.0:
        return None
    name = min(UNIT_FACTORS, key=lambda each: abs(math.log(abs(factor) / UNIT_FACTORS[each])))
    return name if abs(math.log(abs(factor) / UNIT_FACTORS[name])) <= tolerance else None


def cause_of_factor(found: Fit, what: str) -> Diagnosis | None:
    """What a factor says of forces, energies or velocities; None where it is one, or where there is no line.

    Half, double and negative multiples are factors that no pair of units has: then it is the formula that is wrong.
    """
    if not math.isfinite(found.factor) or found.unexplained > 0.5:
        return None
    evidence = (Finding(name=f"factor_{what}", value=found.factor, expected=1.0, standard_error=found.error, unit="1"),)
    shown = f"stored {what} are {found.factor:.6g} times what the model gives"
    unit = unit_of_factor(found.factor)
    if unit is not None:
        cause, why = Cause.UNIT, f"{shown}: {unit}"
    elif abs(found.factor - 1.0) > max(0.02, 5.0 * found.error):
        cause, why = Cause.NOT_GRADIENT, f"{shown}: a sign or a factor that is no unit"
    else:
        return None
    return Diagnosis(cause=cause, why=why, strength=0.95 if found.unexplained < 0.1 else 0.6, evidence=evidence)
