"""Forces of the final model against the forces that moved the atoms, frame by frame.

RMSE, maximum and percentiles are over force *components*, in eV/Å: the criterion of Zhang et al. (J. Chem. Phys. 148,
241740, 2018, doi:10.1063/1.5029879). Percentiles are of absolute component residuals.

Residuals are counted as they come and not kept. Sums, maxima and what is said of each frame are exact. A percentile is
the upper end of the bin that holds it, in bins that are 0.23 % wide: never too small, and never too large by more.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import Audit
from ..ensemble.card import SYMBOLS
from ..records.frames import Floats, Ints
from .findings import Check, Finding, Kind, Part, judge
from .record import CLASSES

UNIT = "eV/Å"
PERCENTILES = (95, 99)

#: Bins of residuals: logarithmic, from 1e-12 to 1e6 eV/Å, whatever lies outside in the outermost.
BINS_PER_DECADE, LOWEST_DECADE, HIGHEST_DECADE = 1000, -12, 6
BINS = BINS_PER_DECADE * (HIGHEST_DECADE - LOWEST_DECADE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Residuals of one group of atoms over the whole run, eV/Å; NaN where there are none.

    Attributes:
        rmse: over components.
        largest: absolute component.
        percentiles: of absolute components, by percent.
    """

    rmse: float
    largest: float
    percentiles: dict[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceErrors:
    """What is known of the residuals, final minus used.

    Attributes:
        evaluated: whether forces were evaluated, shape (f,).
        rmse, largest: over the components of each frame, eV/Å, shape (f,); NaN where not evaluated.
        rmse_of: the same RMSE over the atoms of each region class; NaN where a class has no atom.
        spreads: over the whole run, by group: `force` for all atoms, `force_core` …, `force_H` ….
        worst: the atoms with the largest error in any frame, as rows for a table.
    """

    evaluated: NDArray[np.bool_]
    rmse: Floats
    largest: Floats
    rmse_of: dict[str, Floats]
    spreads: dict[str, Spread]
    worst: list[dict[str, float | int | str]]


class ForceTally:
    """Counts residuals block by block.

    Args:
        numbers: atomic numbers, shape (n,).
        frames: number of frames of the run.
    """

    def __init__(self, numbers: Ints, frames: int) -> None:
        self._numbers = numbers
        self._elements, self._element_of = np.unique(numbers, return_inverse=True)
        n, groups = len(numbers), len(CLASSES) + len(self._elements)
        self._squares, self._counts, self._peaks = np.zeros(groups), np.zeros(groups), np.zeros(groups)
        self._bins = np.zeros((groups, BINS), dtype=np.int64)
        self._evaluated = np.zeros(frames, dtype=bool)
        self._rmse, self._largest = np.full(frames, np.nan), np.full(frames, np.nan)
        self._rmse_of = {name: np.full(frames, np.nan) for name in CLASSES}
        self._atom_squares, self._atom_peak = np.zeros(n), np.full(n, -np.inf)
        self._atom_step, self._atom_flag = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)

    def add(self, rows: Ints, steps: Ints, residual: Floats, flags: NDArray[np.int8]) -> None:
        """Count g frames.

        Args:
            rows: their numbers in the run, shape (g,).
            steps: of the frames, shape (g,).
            residual: final minus used, eV/Å, shape (g, n, 3).
            flags: region class of each atom, shape (g, n).
        """
        if not len(rows):
            return
        size = np.abs(residual)
        squares, peaks = (size**2).sum(axis=2), size.max(axis=2)
        self._evaluated[rows] = True
        self._rmse[rows] = np.sqrt(squares.mean(axis=1) / 3.0)
        self._largest[rows] = peaks.max(axis=1)
        bins = _bins(size)
        for k, (name, flag) in enumerate(CLASSES.items()):
            mask = flags == flag
            count = mask.sum(axis=1)
            total = (squares * mask).sum(axis=1) if mask.any() else np.zeros(len(rows))
            mean = np.divide(total, 3 * count, out=np.full(len(rows), np.nan), where=count > 0)
            self._rmse_of[name][rows] = np.sqrt(mean)
            self._count(k, squares[mask], peaks[mask], bins[mask])
        for k in range(len(self._elements)):
            mask = self._element_of == k
            self._count(len(CLASSES) + k, squares[:, mask], peaks[:, mask], bins[:, mask])
        self._rank(steps, squares, flags)

    def _count(self, group: int, squares: Floats, peaks: Floats, bins: Ints) -> None:
        if not squares.size:
            return
        self._squares[group] += squares.sum()
        self._counts[group] += 3 * squares.size
        self._peaks[group] = np.maximum(self._peaks[group], peaks.max())
        self._bins[group] += np.bincount(bins.ravel(), minlength=BINS)

    def _rank(self, steps: Ints, squares: Floats, flags: NDArray[np.int8]) -> None:
        self._atom_squares += squares.sum(axis=0)
        norm = np.sqrt(squares)
        frame, atom = norm.argmax(axis=0), np.arange(norm.shape[1])
        new = norm[frame, atom] > self._atom_peak
        self._atom_peak[new] = norm[frame, atom][new]
        self._atom_step[new] = steps[frame][new]
        self._atom_flag[new] = flags[frame, atom][new]

    def errors(self) -> ForceErrors:
        """What is known of all frames that were counted."""
        classes = range(len(CLASSES))
        groups = {"force": list(classes)}
        groups |= {f"force_{name}": [k] for k, name in zip(classes, CLASSES, strict=True)}
        for k, number in enumerate(self._elements):
            groups[f"force_{SYMBOLS.get(int(number), f'Z{number}')}"] = [len(CLASSES) + k]
        return ForceErrors(
            evaluated=self._evaluated,
            rmse=self._rmse,
            largest=self._largest,
            rmse_of=self._rmse_of,
            spreads={name: self._spread(chosen) for name, chosen in groups.items()},
            worst=self._worst(),
        )

    def _spread(self, groups: list[int]) -> Spread:
        count, squares = self._counts[groups].sum(), self._squares[groups].sum()
        if count == 0:
            return Spread(rmse=np.nan, largest=np.nan, percentiles={})
        peak = float(self._peaks[groups].max())
        cumulative = np.cumsum(self._bins[groups].sum(axis=0))
        edges = [int(np.searchsorted(cumulative, np.ceil(count * p / 100.0))) + 1 for p in PERCENTILES]
        ends = [10.0 ** (LOWEST_DECADE + edge / BINS_PER_DECADE) for edge in edges]
        known = np.isfinite(squares)
        percentiles = {p: min(end, peak) if known else np.nan for p, end in zip(PERCENTILES, ends, strict=True)}
        return Spread(rmse=float(np.sqrt(squares / count)), largest=peak, percentiles=percentiles)

    def _worst(self, count: int = 10) -> list[dict[str, float | int | str]]:
        frames = max(int(self._evaluated.sum()), 1)
        return [
            {
                "atom": int(atom),
                "element": SYMBOLS.get(int(self._numbers[atom]), "?"),
                "largest_error_eV_per_A": float(self._atom_peak[atom]),
                "rms_error_eV_per_A": float(np.sqrt(self._atom_squares[atom] / frames)),
                "step": int(self._atom_step[atom]),
                "region": next(name for name, value in CLASSES.items() if value == self._atom_flag[atom]),
            }
            for atom in np.argsort(-self._atom_peak, kind="stable")[:count]
        ]


def _bins(size: Floats) -> Ints:
    """Number of the bin of each absolute residual; one that is not finite counts in the last."""
    finite = np.where(np.isfinite(size), np.maximum(size, 10.0**LOWEST_DECADE), 10.0**HIGHEST_DECADE)
    found = np.floor((np.log10(finite) - LOWEST_DECADE) * BINS_PER_DECADE).astype(np.int64)
    result: Ints = np.clip(found, 0, BINS - 1)
    return result


def summary(prefix: str, spread: Spread) -> list[Finding]:
    """RMSE, maximum and percentiles of one group, eV/Å."""
    rows = [("rmse", spread.rmse)]
    if spread.percentiles:
        rows += [("maxresid", spread.largest), *((f"p{p}", value) for p, value in spread.percentiles.items())]
    return [Finding(name=f"{prefix}_{what}", value=value, expected=0.0, unit=UNIT) for what, value in rows]


def out_of_tolerance(errors: ForceErrors, tolerance: Audit) -> NDArray[np.bool_]:
    """Whether each evaluated frame exceeds a force tolerance, shape (f,); not a number exceeds."""
    within: NDArray[np.bool_] = np.all([series <= limit for _, series, limit, _ in _held(errors, tolerance)], axis=0)
    return errors.evaluated & ~within


def _held(errors: ForceErrors, tolerance: Audit) -> tuple[tuple[str, Floats, float, str], ...]:
    """What is held to a tolerance in each frame: name of the check, series of shape (f,), limit, and words for it."""
    core = np.where(np.isnan(errors.rmse_of["core"]) & np.isfinite(errors.rmse), 0.0, errors.rmse_of["core"])
    return (
        ("force_rmse", errors.rmse, tolerance.force_rmse_eV_per_A, "RMSE"),
        # In a large system the solvent would dilute what is wrong where it matters.
        ("force_rmse_core", core, tolerance.force_rmse_eV_per_A, "RMSE over the core"),
        ("force_maxresid", errors.largest, tolerance.force_maxresid_eV_per_A, "largest component"),
    )


def force_part(steps: Ints, errors: ForceErrors, tolerance: Audit, advice: str = "") -> Part:
    """Findings for all atoms, by region class and by element, and the checks.

    Args:
        steps: of the frames, shape (f,).
        errors: of the forces.
        tolerance: of the configuration.
        advice: what to do about frames out of tolerance; ends the first check that fails.
    """
    findings = [finding for name, spread in errors.spreads.items() for finding in summary(name, spread)]
    checks = []
    for name, series, limit, what in _held(errors, tolerance):
        check = _check(name, steps, errors.evaluated, series, limit, what, advice)
        checks.append(check)
        advice = advice if check.status == "pass" else ""
    return Part(checks=tuple(checks), findings=tuple(findings))


def _check(
    name: str, steps: Ints, evaluated: NDArray[np.bool_], series: Floats, tolerance: float, what: str, advice: str
) -> Check:
    bad, count = np.flatnonzero(evaluated & ~(series <= tolerance)), int(evaluated.sum())
    problems = []
    if len(bad):
        first = int(bad[0])
        worst = f"{np.nanmax(series[bad]):.3g}" if np.isfinite(series[bad]).any() else "not a number"
        problems.append(
            f"in {len(bad)} of {count} frames the {what} of the force difference to the final model exceeds "
            f"{tolerance:g} {UNIT}, first at step {int(steps[first])} ({series[first]:.3g}), worst {worst}" + advice
        )
    every = (
        "every frame" if count == len(series) else f"each of the {count} of {len(series)} frames that were evaluated"
    )
    fine = f"in {every} the {what} of the force difference is at most {_most(series):.3g} {UNIT} (≤ {tolerance:g})"
    return judge(name, Kind.FORCES, problems, fine)


def _most(series: Floats) -> float:
    known = series[np.isfinite(series)]
    return float(known.max()) if len(known) else float("nan")
