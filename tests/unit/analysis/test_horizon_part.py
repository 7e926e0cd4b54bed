"""The auditor's own horizon: recovered from labels that follow the law, silent where there is nothing to tell."""

import dataclasses

import numpy as np
import pytest

from qmml_md.analysis.audit import audit
from qmml_md.analysis.horizon import TRIED, Visits, fit_horizon, horizon_part
from qmml_md.analysis.report.figures import style
from qmml_md.analysis.report.plots_horizon import horizon, intervals
from qmml_md.analysis.report.story import read_story
from qmml_md.learning.horizon import Visit, horizon_steps
from qmml_md.records.rows import Event, LabelRow

TIMES = np.array([20, 40, 60, 80, 120, 160, 200])
TIMESTEP_FS = 0.5
#: Half a step of the grid of horizons, which spans a factor of 4 · 10, in the logarithm.
GRID = 40.0 ** (0.5 / (TRIED - 1)) - 1.0


def rows(ratios, times=TIMES, model: str = "second") -> list[LabelRow]:
    return [
        LabelRow(
            key=f"k{k}",
            step=100 * k,
            model=model,
            region_epoch=1,
            data={"steps_since": int(t), "force_rmse": 0.06 * float(r), "force_rmse_start": 0.06},
        )
        for k, (t, r) in enumerate(zip(times, ratios, strict=True))
    ]


def law(gain: float, steps: float, times=TIMES) -> np.ndarray:
    return 1.0 - gain * 2.0 ** (-times / steps)


def findings(labels: list[LabelRow]):
    return {finding.name: finding for finding in horizon_part(labels, "first", TIMESTEP_FS).findings}


def test_horizon_of_the_law_in_femtoseconds() -> None:
    found = findings(rows(law(0.7, 60.0)))
    assert found["horizon_visits"].value == len(TIMES)
    assert found["horizon_fs"].value == pytest.approx(60.0 * TIMESTEP_FS, rel=GRID)
    assert found["horizon_fs"].unit == "fs"
    # The gain follows the horizon: at t it is off by (t / h) ln 2 · GRID, t ≤ 200 = 3.3 h.
    assert found["horizon_gain"].value == pytest.approx(0.7, rel=3.4 * GRID)
    # The twin: a horizon in steps, or one a twentieth longer, is not within the tolerance.
    assert found["horizon_fs"].value != pytest.approx(60.0, rel=GRID)
    assert found["horizon_fs"].value != pytest.approx(63.0 * TIMESTEP_FS, rel=GRID)


def test_standard_error_grows_with_scatter() -> None:
    rng = np.random.default_rng(3)
    times = np.tile(TIMES, 3)
    exact = findings(rows(law(0.7, 60.0, times), times))["horizon_fs"].standard_error
    noisy = findings(rows(law(0.7, 60.0, times) * np.exp(0.2 * rng.normal(size=len(times))), times))["horizon_fs"]
    assert exact < 0.5 < noisy.standard_error
    # Within three standard errors of the truth.
    assert abs(noisy.value - 30.0) < 3.0 * noisy.standard_error


def test_few_visits_leave_it_open_and_none_say_nothing() -> None:
    found = findings(rows(law(0.7, 60.0)[:3], TIMES[:3]))
    assert found["horizon_visits"].value == 3
    assert np.isnan(found["horizon_fs"].value)
    assert findings([]) == {}
    assert findings(rows(law(0.7, 60.0), model="first")) == {}
    assert np.isnan(findings(rows(np.full(7, 1.1)))["horizon_fs"].value)


def test_makes_no_verdict() -> None:
    assert horizon_part(rows(law(0.7, 60.0)), "first", TIMESTEP_FS).checks == ()


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_the_engine_on_scattered_scores(seed: int) -> None:
    """Two implementations of one law: grid of gains there, weighted median here."""
    rng = np.random.default_rng(seed)
    times = rng.choice(TIMES, 20)
    ratios = law(0.8, 60.0, times) * np.exp(0.15 * rng.normal(size=20))
    scores = [
        Visit(steps_since=int(t), force_rmse=float(r), force_rmse_start=1.0) for t, r in zip(times, ratios, strict=True)
    ]
    theirs = horizon_steps(scores)
    ours = fit_horizon(Visits(time=times.astype(float), ratio=np.minimum(ratios, 2.0)))
    assert theirs is not None
    assert ours is not None
    # One step of the coarser grid each way, and a gain grid of 1/40, whose half step shifts the horizon by
    # 0.0125 / (0.8 · ln 2) ≈ 2 %: together below 10 %.
    assert ours.time == pytest.approx(theirs, rel=0.1)


def test_median_gain_minimises_the_misfit() -> None:
    visits = Visits(time=TIMES.astype(float), ratio=law(0.7, 60.0) + np.array([0.3, 0, 0, -0.4, 0, 0, 0.1]))
    fitted = fit_horizon(visits)
    assert fitted is not None

    def misfit(gain: float) -> float:
        return float(np.abs(1 - gain * 2.0 ** (-visits.time / fitted.time) - visits.ratio).sum())

    assert misfit(fitted.gain) <= min(misfit(g) for g in np.linspace(0, 1, 1001)) + 1e-12


def test_figure_shows_the_horizon_and_every_n(told, write_story, tmp_path) -> None:
    run = write_story(told, tmp_path / "run")
    audit(run)
    story = read_story(run)
    changes = [
        Event(step=20, time=0.01, kind="interval", message="", data={"interval": 40, "horizon": None}),
        Event(step=60, time=0.03, kind="interval", message="", data={"interval": 30, "horizon": 60.0}),
    ]
    known = dataclasses.replace(story, labels=rows(law(0.7, 60.0)), events=[*story.events, *changes])
    steps, used, wanted = intervals(known)
    first = story.config.region.check_every_steps
    assert (steps, used, wanted) == ([0, 20, 60, 80], [first, 40, 30, 30], [None, None, 30.0, None])
    with style():
        figure = horizon(known)
        assert figure is not None
        top, bottom = figure.axes
        labels = top.get_legend_handles_labels()[1]
        assert f"horizon {60.0 * 0.5:.0f} fs" in labels
        assert "time since the last label (fs)" in top.get_xlabel()
        assert "N" in bottom.get_legend_handles_labels()[1]
        few = horizon(dataclasses.replace(known, labels=known.labels[:2]))
        assert "no horizon can be told" in few.axes[0].get_title(loc="left")
        assert horizon(dataclasses.replace(known, labels=[])) is None
