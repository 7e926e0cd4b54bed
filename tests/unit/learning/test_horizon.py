"""The horizon is recovered from scores that follow its law, is not moved far by wild ones, and moves N with care."""

import numpy as np
import pytest

from qmml_md.learning.horizon import HORIZONS, LATEST_VISITS, Visit, horizon_steps, next_interval

TIMES = (20, 40, 60, 80, 120, 160, 200)
#: The grid of horizons spans a factor of 4 · (longest / shortest time): the nearest point is within half a step, 1.9 %.
#: The grid of gains has steps of 1/40; a gain that is off by half a step is made up for by a horizon that is off by
#: 0.0125 / (g ln 2), 3.6 % for g = 0.5, at the times around the horizon that decide.
GRID = (4.0 * max(TIMES) / min(TIMES)) ** (0.5 / (HORIZONS - 1)) - 1.0 + 0.0125 / (0.5 * np.log(2.0))


def visit(steps: int, ratio: float, untrained: float = 0.06) -> Visit:
    return Visit(steps_since=steps, force_rmse=ratio * untrained, force_rmse_start=untrained)


def law(gain: float, horizon: float, times=TIMES) -> list[Visit]:
    """Scores without scatter."""
    return [visit(t, 1.0 - gain * 2.0 ** (-t / horizon)) for t in times]


@pytest.mark.parametrize("gain", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("horizon", [30.0, 60.0, 150.0])
def test_scores_that_follow_the_law_give_its_horizon(gain: float, horizon: float) -> None:
    assert horizon_steps(law(gain, horizon)) == pytest.approx(horizon, rel=GRID)


def test_another_law_would_be_told_apart() -> None:
    """The twin: scores of a horizon one tenth longer lie beyond the tolerance of the test above."""
    assert horizon_steps(law(0.75, 66.0)) != pytest.approx(60.0, rel=GRID)


def test_two_wild_labels_among_seven_move_it_little() -> None:
    honest = law(0.75, 60.0)
    wild = [visit(20, 9.0), *honest[1:3], visit(80, 0.02), *honest[4:]]
    assert horizon_steps(wild) == pytest.approx(60.0, rel=0.1)
    # The twin: the same scores in least squares, by the grid's own law, are dragged away.
    times = np.array([v.steps_since for v in wild], dtype=float)
    ratios = np.array([v.force_rmse / v.force_rmse_start for v in wild])
    grid = np.geomspace(10.0, 400.0, 200)
    squares = [
        min(float(((1 - g * 2.0 ** (-times / h) - ratios) ** 2).sum()) for g in np.linspace(0, 1, 41)) for h in grid
    ]
    assert grid[int(np.argmin(squares))] != pytest.approx(60.0, rel=0.5)


def test_too_few_scores_or_no_gain_say_nothing() -> None:
    assert horizon_steps([]) is None
    assert horizon_steps(law(0.75, 60.0)[:3]) is None
    assert horizon_steps(law(0.75, 60.0)[:4]) is not None
    assert horizon_steps([visit(t, 1.0 + 0.01 * k) for k, t in enumerate(TIMES)]) is None
    # Learning that made it worse everywhere has no gain that could fade.
    assert horizon_steps([visit(t, 1.3) for t in TIMES]) is None


def test_scores_of_the_first_model_and_at_zero_steps_do_not_count() -> None:
    silent = [visit(t, 1.0) for t in TIMES] + [visit(0, 0.01)] * 5
    assert horizon_steps(silent) is None
    assert horizon_steps([*silent, *law(0.75, 60.0)]) == horizon_steps(law(0.75, 60.0))


def test_a_gain_that_never_fades_is_bounded_by_what_was_seen() -> None:
    assert horizon_steps([visit(t, 0.4) for t in TIMES]) == pytest.approx(2.0 * max(TIMES))


def test_only_the_latest_scores_count() -> None:
    late = law(0.75, 120.0) * 4
    assert len(late) >= LATEST_VISITS
    assert horizon_steps(law(0.75, 30.0) * 4 + late) == pytest.approx(120.0, rel=GRID)


def test_interval_goes_to_half_the_horizon_at_most_by_two() -> None:
    scores = law(0.75, 120.0)
    # Half of 120, up to the grid and rounding to whole steps.
    seen = [16]
    for _ in range(4):
        seen.append(next_interval(seen[-1], scores, shortest=5, longest=400))
    assert seen[1] == 32
    assert seen[2:] == pytest.approx([60, 60, 60], abs=60 * GRID + 0.5)
    down = next_interval(300, law(0.75, 30.0), shortest=5, longest=400)
    assert down == 150


def test_interval_stays_within_the_hysteresis() -> None:
    scores = law(0.75, 120.0)
    for current in (42, 50, 60, 75, 86):
        assert next_interval(current, scores, shortest=5, longest=400) == current
    # Beyond a factor of 1.5 it moves.
    assert next_interval(38, scores, shortest=5, longest=400) != 38
    assert next_interval(95, scores, shortest=5, longest=400) != 95


def flips(scores: list[list[Visit]], current: int) -> int:
    """Changes of N along a series of decisions."""
    count = 0
    for visits in scores:
        fresh = next_interval(current, visits, shortest=5, longest=400)
        count += fresh != current
        current = fresh
    return count


def test_scatter_of_the_horizon_does_not_make_n_flicker() -> None:
    wavering = [law(0.75, h) for h in (100.0, 140.0, 95.0, 150.0, 110.0, 135.0)]
    assert flips(wavering, 60) == 0
    # The twin: horizons that truly differ by more than the hysteresis on both sides do move it.
    assert flips([law(0.75, h) for h in (40.0, 200.0, 40.0, 200.0)], 60) == 4


def test_bounds_hold_and_nothing_known_changes_nothing() -> None:
    assert next_interval(20, [], shortest=5, longest=80) == 20
    assert next_interval(200, [], shortest=5, longest=80) == 80
    assert next_interval(60, law(1.0, 400.0, (100, 200, 300, 400)), shortest=5, longest=80) == 60
    assert next_interval(40, law(1.0, 400.0, (100, 200, 300, 400)), shortest=5, longest=80) == 80
    assert next_interval(20, law(1.0, 4.0, (2, 4, 6, 8)), shortest=15, longest=80) == 20
    assert next_interval(40, law(1.0, 4.0, (2, 4, 6, 8)), shortest=15, longest=80) == 20
    with pytest.raises(ValueError, match="intervals from 0"):
        next_interval(20, [], shortest=0, longest=80)
