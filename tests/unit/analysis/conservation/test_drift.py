"""Slopes, their units, and verdicts that never go beyond the error bar."""

import numpy as np
import pytest

from qmml_md.analysis.conservation.drift import (
    DriftUnits,
    Slope,
    bound_finding,
    drift_check,
    drift_findings,
    drift_ratio,
    slope,
    statistical_inefficiency,
)
from qmml_md.analysis.findings import Status
from qmml_md.errors import AuditError

UNITS = DriftUnits(atoms=10, degrees_of_freedom=30, temperature=300.0)


def line(value, half):
    return Slope(value=value, standard_error=half / 2, half_width=half, effective_samples=50.0, residual_sd=0.1)


def test_exact_line_is_recovered():
    time = np.linspace(0.0, 5.0, 40)
    found = slope(time, 3.0 - 0.7 * time)
    assert found.value == pytest.approx(-0.7, rel=1e-12)
    assert found.half_width < 1e-12


def test_units_agree_with_the_published_conversion():
    # 1 kT/ns/dof at 300 K is 7.48 kJ/mol/ns/atom and 0.0776 meV/ps/atom with three degrees of freedom for each atom:
    # 3 × 8.314462618e-3 × 300 = 7.4830, and 7.4830e-3/96.4853 eV/ps/atom = 0.07756 meV/ps/atom (four digits).
    one = 1.0 / UNITS.factors()["kT/ns/dof"]
    found = {finding.unit: finding.value for finding in drift_findings("x", line(one, 0.0), UNITS)}
    assert found["kT/ns/dof"] == pytest.approx(1.0)
    assert found["kJ/mol/ns/atom"] == pytest.approx(7.4830, abs=1e-4)
    assert found["meV/atom/ps"] == pytest.approx(0.07756, abs=1e-5)


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [
        (0.0, 0.5, Status.PASS),
        (-0.4, 0.5, Status.PASS),
        (0.8, 0.5, Status.UNDECIDED),
        (0.0, 1.5, Status.UNDECIDED),
        (-1.2, 0.5, Status.UNDECIDED),
        (-3.0, 0.5, Status.FAIL),
        (9.0, 1.5, Status.FAIL),
    ],
)
def test_verdict_is_never_finer_than_the_bar(value, half, expected):
    factor = UNITS.factors()["kT/ns/dof"]
    assert drift_check(line(value / factor, half / factor), UNITS, 1.0).status == expected


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_few_frames_are_undecided(frames):
    time = np.arange(frames, dtype=float)
    check = drift_check(slope(time, 0.0 * time), UNITS, 1.0)
    assert check.status == Status.UNDECIDED
    assert "too few" in check.why


def test_large_noise_is_undecided_and_the_same_slope_without_it_fails():
    rng = np.random.default_rng(4)
    time = np.linspace(0.0, 10.0, 200)
    steep = 20.0 / UNITS.factors()["kT/ns/dof"] * time
    assert drift_check(slope(time, steep), UNITS, 1.0).status == Status.FAIL
    # Noise of 300 kJ/mol over 10 ps and 200 frames: a bar of 300/(√200·2.9) = 7 kJ/mol/ps against a slope of 1.5.
    assert drift_check(slope(time, steep + rng.normal(size=200) * 300.0), UNITS, 1.0).status == Status.UNDECIDED


def test_white_noise_is_efficient_and_a_correlated_series_is_not():
    rng = np.random.default_rng(8)
    white = rng.normal(size=4000)
    # AR(1) with φ has g = (1 + φ)/(1 − φ) = 19 for φ = 0.9; 4000 frames, 210 of them independent, tell it to some 20 %.
    red = np.zeros(4000)
    for i in range(1, 4000):
        red[i] = 0.9 * red[i - 1] + white[i]
    assert statistical_inefficiency(white) == pytest.approx(1.0, abs=0.2)
    assert statistical_inefficiency(red) == pytest.approx(19.0, rel=0.4)
    assert statistical_inefficiency(np.ones(50)) == 1.0


def test_series_of_other_length_is_refused():
    with pytest.raises(AuditError, match="shape"):
        slope(np.arange(5.0), np.arange(6.0))


def test_series_that_is_not_finite_has_no_slope():
    found = slope(np.arange(20.0), np.full(20, np.nan))
    assert np.isnan(found.value)
    assert drift_check(found, UNITS, 1.0).status == Status.UNDECIDED


def test_ratio_is_the_drift_of_the_run_over_the_spread_of_the_kinetic_energy():
    time = np.linspace(0.0, 4.0, 50)
    kinetic = np.where(np.arange(50) % 2 == 0, 8.0, 12.0)
    found = drift_ratio(line(-0.25, 0.1), time, kinetic)
    # 0.25 kJ/mol/ps over 4 ps is 1 kJ/mol; the standard deviation of 8 and 12 in turn is 2.
    assert found.value == pytest.approx(0.5)
    assert found.standard_error == pytest.approx(0.1)
    assert np.isnan(drift_ratio(line(0.1, 0.1), time, np.ones(50)).value)


def test_bound_is_the_far_end_of_the_interval():
    factor = UNITS.factors()["kT/ns/dof"]
    assert bound_finding("x", line(-2.0 / factor, 0.5 / factor), UNITS).value == pytest.approx(2.5)
