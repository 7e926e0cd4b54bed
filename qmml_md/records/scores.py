"""How good a calibration was: coverage, misses, false alarms, rank correlation, from numbers that were known in time.

Learning measures itself with these while a run goes on, and the auditor measures the run again from its record; so the
definitions stand below both. ``docs/quantities/calibration.md`` says them in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .rows import LabelRow

Floats = NDArray[np.float64]

#: Force error that is looked for where no target is given, eV/Å: half the disagreement at which a region begins by
#: default, as disagreement is about twice the error.
DEFAULT_TARGET_EV_PER_A = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What predictions made before a label were worth. Shares are NaN where there is nothing to share.

    Attributes:
        atoms: atoms that were predicted and then labelled.
        target: force error that matters, eV/Å.
        coverage: share of atoms whose error is at most its bound.
        miss_rate: share of all atoms with error above the target and bound not above it.
        worst_miss_rate: the same at whichever target makes it largest.
        false_alarm_rate: share of the atoms with error at most the target whose bound is above it.
        found: share of the atoms with error above the target whose bound is above it, too.
        spearman: rank correlation of expected and true error.
        sharpness: mean bound over mean error.
    """

    atoms: int
    target: float
    coverage: float
    miss_rate: float
    worst_miss_rate: float
    false_alarm_rate: float
    found: float
    spearman: float
    sharpness: float


def score(expected: Floats, bound: Floats, error: Floats, target: float | None = None) -> Scores:
    """Compare predictions with what labels then revealed.

    Args:
        expected: expected force error of each atom, eV/Å, shape (a,).
        bound: its upper bound, eV/Å, shape (a,).
        error: norm of the force residual, eV/Å, shape (a,).
        target: force error that matters, eV/Å; None for ``DEFAULT_TARGET_EV_PER_A``.
    """
    chosen = DEFAULT_TARGET_EV_PER_A if target is None else target
    wrong, alarm = error > chosen, bound > chosen
    return Scores(
        atoms=len(error),
        target=chosen,
        coverage=_share(error <= bound),
        miss_rate=_share(wrong & ~alarm),
        worst_miss_rate=_worst_miss_rate(bound, error),
        false_alarm_rate=_share(alarm[~wrong]),
        found=_share(alarm[wrong]),
        spearman=spearman(expected, error),
        sharpness=float(bound.mean() / error.mean()) if len(error) and error.mean() > 0.0 else float("nan"),
    )


def pooled(rows: Sequence[LabelRow], key: str) -> float:
    """RMSE over the atoms of all clusters together, eV/Å; NaN without any.

    Args:
        rows: labels with their prequential scores.
        key: of the RMSE of each cluster in its data.
    """
    if not rows:
        return float("nan")
    atoms = np.array([len(row.data["parents"]) for row in rows], dtype=np.float64)
    rmse = np.array([row.data[key] for row in rows], dtype=np.float64)
    return float(np.sqrt((atoms * rmse**2).sum() / atoms.sum()))


def spearman(first: Floats, second: Floats) -> float:
    """Rank correlation, ties sharing their mean rank; NaN for fewer than three values or a constant."""
    if len(first) < 3 or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return float("nan")
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    result: Floats = (last - 0.5 * (counts - 1))[place]
    return result


def _share(which: NDArray[np.bool_]) -> float:
    return float(which.mean()) if len(which) else float("nan")


def _worst_miss_rate(bound: Floats, error: Floats) -> float:
    """A target t misses the atoms with bound ≤ t < error; the most that any t can miss is met at one of the bounds."""
    if len(error) == 0:
        return float("nan")
    below = np.searchsorted(np.sort(bound), bound, side="right")
    done = np.searchsorted(np.sort(np.maximum(bound, error)), bound, side="right")
    return float((below - done).max() / len(error))
