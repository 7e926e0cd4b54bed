"""The audit of the calibration: from what was stored before each label, and from nothing else."""

import numpy as np
import pytest

from qmml_md.analysis.calibration import calibration_part, foretold, target_of
from qmml_md.analysis.report import plots_calibration
from qmml_md.config import Region
from qmml_md.learning.calibration import Sample, calibrations, prequential
from qmml_md.records.rows import LabelRow


def row(step: int, **data: object) -> LabelRow:
    return LabelRow(key=f"k{step}", step=step, model="m", region_epoch=1, data=data)


def samples(count: int) -> list[Sample]:
    rng = np.random.default_rng(2)
    out = []
    for _ in range(count):
        sigma = rng.uniform(0.1, 0.5, 9)
        error = 0.5 * sigma * np.exp(rng.normal(0.0, 0.5, 9))
        novelty = rng.uniform(0.5, 2.0, 9)
        out.append(Sample(sigma=sigma, error=error, elements=np.array([6, 6, 8] + 6 * [1]), novelty=novelty))
    return out


def rows(told: list[Sample], shrink: float = 1.0) -> list[LabelRow]:
    """Labels as the engine stores them, with the calibration known before each."""
    return [
        row(
            10 * k,
            sigma=s.sigma.tolist(),
            error=s.error.tolist(),
            expected=c.expected(s.sigma, s.elements).tolist(),
            bound=(shrink * c.bound(s.sigma, s.elements, s.novelty)).tolist(),
            novelty=s.novelty.tolist(),
        )
        for k, (s, c) in enumerate(zip(told, calibrations(told)[:-1], strict=True))
    ]


def values(labels: list[LabelRow], **region: object) -> dict[str, float]:
    return {finding.name: finding.value for finding in calibration_part(labels, Region(**region)).findings}


def test_auditor_and_learning_agree_to_the_last_bit() -> None:
    told = samples(12)
    known = prequential(told, 0.25)
    found = values(rows(told), target_force_error_eV_per_A=0.25)
    assert found["calibration_labels"] == 12
    assert found["calibration_target"] == known.target == 0.25
    for name in ("coverage", "miss_rate", "false_alarm_rate", "found", "spearman"):
        assert found[f"calibration_{name}"] == getattr(known, name)
    # The twin: bounds that were stored too small are seen.
    spoilt = values(rows(told, shrink=0.5), target_force_error_eV_per_A=0.25)
    assert spoilt["calibration_coverage"] < 0.85 <= found["calibration_coverage"]
    assert spoilt["calibration_miss_rate"] > found["calibration_miss_rate"]


def test_coverage_has_an_error_bar_over_labels() -> None:
    told = rows(samples(12))
    each = [one.coverage for one in foretold(told)]
    found = next(f for f in calibration_part(told, Region()).findings if f.name == "calibration_coverage")
    assert found.expected == 0.9
    assert found.standard_error == pytest.approx(np.std(each, ddof=1) / np.sqrt(12))


def test_labels_that_were_foretold_nothing_are_left_out() -> None:
    old = row(0, sigma=[0.1], error=[0.1])
    one_member = row(1, sigma=[0.0], error=[0.1], expected=None, bound=None, novelty=[1.0])
    assert values([old, one_member]) == {}
    assert calibration_part([], Region()).checks == ()
    told = rows(samples(3))
    assert values([old, *told, one_member]) == values(told)


def test_link_atoms_are_left_out() -> None:
    label = row(0, sigma=[0.1, None], error=[0.3, 9.0], expected=[0.1, 0.1], bound=[0.2, 0.2], novelty=[1.0, 1.0])
    (one,) = foretold([label])
    assert one.error.tolist() == [0.3]
    assert one.coverage == 0.0


def test_target_is_that_of_the_run_or_half_the_threshold() -> None:
    assert target_of(Region(target_force_error_eV_per_A=0.12)) == 0.12
    assert target_of(Region(enter_eV_per_A=0.5)) == 0.25


class Run:
    """What the figure asks of a story."""

    def __init__(self, labels: list[LabelRow]) -> None:
        self.labels = labels
        self.config = type("Config", (), {"region": Region()})

    def time_of(self, step: int) -> float:
        return 0.001 * step


def test_figure_shows_every_atom_and_every_label() -> None:
    told = samples(6)
    figure = plots_calibration.calibration(Run(rows(told)))
    top, bottom = figure.axes
    assert sum(len(points.get_offsets()) for points in top.collections) == 2 * 9 * 6
    assert "within the bound" in top.get_title()
    each = next(line for line in bottom.lines if line.get_label() == "each label")
    assert each.get_ydata().tolist() == [one.coverage for one in foretold(rows(told))]


def test_figure_says_so_when_nothing_was_foretold() -> None:
    figure = plots_calibration.calibration(Run([row(0, sigma=[0.1], error=[0.1])]))
    assert figure.axes[0].get_title() == "No label was foretold"
    assert plots_calibration.calibration(Run([])) is None
