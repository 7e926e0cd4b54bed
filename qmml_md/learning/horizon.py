"""How long a label holds: the error on new labels against the steps since the last one, and the interval from it.

The prequential error of a label, divided by the starting model's error on the same label, is 1 where learning brought
nothing and 0 where it knows the answer. Just after a label it is small; it rises as the atoms move on:

``r(t) = 1 − g · 2^(−t / h)``

with a gain g between 0 and 1. The horizon h is the number of steps after which half of the gain is gone. Both numbers
minimise the sum of absolute deviations, which a few wild labels cannot move far. The minimum is sought on a grid, so
that the same scores always give the same horizon.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..system.molecules import Floats

#: Below this many scores nothing is said.
FEWEST_VISITS = 4
#: The scores that count are the latest ones: the model goes on learning.
LATEST_VISITS = 24
#: A gain below this is no gain: what was never won cannot fade.
LEAST_GAIN = 0.1
#: A fit of n scores must take at least this, over n, off the misfit of no gain at all (relative), or it fits noise: two
#: free numbers always take some. Of series of 4 to 24 scores without any gain and a scatter of a quarter, one in ten
#: then gives a horizon; of eight scores without this rule, two in five did.
LEAST_IMPROVEMENT = 1.6
#: N is this fraction of the horizon: at the end of an interval 2^(−1/2), about 71 %, of the gain is left.
INTERVAL_PER_HORIZON = 0.5
#: N stays where the interval wanted is within this factor of it.
HYSTERESIS = 1.5
#: N changes at most by this factor in one decision.
LARGEST_CHANGE = 2.0
#: A label twice as bad as without learning and one ten times as bad are the same news.
WORST_RATIO = 2.0
#: The grid: horizons between half the shortest and twice the longest time that was seen, and gains.
HORIZONS = 97
GAINS = np.linspace(0.0, 1.0, 41)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One prequential score.

    Attributes:
        steps_since: steps since the last label.
        force_rmse: of the model on the new label before training on it, eV/Å.
        force_rmse_start: of the model that the run began with on the same label, eV/Å.
    """

    steps_since: int
    force_rmse: float
    force_rmse_start: float


def horizon_steps(visits: Sequence[Visit]) -> float | None:
    """Steps after which half of what a label brought is lost.

    A horizon of more than twice the longest time that was seen cannot be told from that; it is given as that bound.

    Args:
        visits: scores in the order of the run. Those at zero steps say nothing and are left out, and so are those where
            both errors are equal to the last bit: there the model is still the first one.

    Returns:
        Steps; None with fewer than ``FEWEST_VISITS`` scores, or where no gain was measured.
    """
    times, ratios = _scores(visits)
    if len(times) < FEWEST_VISITS:
        return None
    grid = np.geomspace(0.5 * times.min(), 2.0 * times.max(), HORIZONS)
    left = np.exp2(-times / grid[:, None])
    misfit = np.abs(1.0 - GAINS[:, None, None] * left - ratios).sum(axis=2)
    # Shape (gains, horizons); of equal minima the smallest gain and the shortest horizon count.
    gain, horizon = np.unravel_index(int(np.argmin(misfit.round(12))), misfit.shape)
    improvement = (misfit[0, 0] - misfit[gain, horizon]) * len(times)
    if float((GAINS[gain] * left[horizon]).max()) < LEAST_GAIN or improvement < LEAST_IMPROVEMENT * misfit[0, 0]:
        return None
    return float(grid[horizon])


def next_interval(current: int, visits: Sequence[Visit], *, shortest: int, longest: int) -> int:
    """The interval N between looks, from the measured horizon.

    Args:
        current: N so far, steps.
        visits: scores in the order of the run.
        shortest: least N, steps.
        longest: largest N, steps.

    Returns:
        ``current``, within the bounds, where no horizon is known or the interval wanted is within ``HYSTERESIS`` of it;
        else the interval wanted, but at most twice and at least half the current one, within the bounds.

    Raises:
        ValueError: the bounds are not 1 ≤ shortest ≤ longest.
    """
    if not 1 <= shortest <= longest:
        raise ValueError(f"intervals from {shortest} to {longest} steps")
    horizon = horizon_steps(visits)
    wanted = float(current)
    if horizon is not None:
        aim = min(max(INTERVAL_PER_HORIZON * horizon, float(shortest)), float(longest))
        if not current / HYSTERESIS <= aim <= current * HYSTERESIS:
            wanted = min(max(aim, current / LARGEST_CHANGE), current * LARGEST_CHANGE)
    return min(max(round(wanted), shortest), longest)


def _scores(visits: Sequence[Visit]) -> tuple[Floats, Floats]:
    """Steps and ratios of the latest scores that say something: those of a model that is no longer the first one."""
    latest = [
        v
        for v in visits
        if v.steps_since > 0
        and v.force_rmse_start > 0.0
        and np.isfinite(v.force_rmse)
        and v.force_rmse != v.force_rmse_start
    ][-LATEST_VISITS:]
    times = np.array([v.steps_since for v in latest], dtype=np.float64)
    ratios = np.array([v.force_rmse / v.force_rmse_start for v in latest], dtype=np.float64)
    return times, np.minimum(ratios, WORST_RATIO)
