"""Forces of the final model against the forces that moved the atoms, frame by frame.

RMSE, maximum and percentiles are over force *components*, in eV/Å: the criterion of Zhang et al. (J. Chem. Phys. 148,
241740, 2018, doi:10.1063/1.5029879). Percentiles are of absolute component residuals.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import Audit
from ..ensemble.card import SYMBOLS
from ..records.frames import Floats, Frames, Ints
from ..units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
from .findings import Check, Finding, Kind, Part, judge
from .record import CLASSES

UNIT = "eV/Å"
PERCENTILES = (95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceErrors:
    """Residuals of the forces of all frames.

    Attributes:
        residual: final minus used, eV/Å, shape (f, n, 3).
        flags: region class of each atom, shape (f, n).
        numbers: atomic numbers, shape (n,).
    """

    residual: Floats
    flags: NDArray[np.int8]
    numbers: Ints

    def per_frame(self, flag: int | None = None) -> tuple[Floats, Floats]:
        """RMSE and largest component of each frame, eV/Å, shape (f,) each; NaN where the class has no atom."""
        weight = np.ones(self.flags.shape) if flag is None else (self.flags == flag).astype(np.float64)
        count = weight.sum(axis=1)
        squares = ((self.residual**2).sum(axis=2) * weight).sum(axis=1)
        largest = (np.abs(self.residual).max(axis=2) * weight).max(axis=1)
        rmse = np.sqrt(np.divide(squares, 3 * count, out=np.full(len(count), np.nan), where=count > 0))
        return rmse, np.where(count > 0, largest, np.nan)


def force_errors(frames: Frames, forces_final: Floats, flags: NDArray[np.int8], numbers: Ints) -> ForceErrors:
    """Residuals from forces in kJ/mol/nm, shape (f, n, 3)."""
    residual = (forces_final - frames.forces_used) * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM
    return ForceErrors(residual=residual, flags=flags, numbers=numbers)


def summary(prefix: str, residual: Floats) -> list[Finding]:
    """RMSE, maximum and percentiles of residuals of any shape, eV/Å."""
    size = np.abs(residual).ravel()
    if size.size == 0:
        return [Finding(name=f"{prefix}_rmse", value=np.nan, expected=0.0, unit=UNIT)]
    rows = [("rmse", float(np.sqrt((size**2).mean()))), ("maxresid", float(size.max()))]
    rows += [(f"p{p}", float(np.percentile(size, p))) for p in PERCENTILES]
    return [Finding(name=f"{prefix}_{what}", value=value, expected=0.0, unit=UNIT) for what, value in rows]


def out_of_tolerance(errors: ForceErrors, tolerance: Audit) -> NDArray[np.bool_]:
    """Whether each frame exceeds either force tolerance, shape (f,); a NaN exceeds."""
    rmse, largest = errors.per_frame()
    within = (rmse <= tolerance.force_rmse_eV_per_A) & (largest <= tolerance.force_maxresid_eV_per_A)
    return ~within


def force_part(frames: Frames, errors: ForceErrors, tolerance: Audit) -> Part:
    """Findings for all atoms, by region class and by element, and the two checks."""
    findings = summary("force", errors.residual)
    for name, flag in CLASSES.items():
        findings += summary(f"force_{name}", errors.residual[errors.flags == flag])
    for number in sorted({int(z) for z in errors.numbers}):
        symbol = SYMBOLS.get(number, f"Z{number}")
        findings += summary(f"force_{symbol}", errors.residual[:, errors.numbers == number])
    rmse, largest = errors.per_frame()
    core = np.nan_to_num(errors.per_frame(CLASSES["core"])[0])
    checks = (
        _check("force_rmse", frames, rmse, tolerance.force_rmse_eV_per_A, "RMSE"),
        # In a large system the solvent would dilute what is wrong where it matters.
        _check("force_rmse_core", frames, core, tolerance.force_rmse_eV_per_A, "RMSE over the core"),
        _check("force_maxresid", frames, largest, tolerance.force_maxresid_eV_per_A, "largest component"),
    )
    return Part(checks=checks, findings=tuple(findings))


def _check(name: str, frames: Frames, series: Floats, tolerance: float, what: str) -> Check:
    bad = np.flatnonzero(~(series <= tolerance))
    problems = []
    if len(bad):
        first = int(bad[0])
        worst = f"{np.nanmax(series[bad]):.3g}" if np.isfinite(series[bad]).any() else "not a number"
        problems.append(
            f"in {len(bad)} of {len(frames)} frames the {what} of the force difference to the final model exceeds "
            f"{tolerance:g} {UNIT}, first at step {int(frames.step[first])} ({series[first]:.3g}), worst {worst}"
        )
    fine = (
        f"in every frame the {what} of the force difference is at most {np.nanmax(series):.3g} {UNIT} (≤ {tolerance:g})"
    )
    return judge(name, Kind.FORCES, problems, fine)


def worst_atoms(frames: Frames, errors: ForceErrors, count: int = 10) -> list[dict[str, float | int | str]]:
    """The atoms with the largest force error in any frame: index, element, error norms, where and when."""
    norm = np.linalg.norm(errors.residual, axis=2)
    peak = norm.max(axis=0)
    rows: list[dict[str, float | int | str]] = []
    for atom in np.argsort(-peak, kind="stable")[:count]:
        frame = int(norm[:, atom].argmax())
        flag = int(errors.flags[frame, atom])
        rows.append(
            {
                "atom": int(atom),
                "element": SYMBOLS.get(int(errors.numbers[atom]), "?"),
                "largest_error_eV_per_A": float(peak[atom]),
                "rms_error_eV_per_A": float(np.sqrt((norm[:, atom] ** 2).mean())),
                "step": int(frames.step[frame]),
                "region": next(name for name, value in CLASSES.items() if value == flag),
            }
        )
    return rows
