"""How long a label holds: the horizon that the interval between looks is justified by, measured from the record.

The model is that of docs/quantities/horizon.md, ``r(t) = 1 − g · 2^(−t / h)``, fitted by least absolute deviations. For
a given h the best g is a weighted median, so only h is searched. It is a measurement and makes no verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records.rows import LabelRow
from .findings import Finding, Part

Series = NDArray[np.float64]

#: Below this many visits there is no horizon.
FEWEST_VISITS = 4
#: A gain below the first at the earliest visit is no gain, and a fit of v visits that takes less than the second over v
#: off the misfit of no gain fits noise.
LEAST_GAIN, LEAST_IMPROVEMENT = 0.1, 1.6
#: Ratios beyond this count as this.
WORST_RATIO = 2.0
#: Horizons that are tried, between half the shortest and twice the longest time.
TRIED = 385
#: Resamples of the visits for the standard error.
RESAMPLES = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Visits:
    """Labels that a model met that had learned before.

    Attributes:
        time: since the label before, fs, shape (v,).
        ratio: of the force RMSE to that of the first model on the same label, shape (v,).
    """

    time: Series
    ratio: Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """A fitted horizon.

    Attributes:
        gain: g, the part of the error that learning takes away just after a label.
        time: h, fs.
        bounded: whether h stands at twice the longest time, so that it is a lower bound.
    """

    gain: float
    time: float
    bounded: bool


def horizon_part(labels: Sequence[LabelRow], first_model: str, timestep_fs: float) -> Part:
    """Number of visits, and the horizon where there are enough.

    Args:
        labels: labels with their prequential scores, in order.
        first_model: identity of the model that the run began with.
        timestep_fs: of the run, fs.
    """
    visits = visits_of(labels, first_model, timestep_fs)
    if not len(visits.time):
        return Part()
    fitted = fit_horizon(visits)
    none = float("nan")
    return Part(
        findings=(
            Finding(name="horizon_visits", value=len(visits.time), unit=""),
            Finding(
                name="horizon_fs",
                value=none if fitted is None else fitted.time,
                standard_error=None if fitted is None else _standard_error(visits),
                unit="fs",
            ),
            Finding(name="horizon_gain", value=none if fitted is None else fitted.gain, unit=""),
        )
    )


def visits_of(labels: Sequence[LabelRow], first_model: str, timestep_fs: float) -> Visits:
    """The visits of a run; arguments as for ``horizon_part``."""
    rows = [
        (row.data["steps_since"] * timestep_fs, row.data["force_rmse"] / row.data["force_rmse_start"])
        for row in labels
        if row.model != first_model and row.data.get("steps_since") and row.data.get("force_rmse_start")
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    return Visits(time=table[:, 0], ratio=np.minimum(table[:, 1], WORST_RATIO))


def fit_horizon(visits: Visits) -> Horizon | None:
    """The horizon; None with fewer than ``FEWEST_VISITS`` visits, or where no gain was measured."""
    if len(visits.time) < FEWEST_VISITS:
        return None
    tried = np.geomspace(0.5 * visits.time.min(), 2.0 * visits.time.max(), TRIED)
    fits = [_best_gain(np.exp2(-visits.time / h), 1.0 - visits.ratio) for h in tried]
    best = int(np.argmin([misfit for _, misfit in fits]))
    gain, misfit = fits[best]
    none = float(np.abs(1.0 - visits.ratio).sum())
    seen = gain * 2.0 ** (-float(visits.time.min()) / float(tried[best]))
    if seen < LEAST_GAIN or (none - misfit) * len(visits.time) < LEAST_IMPROVEMENT * none:
        return None
    return Horizon(gain=gain, time=float(tried[best]), bounded=best == TRIED - 1)


def _best_gain(left: Series, won: Series) -> tuple[float, float]:
    """The g that minimises Σ |won − g · left|, and the minimum: g is the median of won / left with weights left."""
    left = np.maximum(left, np.finfo(np.float64).tiny)
    slopes = won / left
    order = np.argsort(slopes, kind="stable")
    weight = np.cumsum(left[order])
    middle = float(slopes[order][np.searchsorted(weight, 0.5 * weight[-1])])
    # The sum is convex in g, so the best g within bounds is the best one moved to the nearer bound.
    gain = min(max(middle, 0.0), 1.0)
    return gain, float(np.abs(won - gain * left).sum())


def _standard_error(visits: Visits) -> float | None:
    """Spread of the horizon over resamples of the visits; None if fewer than half of them have a horizon."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(visits.time), size=len(visits.time))
        fitted = fit_horizon(Visits(time=visits.time[drawn], ratio=visits.ratio[drawn]))
        if fitted is not None:
            found.append(fitted.time)
    return float(np.std(found, ddof=1)) if len(found) >= RESAMPLES // 2 else None
